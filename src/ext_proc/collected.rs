use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::headers;
use super::wire::HeaderMap;
use crate::clock::Timestamp;
use crate::scheduling::Headers;

/// Path of requests whose gateway names none, as in the reference.
const DEFAULT_PATH: &str = "/v1/completions";

/// A request before it is routed.
#[derive(Default)]
pub(super) struct Collected {
    pub headers: Headers,
    /// The request had no id and was given one.
    pub generated_id: bool,
    pub received_at: Timestamp,
    chunks: SmallVec<[Bytes; 4]>,
    len: usize,
}

impl Collected {
    pub fn new(received_at: Timestamp) -> Self {
        Self { received_at, ..Self::default() }
    }

    /// Takes the headers of a message, and makes an id where they have none.
    pub fn add_headers(&mut self, map: Option<HeaderMap>) {
        headers::add(&mut self.headers, map);
        if self.headers.get_raw(headers::REQUEST_ID).is_none_or(|id| id.is_empty()) {
            let id = uuid::Uuid::new_v4().hyphenated().to_string();
            self.headers.set(Bytes::from_static(headers::REQUEST_ID.as_bytes()), id.into());
            self.generated_id = true;
        }
    }

    /// Takes a piece of the body, and answers how many bytes there are now.
    pub fn add_body(&mut self, piece: Bytes) -> usize {
        self.len += piece.len();
        if !piece.is_empty() {
            self.chunks.push(piece);
        }
        self.len
    }

    pub fn has_no_body(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The body as one piece; copied only where it came in several.
    pub fn body(&mut self) -> Bytes {
        match self.chunks.as_mut_slice() {
            [] => Bytes::new(),
            [one] => std::mem::take(one),
            several => {
                let mut whole = BytesMut::with_capacity(self.len);
                several.iter().for_each(|c| whole.extend_from_slice(c));
                self.chunks.clear();
                whole.freeze()
            }
        }
    }

    /// The request's path; what is not UTF-8 in it is replaced.
    pub fn path(&self) -> Cow<'_, str> {
        [":path", "x-original-path", "x-forwarded-path"]
            .iter()
            .find_map(|name| self.headers.get_raw(name).filter(|p| !p.is_empty()))
            .map_or(Cow::Borrowed(DEFAULT_PATH), |path| String::from_utf8_lossy(path))
    }
}
