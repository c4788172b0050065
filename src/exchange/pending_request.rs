use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::EndpointSubset;
use super::limits::MAX_HEADERS;
use crate::error::{Code, RequestError};
use crate::headers::{self, Headers, is_named};

/// Path of requests whose gateway names none, as in the reference.
const DEFAULT_PATH: &str = "/v1/completions";

/// Pieces of a body that are smaller are joined, once there are several: each would otherwise keep
/// the whole message alive that it came in.
const SMALL_PIECE: usize = 4096;
/// Pieces that are kept as they came, whatever their size.
const FREE_PIECES: usize = 8;

/// A request as far as it has come in.
#[derive(Debug, Default)]
pub struct PendingRequest {
    pub headers: Headers,
    /// The request had no id and was given one.
    pub generated_id: bool,
    /// What the gateway allows; the last message that says something counts.
    pub subset: Option<EndpointSubset>,
    chunks: SmallVec<[Bytes; 4]>,
    /// Follows the chunks.
    joined: Vec<u8>,
    len: usize,
    /// How many headers came, those that replaced others too.
    headers_seen: usize,
}

impl PendingRequest {
    /// Takes headers, and makes an id where they have none.
    ///
    /// # Errors
    /// 431 where there are too many.
    pub fn add_headers(
        &mut self,
        list: impl ExactSizeIterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), RequestError> {
        // Each list counts as one more, so that empty ones come to an end too.
        self.headers_seen = self.headers_seen.saturating_add(list.len() + 1);
        if self.headers_seen > MAX_HEADERS {
            self.keep_what_errors_need(list);
            let message = format!("a request may have {MAX_HEADERS} headers");
            return Err(RequestError::new(Code::HeadersTooLarge, message));
        }
        if self.headers.is_empty() {
            self.headers = Headers::with_capacity(list.len() + 1);
        }
        for (key, value) in list {
            self.headers.set(key, value);
        }
        if self.headers.get_raw(headers::REQUEST_ID).is_none_or(|id| id.is_empty()) {
            let id = uuid::Uuid::new_v4().hyphenated().to_string();
            self.headers.set(Bytes::from_static(headers::REQUEST_ID.as_bytes()), id.into());
            self.generated_id = true;
        }
        Ok(())
    }

    /// Of headers that are too many: those that say how the client is told of it.
    fn keep_what_errors_need(&mut self, list: impl Iterator<Item = (Bytes, Bytes)>) {
        let needed =
            list.filter(|(key, _)| is_named(key, ":path") || is_named(key, headers::CONTENT_TYPE));
        for (key, value) in needed.take(2) {
            self.headers.set(key, value);
        }
    }

    /// Takes a piece of the body, and answers how many bytes there are now.
    pub fn add_body(&mut self, piece: Bytes) -> usize {
        self.len += piece.len();
        if piece.is_empty() {
            return self.len;
        }
        if piece.len() < SMALL_PIECE && self.chunks.len() >= FREE_PIECES {
            self.joined.extend_from_slice(&piece);
        } else {
            self.close_joined();
            self.chunks.push(piece);
        }
        self.len
    }

    fn close_joined(&mut self) {
        if !self.joined.is_empty() {
            self.chunks.push(std::mem::take(&mut self.joined).into());
        }
    }

    pub fn has_no_body(&self) -> bool {
        self.len == 0
    }

    /// The body as one piece; copied only where it came in several.
    pub fn take_body(&mut self) -> Bytes {
        self.close_joined();
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
}

/// The path of a request with these headers; what is not UTF-8 in it is replaced.
pub(super) fn path_of(headers: &Headers) -> Cow<'_, str> {
    [":path", "x-original-path", "x-forwarded-path"]
        .iter()
        .find_map(|name| headers.get_raw(name).filter(|p| !p.is_empty()))
        .map_or(Cow::Borrowed(DEFAULT_PATH), |path| String::from_utf8_lossy(path))
}
