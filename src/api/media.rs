//! Media items of a request: what tells one from another, and how many tokens each stands for.
//!
//! An item's identity is the xxHash64 of its content as it stands in the request, and the low half
//! of that is the token that stands for it in the prompt (llm-d-router main at ebab6879,
//! `token-producer`, estimate back-end). Of a picture in the request only the bytes that say its
//! size are decoded.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use xxhash_rust::xxh64::{Xxh64, xxh64};

use super::estimate::{ImageRules, MAX_TOKENS, Resolution};

/// Segments looked at for the size of a JPEG.
const MAX_SEGMENTS: usize = 256;

/// An image, a video or a sound in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MediaItem {
    /// The same for the same content.
    pub hash: u64,
    /// The placeholder tokens that it takes in the prompt: an estimate, or what the client says
    /// where it sends token ids; 0 where it does not say.
    pub tokens: u32,
}

impl MediaItem {
    /// An image given by URL; of a `data:` URL the size is read.
    pub(super) fn image(url: &str, rules: &ImageRules) -> Self {
        let inline = url
            .strip_prefix("data:image/")
            .and_then(|rest| rest.split_once("base64,"))
            .and_then(|(_, data)| size(data));
        Self { hash: xxh64(url.as_bytes(), 0), tokens: rules.tokens(inline) }
    }

    /// An image given as base64.
    pub(super) fn image_data(data: &str, rules: &ImageRules) -> Self {
        Self { hash: xxh64(data.as_bytes(), 0), tokens: rules.tokens(size(data)) }
    }

    /// An image given as base64, named as the `data:` URL that it would make.
    pub(super) fn image_data_as_url(media_type: &str, data: &str, rules: &ImageRules) -> Self {
        let media_type = if media_type.is_empty() { "image/jpeg" } else { media_type };
        let mut hash = Xxh64::new(0);
        for part in ["data:", media_type, ";base64,", data] {
            hash.update(part.as_bytes());
        }
        let size = if media_type.starts_with("image/") { size(data) } else { None };
        Self { hash: hash.digest(), tokens: rules.tokens(size) }
    }

    /// A video given by URL, which stands for `tokens`.
    pub(super) fn video(url: &str, tokens: u32) -> Self {
        Self { hash: xxh64(url.as_bytes(), 0), tokens }
    }

    /// A sound given as base64 and the name of its format: one token per four letters.
    pub(super) fn audio(data: &str, format: &str) -> Self {
        let mut hash = Xxh64::new(0);
        hash.update(data.as_bytes());
        hash.update(format.as_bytes());
        let letters = (data.len() + format.len()) as u64;
        Self { hash: hash.digest(), tokens: letters.div_ceil(4).min(MAX_TOKENS) as u32 }
    }

    /// An item that the client names by a hash of its own.
    pub(super) fn named(hash: &[u8], tokens: u32) -> Self {
        Self { hash: xxh64(hash, 0), tokens }
    }

    /// The token that stands for the item in a prompt.
    pub fn token(&self) -> u32 {
        self.hash as u32
    }
}

/// The size of a base64 image, if it can be read and is not empty.
pub(crate) fn size(data: &str) -> Option<Resolution> {
    let (width, height) = Base64(data.as_bytes()).dimensions()?;
    (width > 0 && height > 0).then_some(Resolution { width, height })
}

/// Base64 text, read at any place without decoding what is before it.
struct Base64<'a>(&'a [u8]);

