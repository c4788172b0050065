//! An HTTP/1.1 answer, read in place.
//!
//! Only what a scraper needs, over a buffer that the caller fills: the head is `httparse`'s work,
//! the body's framing is followed here, so that a body can be read in part and the rest be
//! dropped before it is copied out of the kernel. No general client can do that.

use std::ops::Range;

/// The largest head that is read, bytes.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// The largest body that is read, bytes.
pub const MAX_BODY: u64 = 16 << 20;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("not an HTTP answer: {0}")]
    NotHttp(&'static str),
    #[error("the head of the answer is longer than {MAX_HEAD} bytes")]
    HeadTooLarge,
    #[error("the answer is longer than {MAX_BODY} bytes")]
    BodyTooLarge,
    #[error("the answer is compressed, which was not asked for")]
    Compressed,
    #[error("the answer ends in the middle")]
    Truncated,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    /// False where the connection ends with this answer.
    pub keep_alive: bool,
    pub body: Body,
}

/// The body of an answer, as far as it is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Body {
    framing: Framing,
    /// Payload bytes seen.
    length: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Framing {
    /// So many bytes of payload are still to come, then it is over.
    Length(u64),
    /// The line with the next chunk's size comes next.
    ChunkSize,
    /// So many bytes of the chunk are still to come.
    ChunkPayload(u64),
    /// The line end behind a chunk's payload comes next.
    ChunkEnd,
    /// Lines behind the last chunk, up to an empty one.
    ChunkTrailer,
    UntilClose,
    #[default]
    Over,
}

/// Bytes of one answer: payload that is decoded, then bytes that are not looked at yet.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    payload: Range<usize>,
    raw: Range<usize>,
}

impl Buffer {
    /// Room for `n` more bytes.
    pub fn room(&mut self, n: usize) -> &mut [u8] {
        let end = self.raw.end + n;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        &mut self.bytes[self.raw.end..end]
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.raw.end
    }

    /// Takes `n` bytes, read into [`Buffer::room`], in.
    pub fn filled(&mut self, n: usize) {
        self.raw.end += n;
    }

    /// True where nothing is held, so that the buffer may serve another answer.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty() && self.raw.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.payload = 0..0;
        self.raw = 0..0;
    }

    /// Forgets the payload decoded so far.
    pub fn drop_payload(&mut self) {
        self.payload = self.raw.start..self.raw.start;
        if self.raw.is_empty() {
            self.clear();
        }
    }

    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.payload.clone()]
    }

    /// Bytes of memory the buffer takes.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn raw(&self) -> &[u8] {
        &self.bytes[self.raw.clone()]
    }

    /// Passes over framing.
    fn skip(&mut self, n: usize) {
        self.raw.start += n;
        if self.payload.is_empty() {
            self.payload = self.raw.start..self.raw.start;
        }
    }

    /// Joins the next `n` bytes to the payload.
    fn take(&mut self, n: usize) {
        let next = self.raw.start..self.raw.start + n;
        let to = self.payload.end;
        if to != next.start {
            self.bytes.copy_within(next, to);
        }
        self.payload.end += n;
        self.raw.start += n;
    }

    /// Lets later reads go right behind the payload where nothing is in between.
    fn close_gap(&mut self) {
        if self.raw.is_empty() {
            self.raw = self.payload.end..self.payload.end;
        }
    }

    /// Reads the head, once all of it is there.
    pub fn head(&mut self) -> Result<Option<Head>, HttpError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(self.raw()) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.raw.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(HttpError::HeadTooLarge);
            }
            Err(_) => return Err(HttpError::NotHttp("malformed head")),
        };
        let head = read_head(&response)?;
        self.skip(length);
        Ok(Some(head))
    }
}

