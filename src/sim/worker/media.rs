//! Pictures, videos and sounds in a prompt: as many tokens as a model of Qwen2.5-VL's kind spends
//! on them.
//!
//! An estimate, by that model's published preprocessing: a picture is a token for each 28 x 28
//! pixels, 4 at least and 16,384 at most; a video has two frames a second, two of which share
//! their tokens. A sound is 25 tokens a second, as in Qwen2-Audio. Nothing is fetched: what
//! stands behind a URL counts as a picture of 640 x 360 or as a video of ten seconds of that
//! size, and a sound as 16-bit samples at 16 kHz, whatever its format.

use std::borrow::Cow;

use serde::Deserialize;
use xxhash_rust::xxh64::xxh64;

use crate::api::{Resolution, image_size};
use crate::sim::BYTES_PER_TOKEN;

/// Pixels of a side that become one token.
const PATCH: u32 = 28;
const MIN_IMAGE_TOKENS: u64 = 4;
const MAX_IMAGE_TOKENS: u64 = 16_384;
const UNKNOWN_SIZE: Resolution = Resolution { width: 640, height: 360 };
/// Ten seconds, two frames a second, two frames a group.
const VIDEO_FRAME_GROUPS: usize = 10;
/// Of base64, which has four letters for three bytes: 32,000 bytes a second, 25 tokens a second.
const AUDIO_LETTERS_PER_TOKEN: usize = 32_000 * 4 / 3 / 25;

/// A part of a message in the forms of the OpenAI and the Anthropic API.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    /// An object with a `url` in chats, a text in Responses.
    #[serde(borrow, default)]
    image_url: Option<Place<'a>>,
    #[serde(borrow, default)]
    video_url: Option<Place<'a>>,
    #[serde(borrow, default)]
    input_audio: Option<Source<'a>>,
    #[serde(borrow, default)]
    source: Option<Source<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Place<'a> {
    Url(#[serde(borrow)] Cow<'a, str>),
    Object {
        #[serde(borrow)]
        url: Cow<'a, str>,
    },
}

impl Place<'_> {
    fn url(&self) -> &str {
        match self {
            Place::Url(url) | Place::Object { url } => url,
        }
    }
}

/// Content that stands in the request as base64, or its URL.
#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow, default)]
    data: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    url: Option<Cow<'a, str>>,
}

/// What a part of a message, given as JSON, is in the prompt.
pub(super) fn part_text(json: &str) -> String {
    let Ok(part) = serde_json::from_str::<Part>(json) else { return json.to_owned() };
    let media = match (&*part.kind, &part.image_url, &part.video_url, &part.source) {
        ("image_url" | "input_image", Some(image), ..) => Some(image_url(image.url())),
        ("video_url", _, Some(video), _) => {
            Some((video.url(), image_tokens(None) * VIDEO_FRAME_GROUPS))
        }
        ("image", _, _, Some(Source { data: Some(data), .. })) => {
            Some((&**data, image_tokens(image_size(data))))
        }
        ("image", _, _, Some(Source { url: Some(url), .. })) => Some(image_url(url)),
        ("input_audio", ..) => part.input_audio.as_ref().and_then(|audio| {
            let data = audio.data.as_deref()?;
            Some((data, data.len().div_ceil(AUDIO_LETTERS_PER_TOKEN).max(1)))
        }),
        _ => None,
    };
    match (media, part.text) {
        (Some((content, tokens)), _) => placeholder(content, tokens),
        (None, Some(text)) => text.into_owned(),
        (None, None) => json.to_owned(),
    }
}

fn image_url(url: &str) -> (&str, usize) {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once("base64,"));
    (url, image_tokens(inline.and_then(|(_, data)| image_size(data))))
}

fn image_tokens(size: Option<Resolution>) -> usize {
    let Resolution { width, height } = size.unwrap_or(UNKNOWN_SIZE);
    let patches = |side: u32| (f64::from(side) / f64::from(PATCH)).round().max(1.0) as u64;
    let tokens = patches(width).saturating_mul(patches(height));
    tokens.clamp(MIN_IMAGE_TOKENS, MAX_IMAGE_TOKENS) as usize
}

/// A text of so many tokens that is the same for the same content and for no other.
fn placeholder(content: &str, tokens: usize) -> String {
    let name = format!("{:016x}", xxh64(content.as_bytes(), 0));
    name.chars().cycle().take(tokens * BYTES_PER_TOKEN).collect()
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    use super::*;

    fn png(width: u32, height: u32) -> String {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend(width.to_be_bytes());
        png.extend(height.to_be_bytes());
        // As much again as a picture of some size has; none of it counts.
        png.resize(20_000, 7);
        BASE64_STANDARD.encode(png)
    }

    #[test]
    fn parts_cost_what_they_are() {
        let image = |w, h| format!("data:image/png;base64,{}", png(w, h));
        let chat = |url: &str| format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
        let anthropic = format!(
            r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{}"}}}}"#,
            png(280, 280)
        );
        let audio = format!(
            r#"{{"type":"input_audio","input_audio":{{"format":"wav","data":"{}"}}}}"#,
            BASE64_STANDARD.encode(vec![0_u8; 64_000])
        );
        for (what, part, tokens) in [
            ("1024 x 1024", chat(&image(1024, 1024)), 37 * 37),
            ("280 x 560", chat(&image(280, 560)), 200),
            ("a tiny one", chat(&image(8, 8)), 4),
            ("a huge one", chat(&image(100_000, 100_000)), 16_384),
            ("behind a URL", chat("https://example.com/cat.png"), 23 * 13),
            (
                "of Responses",
                r#"{"type":"input_image","image_url":"https://example.com/c"}"#.to_owned(),
                23 * 13,
            ),
            ("of Anthropic's API", anthropic, 100),
            ("a video", r#"{"type":"video_url","video_url":{"url":"u"}}"#.to_owned(), 23 * 13 * 10),
            ("two seconds of sound", audio, 51),
            ("text", r#"{"type":"text","text":"four"}"#.to_owned(), 1),
            ("something else", r#"{"type":"x"}"#.to_owned(), 3),
        ] {
            assert_eq!(part_text(&part).len() / 4, tokens, "{what}");
        }
    }

    #[test]
    fn equal_pictures_are_equal_and_others_are_not() {
        let part = |n: u32| {
            part_text(&format!(
                r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}"#,
                png(500, n)
            ))
        };
        assert_eq!(part(500), part(500));
        assert_ne!(part(500)[..64], part(501)[..64]);
    }
}
