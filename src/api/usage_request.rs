//! Asking a stream for its token counts where the client did not, and keeping from the client what
//! it did not ask for.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};

use super::json::{self, Fields, Object, Raw};
use super::request::Api;

/// A line of a stream that is longer than this, bytes, passes without being looked at.
const MAX_LINE: usize = 1 << 20;

/// `body` with `stream_options.include_usage` set, every other byte as it came; `None` where the
/// client has set it, where the API has no such option, and where the result would be larger than
/// `limit` bytes. `body` is a request for a stream.
pub fn with_usage(api: Api, body: &Bytes, limit: usize) -> Option<Bytes> {
    if !matches!(api, Api::Chat | Api::Completions) {
        return None;
    }
    let text = json::check(body).ok()?;
    let mut request = Request::default();
    json::read_into(text, &mut request).ok()?;
    let options = request.stream_options;
    let (place, value) = match options.filter(|options| !options.is_null()) {
        None => match options {
            Some(null) => (place_of(null.0, text), r#"{"include_usage":true}"#),
            None => {
                let at = text.find('{')? + 1;
                (at..at, r#""stream_options":{"include_usage":true},"#)
            }
        },
        Some(object) if object.0.starts_with('{') => {
            let options: Object<Options<'_>> = json::read(object.0).ok()?;
            match options.0.include_usage {
                Some(Raw("true")) => return None,
                Some(other) => (place_of(other.0, text), "true"),
                None => {
                    let at = place_of(object.0, text).start + 1;
                    let alone = object.0[1..].trim_start().starts_with('}');
                    let field =
                        if alone { r#""include_usage":true"# } else { r#""include_usage":true,"# };
                    (at..at, field)
                }
            }
        }
        // The engine's to refuse.
        Some(_) => return None,
    };
    let (head, tail) = (text.get(..place.start)?, text.get(place.end..)?);
    let fits = head.len() + value.len() + tail.len() <= limit;
    fits.then(|| [head, value, tail].concat().into())
}

/// Where `part`, a slice of `text`, stands in it.
fn place_of(part: &str, text: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

#[derive(Default)]
struct Request<'a> {
    stream_options: Option<Raw<'a>>,
}

impl<'a> Fields<'a> for Request<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        if key == "stream_options" {
            self.stream_options = Some(map.next_value()?);
        }
        Ok(key == "stream_options")
    }
}

#[derive(Default)]
struct Options<'a> {
    include_usage: Option<Raw<'a>>,
}

impl<'a> Fields<'a> for Options<'a> {
    fn field<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<bool, M::Error> {
        if key == "include_usage" {
            self.include_usage = Some(map.next_value()?);
        }
        Ok(key == "include_usage")
    }
}

/// Takes the event that has the counts, and no text, out of a stream that passes by in pieces.
#[derive(Debug, Default)]
pub struct UsageRemover {
    /// A line whose end has not come.
    begun: BytesMut,
    /// That line is too long to be looked at, and passes as it comes.
    passing: bool,
    /// The line before was taken out: the empty one that ends its event goes too.
    removed: bool,
}

impl UsageRemover {
    /// Takes the next piece, and returns what may leave: the same bytes where nothing is taken
    /// out. `end` says that no piece follows.
    pub fn remove(&mut self, piece: Bytes, end: bool) -> Bytes {
        let between_lines = self.begun.is_empty() && !self.passing && !self.removed;
        if between_lines && piece.ends_with(b"\n") && memmem::find(&piece, USAGE).is_none() {
            return piece;
        }
        let mut out = BytesMut::with_capacity(self.begun.len() + piece.len());
        let mut rest = &piece[..];
        while let Some(at) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(at + 1);
            self.line(line, &mut out);
            rest = after;
        }
        if self.passing || self.begun.len() + rest.len() > MAX_LINE {
            self.passing = true;
            out.extend_from_slice(&self.begun.split());
            out.extend_from_slice(rest);
        } else {
            self.begun.extend_from_slice(rest);
        }
        if end && !self.begun.is_empty() {
            let last = self.begun.split();
            if !has_only_counts(&last) {
                out.extend_from_slice(&last);
            }
        }
        out.freeze()
    }

    /// Takes the rest of a line, with its end.
    fn line(&mut self, line: &[u8], out: &mut BytesMut) {
        if std::mem::take(&mut self.passing) {
            out.extend_from_slice(line);
            return;
        }
        let begun = self.begun.split();
        let whole = [&begun[..], line].concat();
        let ends_removed = std::mem::take(&mut self.removed) && whole.trim_ascii().is_empty();
        self.removed = !ends_removed && has_only_counts(&whole);
        if !self.removed && !ends_removed {
            out.extend_from_slice(&whole);
        }
    }
}

const USAGE: &[u8] = b"\"usage\"";

/// True for a line of an event without answers, but with counts.
fn has_only_counts(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Event {
        choices: Vec<IgnoredAny>,
        #[serde(rename = "usage")]
        _usage: IgnoredObject,
    }
    if memmem::find(line, USAGE).is_none() {
        return false;
    }
    let Some(data) = line.strip_prefix(b"data:") else { return false };
    serde_json::from_slice(data).is_ok_and(|event: Event| event.choices.is_empty())
}

/// A JSON object, whatever is in it.
struct IgnoredObject;

impl<'de> Deserialize<'de> for IgnoredObject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = std::collections::HashMap::<String, IgnoredAny>::deserialize(deserializer);
        entries.map(|_| Self)
    }
}