fn read_head(response: &httparse::Response<'_, '_>) -> Result<Head, HttpError> {
    let status = response.code.unwrap_or_default();
    let mut keep_alive = response.version == Some(1);
    let mut length: Option<u64> = None;
    let mut chunked = false;
    for header in response.headers.iter() {
        let value = header.value.trim_ascii();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            let number = number.ok_or(HttpError::NotHttp("content-length is no number"))?;
            if length.is_some_and(|before| before != number) {
                return Err(HttpError::NotHttp("two different content-lengths"));
            }
            length = Some(number);
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HttpError::NotHttp("a transfer coding other than chunked"));
            }
            chunked = true;
        } else if is("content-encoding") {
            if !value.eq_ignore_ascii_case(b"identity") {
                return Err(HttpError::Compressed);
            }
        } else if is("connection") {
            for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    keep_alive = false;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    keep_alive = true;
                }
            }
        }
    }
    let framing = match length {
        // A length beside chunks is a mistake of the sender: what follows cannot be trusted.
        _ if chunked => {
            keep_alive &= length.is_none();
            Framing::ChunkSize
        }
        Some(length) if length > MAX_BODY => return Err(HttpError::BodyTooLarge),
        Some(0) => Framing::Over,
        Some(length) => Framing::Length(length),
        None => {
            keep_alive = false;
            Framing::UntilClose
        }
    };
    Ok(Head { status, keep_alive, body: Body { framing, length: 0 } })
}

impl Body {
    /// True once all of the body was seen.
    pub fn is_over(&self) -> bool {
        self.framing == Framing::Over
    }

    /// Decodes what `buffer` holds.
    pub fn decode(&mut self, buffer: &mut Buffer) -> Result<(), HttpError> {
        while !buffer.raw.is_empty() && self.step(buffer)? {}
        buffer.close_gap();
        Ok(())
    }

    /// Decodes one part; false where more bytes are needed for it, or none are expected.
    fn step(&mut self, buffer: &mut Buffer) -> Result<bool, HttpError> {
        let there = buffer.raw.len() as u64;
        match self.framing {
            Framing::Over => return Err(HttpError::NotHttp("more bytes than announced")),
            Framing::UntilClose | Framing::Length(_) | Framing::ChunkPayload(_) => {
                let n = there.min(self.droppable());
                buffer.take(n as usize);
                self.passed(n)?;
            }
            Framing::ChunkSize => match httparse::parse_chunk_size(buffer.raw()) {
                Ok(httparse::Status::Complete((length, size))) => {
                    buffer.skip(length);
                    self.framing =
                        if size == 0 { Framing::ChunkTrailer } else { Framing::ChunkPayload(size) };
                }
                Ok(httparse::Status::Partial) if there < MAX_HEAD as u64 => return Ok(false),
                _ => return Err(HttpError::NotHttp("malformed chunk size")),
            },
            Framing::ChunkEnd => match buffer.raw() {
                [b'\r', b'\n', ..] => {
                    buffer.skip(2);
                    self.framing = Framing::ChunkSize;
                }
                [b'\r'] => return Ok(false),
                _ => return Err(HttpError::NotHttp("a chunk longer than announced")),
            },
            Framing::ChunkTrailer => match memchr::memchr(b'\n', buffer.raw()) {
                Some(end) => {
                    let is_last = buffer.raw()[..end].trim_ascii().is_empty();
                    buffer.skip(end + 1);
                    if is_last {
                        self.framing = Framing::Over;
                    }
                }
                None if there < MAX_HEAD as u64 => return Ok(false),
                None => return Err(HttpError::HeadTooLarge),
            },
        }
        Ok(true)
    }

    /// How many of the next bytes on the connection are known to be payload: those may be thrown
    /// away unseen if [`Body::passed`] is told. Right only when the buffer is fully decoded.
    pub fn droppable(&self) -> u64 {
        match self.framing {
            Framing::Length(left) | Framing::ChunkPayload(left) => left,
            Framing::UntilClose => MAX_BODY,
            _ => 0,
        }
    }

    /// Counts `n` bytes of payload that went by.
    pub fn passed(&mut self, n: u64) -> Result<(), HttpError> {
        self.length += n;
        if self.length > MAX_BODY {
            return Err(HttpError::BodyTooLarge);
        }
        match &mut self.framing {
            Framing::Length(left) | Framing::ChunkPayload(left) if *left > n => *left -= n,
            Framing::Length(_) => self.framing = Framing::Over,
            Framing::ChunkPayload(_) => self.framing = Framing::ChunkEnd,
            _ => {}
        }
        Ok(())
    }

    /// Takes note that the connection has ended.
    pub fn closed(&mut self) -> Result<(), HttpError> {
        match self.framing {
            Framing::UntilClose => self.framing = Framing::Over,
            Framing::Over => {}
            _ => return Err(HttpError::Truncated),
        }
        Ok(())
    }
}
