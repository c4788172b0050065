//! gRPC messages in a body: five bytes of frame, a flag and a length, before each.

use bytes::Bytes;

/// Bytes before a message: whether it is compressed, and its length, big-endian.
const HEAD: usize = 5;
/// A message of a response is kept up to this size, bytes; larger ones are passed over.
const MAX_MESSAGE: usize = 16 << 20;

/// The first message in `body`, as a slice of it.
///
/// # Errors
///
/// What is wrong with the frame: too short, compressed, or of another length than it says.
pub(super) fn message(body: &Bytes) -> Result<Bytes, &'static str> {
    let Some((&[flag, ref length @ ..], rest)) = body.split_first_chunk::<HEAD>() else {
        return Err("the frame has no header");
    };
    if flag == 1 {
        return Err("compressed messages are not supported");
    }
    let length = u32::from_be_bytes(*length) as usize;
    if length > rest.len() {
        return Err("the message is shorter than its frame says");
    }
    Ok(body.slice(HEAD..HEAD + length))
}

/// Cuts a stream into its messages, wherever its pieces end. Only a message that is cut is kept,
/// and only until it is whole.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The frame that has begun in an earlier piece.
    begun: Vec<u8>,
    /// What is still to come of a message that is passed over.
    skip: usize,
}

impl Frames {
    /// Takes a piece of the stream and hands every message that ends in it to `f`.
    pub(super) fn chunk(&mut self, chunk: &[u8], mut f: impl FnMut(&[u8])) {
        let mut rest = chunk;
        loop {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = &rest[skipped..];
            if rest.is_empty() {
                return;
            }
            // The rest of the header, then of the message.
            let have = self.begun.len();
            let need = if have < HEAD { HEAD - have } else { self.size() - have };
            if have == 0 && rest.len() >= HEAD {
                // Most messages come whole: no copy is needed then.
                let size = size_of_frame(rest);
                if let (true, Some(message)) = (is_read(rest), rest.get(HEAD..size)) {
                    f(message);
                    rest = &rest[size..];
                    continue;
                }
            }
            let (part, after) = rest.split_at(need.min(rest.len()));
            self.begun.extend_from_slice(part);
            rest = after;
            if self.begun.len() < HEAD {
                return;
            }
            if !is_read(&self.begun) {
                self.skip = self.size() - self.begun.len();
                self.begun.clear();
            } else if self.begun.len() == self.size() {
                f(&self.begun[HEAD..]);
                // The memory stays for the next message that is cut.
                self.begun.clear();
            }
        }
    }

    fn size(&self) -> usize {
        size_of_frame(&self.begun)
    }
}

/// Length of the frame that begins with `head`, its header included.
fn size_of_frame(head: &[u8]) -> usize {
    match head {
        [_, a, b, c, d, ..] => HEAD + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => HEAD,
    }
}

/// True where the message after `head` is neither compressed nor too large to be kept.
fn is_read(head: &[u8]) -> bool {
    head.first() == Some(&0) && size_of_frame(head) <= HEAD + MAX_MESSAGE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
        let mut frame = vec![flag];
        frame.extend((message.len() as u32).to_be_bytes());
        frame.extend(message);
        frame
    }

    type Read = Result<&'static [u8], &'static str>;

    #[test]
    fn the_message_of_a_request() {
        let cases: [(&'static [u8], Read); 8] = [
            (b"\0\0\0\0\x02hi", Ok(b"hi")),
            (b"\0\0\0\0\0", Ok(b"")),
            // What follows is another message, which is not read.
            (b"\0\0\0\0\x01h\0\0\0\0\0", Ok(b"h")),
            (b"", Err("the frame has no header")),
            (b"\0\0\0\0", Err("the frame has no header")),
            (b"\x01\0\0\0\x02hi", Err("compressed messages are not supported")),
            (b"\0\0\0\0\x03hi", Err("the message is shorter than its frame says")),
            (b"\0\xff\xff\xff\xffhi", Err("the message is shorter than its frame says")),
        ];
        for (body, expected) in cases {
            let read = message(&Bytes::from_static(body));
            assert_eq!(read.as_deref(), expected.as_ref().copied(), "{body:?}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_or_compressed_is_passed_over() {
        let mut frames = Frames::default();
        let mut read = Vec::new();
        let length = MAX_MESSAGE as u32 + 1;
        frames.chunk(&[0], |m| read.push(m.to_vec()));
        frames.chunk(&length.to_be_bytes(), |m| read.push(m.to_vec()));
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..MAX_MESSAGE >> 20 {
            frames.chunk(&piece, |m| read.push(m.to_vec()));
            assert_eq!(frames.begun.len(), 0);
        }
        let rest = [b"x".as_slice(), &frame(1, b"packed"), &frame(0, b"plain")].concat();
        frames.chunk(&rest, |m| read.push(m.to_vec()));
        assert_eq!(read, [b"plain"]);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let stream: Vec<u8> =
                messages.iter().flat_map(|(packed, m)| frame(u8::from(*packed), m)).collect();
            let expected: Vec<Vec<u8>> =
                messages.into_iter().filter(|(packed, _)| !packed).map(|(_, m)| m).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut frames = Frames::default();
            let mut read = Vec::new();
            for pair in cuts.windows(2) {
                frames.chunk(&stream[pair[0]..pair[1]], |m| read.push(m.to_vec()));
            }
            prop_assert_eq!(read, expected);
        }
    }
}
