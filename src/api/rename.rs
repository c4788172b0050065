//! The client's model name, put back into a response.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// Replaces the model's name in a response that passes by in pieces.
///
/// Where `"model":"<target>"` stands the client's name replaces the target's. The form with one
/// space after the colon is replaced only in a piece without the compact one, as in the reference
/// (llm-d-router main at ebab6879). Unlike there, a name that is cut by the end of a piece is
/// found: bytes that may begin one wait for the next piece.
#[derive(Debug)]
pub struct ModelRenamer {
    /// Compact, then with a space.
    forms: [Form; 2],
    /// The end of the last piece, which may begin a name.
    held: Bytes,
}

#[derive(Debug)]
struct Form {
    from: Finder<'static>,
    to: Vec<u8>,
}

impl ModelRenamer {
    /// `from_target` is the name the worker was asked for, `to_incoming` the client's.
    pub fn new(from_target: &str, to_incoming: &str) -> Self {
        let form = |key: &str| {
            // Serialising a string cannot fail.
            let field = |name: &str| format!("{key}{}", serde_json::Value::from(name)).into_bytes();
            Form { from: Finder::new(&field(from_target)).into_owned(), to: field(to_incoming) }
        };
        Self { forms: [form("\"model\":"), form("\"model\": ")], held: Bytes::new() }
    }

    /// Takes the next piece, and returns what may leave: the same bytes where nothing matches.
    /// `end` says that no piece follows.
    pub fn rename(&mut self, chunk: Bytes, end: bool) -> Bytes {
        let held = std::mem::take(&mut self.held);
        let mut piece = if held.is_empty() {
            chunk
        } else {
            let mut joined = BytesMut::with_capacity(held.len() + chunk.len());
            joined.extend_from_slice(&held);
            joined.extend_from_slice(&chunk);
            joined.freeze()
        };
        let found = self.forms.iter().find_map(|form| form.replace(&piece));
        let (mut renamed, done) = found.unwrap_or_default();
        let mut rest = piece.split_off(done);
        if !end {
            let begun = self.forms.iter().map(|form| form.begun_at_end_of(&rest)).max();
            // A copy, so that a few bytes do not keep the whole message.
            self.held = Bytes::copy_from_slice(&rest.split_off(rest.len() - begun.unwrap_or(0)));
        }
        if renamed.is_empty() {
            return rest;
        }
        renamed.extend_from_slice(&rest);
        renamed.into()
    }
}

impl Form {
    /// `piece` up to the end of its last match, replaced, and the length of that before it was;
    /// `None` without a match.
    fn replace(&self, piece: &[u8]) -> Option<(Vec<u8>, usize)> {
        let mut matches = self.from.find_iter(piece).peekable();
        matches.peek()?;
        let mut out = Vec::with_capacity(piece.len() + self.to.len());
        let mut done = 0;
        for at in matches {
            out.extend_from_slice(&piece[done..at]);
            out.extend_from_slice(&self.to);
            done = at + self.from.needle().len();
        }
        Some((out, done))
    }

    /// The length of the longest end of `piece` that is a beginning of the name but not all of it.
    fn begun_at_end_of(&self, piece: &[u8]) -> usize {
        let needle = self.from.needle();
        let window = &piece[piece.len() - piece.len().min(needle.len() - 1)..];
        memchr::memchr_iter(needle[0], window)
            .find(|at| needle.starts_with(&window[*at..]))
            .map_or(0, |at| window.len() - at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The stream renamed from `base` to `tuned "1"`, given in pieces cut at `cuts`.
    fn renamed(stream: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut renamer = ModelRenamer::new("base", "tuned \"1\"");
        let mut out = Vec::new();
        let mut from = 0;
        for &cut in cuts {
            let piece = Bytes::copy_from_slice(&stream[from..cut]);
            out.extend_from_slice(&renamer.rename(piece, false));
            from = cut;
        }
        let last = Bytes::copy_from_slice(&stream[from..]);
        out.extend_from_slice(&renamer.rename(last, true));
        out
    }

    #[test]
    fn what_is_replaced() {
        for (stream, expected) in [
            (r#"{"model":"base"}"#, r#"{"model":"tuned \"1\""}"#),
            (r#"{"model": "base"}"#, r#"{"model": "tuned \"1\""}"#),
            (
                r#"{"model":"base"}{"model":"base"}x"#,
                r#"{"model":"tuned \"1\""}{"model":"tuned \"1\""}x"#,
            ),
            // The spaced form is left alone beside the compact one.
            (r#"{"model": "base","model":"base"}"#, r#"{"model": "base","model":"tuned \"1\""}"#),
            (r#"{"model":"base2"}"#, r#"{"model":"base2"}"#),
            (r#"{"model":  "base"}"#, r#"{"model":  "base"}"#),
            (r#"{"text":"base"}"#, r#"{"text":"base"}"#),
            ("", ""),
        ] {
            let out = renamed(stream.as_bytes(), &[]);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{stream}");
        }
    }

    #[test]
    fn names_are_matched_as_json_writes_them() {
        let mut renamer = ModelRenamer::new("a\"b\\c", "d\n");
        let piece = Bytes::from_static(br#"{"model":"a\"b\\c"}"#);
        assert_eq!(renamer.rename(piece, true), r#"{"model":"d\n"}"#);
    }

    #[test]
    fn a_piece_without_a_name_is_passed_on_uncopied() {
        let mut renamer = ModelRenamer::new("base", "tuned");
        for text in ["data: {\"choices\":[]}\n\n", "data: {\"model\":\"other\"}\n\n"] {
            let piece = Bytes::from_static(text.as_bytes());
            let out = renamer.rename(piece.clone(), false);
            assert_eq!((out.as_ptr(), out.len()), (piece.as_ptr(), piece.len()));
        }
    }

    #[test]
    fn only_what_may_begin_a_name_waits() {
        let mut renamer = ModelRenamer::new("base", "tuned");
        let mut step = |piece: &'static str, end| {
            String::from_utf8(renamer.rename(Bytes::from_static(piece.as_bytes()), end).to_vec())
                .expect("UTF-8")
        };
        assert_eq!(step("ab\"mod", false), "ab");
        assert_eq!(step("", false), "");
        assert_eq!(step("el\": \"ba", false), "");
        assert_eq!(step("se\",\"", false), "\"model\": \"tuned\",");
        assert_eq!(step("x", false), "\"x");
        assert_eq!(step("\"model\":\"base", true), "\"model\":\"base");
    }

    proptest! {
        /// Wherever a stream is cut, the result is that of the whole; engines write one form.
        #[test]
        fn cuts_do_not_matter(
            spaced in any::<bool>(),
            parts in prop::collection::vec(
                prop_oneof![
                    Just("\"model\":\"base\""),
                    Just("\"model\":\"bas"),
                    Just("\"model\":\"based\""),
                    Just("\"mod"),
                    Just("\"\"\""),
                    Just("x"),
                    Just("\n\n"),
                ],
                0..12,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut stream = parts.concat();
            if spaced {
                stream = stream.replace("\"model\":", "\"model\": ");
            }
            let stream = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(renamed(stream, &cuts), renamed(stream, &[]));
        }
    }
}
