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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a reader sees of an answer.
    #[derive(Debug, PartialEq)]
    struct Seen {
        status: u16,
        keep_alive: bool,
        payload: String,
    }

    /// Reads `answer` in parts; with `drop_payload`, what may be thrown away unread is.
    fn read(answer: &[u8], part: usize, drop_payload: bool) -> Result<Seen, HttpError> {
        let mut buffer = Buffer::default();
        let mut head: Option<Head> = None;
        let mut dropped = 0;
        let mut rest = answer;
        while !rest.is_empty() {
            let mut n = part.min(rest.len());
            match &mut head {
                Some(head) if drop_payload && head.body.droppable() > 0 => {
                    n = n.min(head.body.droppable() as usize);
                    head.body.passed(n as u64)?;
                    dropped += n;
                }
                _ => {
                    buffer.room(n).copy_from_slice(&rest[..n]);
                    buffer.filled(n);
                }
            }
            rest = &rest[n..];
            if head.is_none() {
                head = buffer.head()?;
            }
            if let Some(head) = &mut head {
                head.body.decode(&mut buffer)?;
            }
        }
        let mut head = head.ok_or(HttpError::Truncated)?;
        head.body.closed()?;
        assert!(head.body.is_over());
        let mut payload = String::from_utf8_lossy(buffer.payload()).into_owned();
        payload.extend(std::iter::repeat_n('.', dropped));
        Ok(Seen { status: head.status, keep_alive: head.keep_alive, payload })
    }

    #[test]
    fn answers() {
        let seen = |status, keep_alive, payload: &str| {
            Ok(Seen { status, keep_alive, payload: payload.to_owned() })
        };
        let not_http = |why| Err(HttpError::NotHttp(why));
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", seen(200, true, "hello")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", seen(200, true, "")),
            (
                "HTTP/1.1 200\r\ncontent-length:5\r\nCONNECTION: Close\r\n\r\nhello",
                seen(200, false, "hello"),
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", seen(200, false, "hello")),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
                seen(200, true, "hello"),
            ),
            ("HTTP/1.1 200 OK\r\n\r\nhello", seen(200, false, "hello")),
            ("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", seen(503, true, "no")),
            (
                "HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 1\r\n\r\nx",
                seen(200, true, "x"),
            ),
            // Chunks.
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                seen(200, true, "hello"),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nhe\r\n003\r\nllo\r\n0\r\nx: y\r\n\r\n",
                seen(200, true, "hello"),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", seen(200, true, "")),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n1\r\nx\r\n0\r\n\r\n",
                seen(200, false, "x"),
            ),
            // Broken.
            ("", Err(HttpError::Truncated)),
            ("HTTP/1.1 200 OK\r\nContent-Le", Err(HttpError::Truncated)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", Err(HttpError::Truncated)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
                Err(HttpError::Truncated),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
                Err(HttpError::Truncated),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhello",
                not_http("more bytes than announced"),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
                not_http("a chunk longer than announced"),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nhello\r\n",
                not_http("malformed chunk size"),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
                not_http("content-length is no number"),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
                not_http("content-length is no number"),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
                not_http("two different content-lengths"),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                not_http("a transfer coding other than chunked"),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", Err(HttpError::Compressed)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 16777217\r\n\r\n", Err(HttpError::BodyTooLarge)),
            ("SSH-2.0-OpenSSH_9.6\r\n", not_http("malformed head")),
        ];
        for (answer, expected) in cases {
            for part in [1, 2, 3, 7, 4096] {
                assert_eq!(read(answer.as_bytes(), part, false), expected, "{answer:?} by {part}");
            }
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert_eq!(read(endless.as_bytes(), 4096, false), Err(HttpError::HeadTooLarge));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(read(many.as_bytes(), 4096, false), Err(HttpError::HeadTooLarge));
    }

    #[test]
    fn a_body_without_end_is_refused() {
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
        for head in ["Transfer-Encoding: chunked\r\n\r\n", "\r\n"] {
            let answer = format!("HTTP/1.1 200 OK\r\n{head}{}", chunk.repeat(17));
            for drop_payload in [false, true] {
                let result = read(answer.as_bytes(), 1 << 16, drop_payload);
                assert_eq!(result, Err(HttpError::BodyTooLarge), "{head:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, part in 1usize..64, drop_payload: bool) {
            let _ = read(&bytes, part, drop_payload);
            let with_head = [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &bytes].concat();
            let _ = read(&with_head, part, drop_payload);
        }

        #[test]
        fn however_it_is_cut_and_chunked_the_payload_is_the_same(
            chunks in proptest::collection::vec("[a-z]{1,40}", 0..8),
            part in 1usize..200,
        ) {
            let payload = chunks.concat();
            let mut chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            for chunk in &chunks {
                chunked.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
            }
            chunked.push_str("0\r\n\r\n");
            let plain =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{payload}", payload.len());
            for answer in [chunked, plain] {
                let seen = read(answer.as_bytes(), part, false);
                prop_assert_eq!(seen.map(|s| s.payload), Ok(payload.clone()));
                let dropped = read(answer.as_bytes(), part, true);
                prop_assert_eq!(dropped.map(|s| s.payload.len()), Ok(payload.len()));
            }
        }
    }
}
