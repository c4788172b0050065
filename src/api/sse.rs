//! The `data` lines of a server-sent event stream that comes in pieces.

use memchr::memchr;

/// Longer lines are not read.
const MAX_LINE: usize = 1 << 20;

/// Cuts a stream into lines wherever its pieces end. Only a line that is cut is kept, and only
/// until it is whole.
#[derive(Debug, Default)]
pub(super) struct SseLines {
    /// The line that has begun in an earlier piece.
    begun: Vec<u8>,
    /// That line is too long to be kept, and passed over to its end.
    too_long: bool,
}

impl SseLines {
    /// Takes a piece of the stream and hands the data of every line that ends in it to `f`, but
    /// for the final `[DONE]`.
    pub(super) fn chunk(&mut self, chunk: &[u8], mut f: impl FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.begun.is_empty() && !self.too_long {
                data_of(line, &mut f);
            } else {
                self.keep(line);
                self.end_line(&mut f);
            }
            rest = after;
        }
        if !rest.is_empty() {
            self.keep(rest);
        }
    }

    /// The stream is over: its last line may lack an end.
    pub(super) fn finish(&mut self, mut f: impl FnMut(&[u8])) {
        self.end_line(&mut f);
    }

    fn keep(&mut self, part: &[u8]) {
        self.too_long |= self.begun.len() + part.len() > MAX_LINE;
        if !self.too_long {
            self.begun.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, f: &mut impl FnMut(&[u8])) {
        if !std::mem::take(&mut self.too_long) {
            data_of(&self.begun, f);
        }
        // The memory stays for the next line that is cut.
        self.begun.clear();
    }
}

fn data_of(line: &[u8], f: &mut impl FnMut(&[u8])) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(data) = line.strip_prefix(b"data:") else { return };
    let data = data.strip_prefix(b" ").unwrap_or(data);
    if data != b"[DONE]" {
        f(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a stream given in these pieces.
    fn read(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = SseLines::default();
        let mut data = Vec::new();
        for piece in pieces {
            lines.chunk(piece, |d| data.push(d.to_vec()));
        }
        lines.finish(|d| data.push(d.to_vec()));
        data
    }

    #[test]
    fn lines_of_all_kinds() {
        for (stream, data) in [
            ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", vec!["a", "b"]),
            ("data:a\ndata:  b\n", vec!["a", " b"]),
            ("event: x\nid: 1\n: comment\ndata: a\nretry: 5\n", vec!["a"]),
            ("data: a\n\ndata: [DONE]\n\n", vec!["a"]),
            ("data: a\r\n\r\ndata: [DONE]\r\n", vec!["a"]),
            ("data: a\n\ndata: b", vec!["a", "b"]),
            ("data\ndatas: x\nno data: y\n", vec![]),
            ("", vec![]),
        ] {
            let data: Vec<Vec<u8>> = data.iter().map(|d| d.as_bytes().to_vec()).collect();
            assert_eq!(read(&[stream.as_bytes()]), data, "{stream:?}");
            for at in 0..=stream.len() {
                let (a, b) = stream.as_bytes().split_at(at);
                assert_eq!(read(&[a, b]), data, "{stream:?} cut at {at}");
            }
        }
    }

    #[test]
    fn a_line_too_long_is_passed_over_in_bounded_memory() {
        let long = vec![b'x'; MAX_LINE];
        let mut lines = SseLines::default();
        let mut read = Vec::new();
        for start in [b"data: ".as_slice(), b""] {
            lines.chunk(start, |d| read.push(d.to_vec()));
            for _ in 0..3 {
                lines.chunk(&long, |d| read.push(d.to_vec()));
                lines.chunk(b"data: z", |d| read.push(d.to_vec()));
                assert!(lines.begun.len() <= MAX_LINE);
            }
            lines.chunk(b"\ndata: y\n", |d| read.push(d.to_vec()));
        }
        lines.chunk(&long, |d| read.push(d.to_vec()));
        lines.chunk(b"data: z", |d| read.push(d.to_vec()));
        lines.finish(|d| read.push(d.to_vec()));
        assert_eq!(read, [b"y", b"y"]);
    }
}