/// Takes the last group with or without its padding.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Base64<'_> {
    /// `N` decoded bytes from `at` on, if there are as many. Four letters are three bytes.
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let groups = at / 3..(at + N).div_ceil(3);
        let letters = self.0.get(groups.start * 4..self.0.len().min(groups.end * 4))?;
        let mut decoded = [0; 64];
        let length = DECODER.decode_slice(letters, &mut decoded).ok()?;
        let from = at % 3;
        decoded.get(..length)?.get(from..from + N)?.try_into().ok()
    }

    /// Width and height of a PNG, GIF, JPEG or WebP image.
    fn dimensions(&self) -> Option<(u32, u32)> {
        let be16 = |b: [u8; 2]| u32::from(u16::from_be_bytes(b));
        let le16 = |b: [u8; 2]| u32::from(u16::from_le_bytes(b));
        match self.bytes::<8>(0)? {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'] => {
                let [width, height] = [self.bytes::<4>(16)?, self.bytes::<4>(20)?];
                Some((u32::from_be_bytes(width), u32::from_be_bytes(height)))
            }
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => {
                Some((le16(self.bytes(6)?), le16(self.bytes(8)?)))
            }
            [0xff, 0xd8, ..] => {
                let frame = self.jpeg_frame()?;
                Some((be16(self.bytes(frame + 7)?), be16(self.bytes(frame + 5)?)))
            }
            [b'R', b'I', b'F', b'F', ..] if self.bytes::<4>(8)? == *b"WEBP" => self.webp(),
            _ => None,
        }
    }

    /// Where the frame header of a JPEG stands: segments are passed by their length.
    fn jpeg_frame(&self) -> Option<usize> {
        let mut at = 2;
        for _ in 0..MAX_SEGMENTS {
            let [mark, kind, high, low] = self.bytes::<4>(at)?;
            if mark != 0xff {
                return None;
            }
            match kind {
                // A filling byte before the mark; segments without a length.
                0xff => at += 1,
                0x01 | 0xd0..=0xd7 => at += 2,
                // Every frame header; the other three of this range are tables.
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&kind) => return Some(at),
                _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
            }
        }
        None
    }

    fn webp(&self) -> Option<(u32, u32)> {
        match &self.bytes::<4>(12)? {
            b"VP8 " => {
                let [a, b, c, d] = self.bytes::<4>(26)?;
                let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
                Some((side(a, b), side(c, d)))
            }
            b"VP8L" => {
                let bits = u32::from_le_bytes(self.bytes::<4>(21)?);
                Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
            }
            b"VP8X" => {
                let [a, b, c, d, e, f] = self.bytes::<6>(24)?;
                let side =
                    |bytes: [u8; 3]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) + 1;
                Some((side([a, b, c]), side([d, e, f])))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    const RULES: ImageRules = ImageRules {
        per_picture: crate::api::estimate::PerPicture::Dynamic { factor: 1024 },
        default_resolution: Resolution { width: 640, height: 360 },
    };

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend(width.to_be_bytes());
        png.extend(height.to_be_bytes());
        png
    }

    fn jpeg(before: usize, width: u16, height: u16) -> Vec<u8> {
        let mut jpeg = b"\xff\xd8\xff\xe1".to_vec();
        jpeg.extend((before as u16 + 2).to_be_bytes());
        jpeg.extend(vec![0xaa; before]);
        // A table, a filling byte, a mark without a length, then a progressive frame.
        jpeg.extend(b"\xff\xc4\0\x03\0\xff\xff\xdb\0\x02\xff\x01\xff\xc2\0\x11\x08");
        jpeg.extend(height.to_be_bytes());
        jpeg.extend(width.to_be_bytes());
        jpeg
    }

    fn webp(kind: &[u8; 4], rest: &[u8]) -> Vec<u8> {
        [b"RIFF\0\0\0\0WEBP".as_slice(), kind, b"\0\0\0\0", rest].concat()
    }

    #[test]
    fn sizes_are_read_off_the_header() {
        for (name, image, size) in [
            ("png", png(1024, 768), Some((1024, 768))),
            ("gif", b"GIF89a\x40\x01\xf0\0\0".to_vec(), Some((320, 240))),
            ("jpeg", jpeg(10, 800, 600), Some((800, 600))),
            ("jpeg after a long segment", jpeg(65_000, 1, 2), Some((1, 2))),
            ("webp, lossy", webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a\x40\x41\xf0\0"), Some((320, 240))),
            ("webp, lossless", webp(b"VP8L", &[0x2f, 0x3f, 0xc1, 0x3b, 0]), Some((320, 240))),
            (
                "webp, extended",
                webp(b"VP8X", &[0, 0, 0, 0, 0x3f, 1, 0, 0xef, 0, 0]),
                Some((320, 240)),
            ),
            ("cut short", png(5, 5)[..20].to_vec(), None),
            ("jpeg without a frame", b"\xff\xd8\xff\xe0\0\x04\0\0".to_vec(), None),
            ("jpeg that runs in place", [b"\xff\xd8".as_slice(), &[0xff; 2000]].concat(), None),
            ("something else", b"%PDF-1.4 and so on".to_vec(), None),
            ("nothing", Vec::new(), None),
        ] {
            for padding in [true, false] {
                let text = BASE64_STANDARD.encode(&image);
                let text = if padding { &text } else { text.trim_end_matches('=') };
                assert_eq!(Base64(text.as_bytes()).dimensions(), size, "{name}");
            }
        }
        assert_eq!(Base64(b"not base64 at all!").dimensions(), None);
    }

    #[test]
    fn how_many_tokens_a_picture_is() {
        let url = |image: &[u8]| format!("data:image/png;base64,{}", BASE64_STANDARD.encode(image));
        for (url, count) in [
            ("https://example.com/cat.png".to_owned(), 225),
            ("data:text/plain;base64,aGk=".to_owned(), 225),
            ("data:image/png,no-base64".to_owned(), 225),
            (url(&png(1024, 1024)), 1024),
            (url(&png(8, 8)), 1),
            (url(&png(0, 8)), 225),
            (url(&png(u32::MAX, u32::MAX)), 131_072),
        ] {
            let expected = MediaItem { hash: xxh64(url.as_bytes(), 0), tokens: count };
            assert_eq!(MediaItem::image(&url, &RULES), expected, "{url}");
        }
    }

    #[test]
    fn other_media() {
        let item = |content: &str, tokens| MediaItem { hash: xxh64(content.as_bytes(), 0), tokens };
        let data = BASE64_STANDARD.encode(png(64, 64));
        assert_eq!(MediaItem::video("v", 4500), item("v", 4500));
        assert_eq!(MediaItem::audio("UklGR", "wav"), item("UklGRwav", 2));
        assert_eq!(MediaItem::image_data(&data, &RULES), item(&data, 4));
        let as_url = item(&format!("data:image/jpeg;base64,{data}"), 4);
        assert_eq!(MediaItem::image_data_as_url("", &data, &RULES), as_url);
        let other = item(&format!("data:text/plain;base64,{data}"), 225);
        assert_eq!(MediaItem::image_data_as_url("text/plain", &data, &RULES), other);
        assert_eq!(MediaItem::named(b"h", 7), item("h", 7));
    }
}
