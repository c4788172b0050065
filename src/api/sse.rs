//! The `data` lines of a server-sent event stream that comes in pieces.

use memchr::memchr;

/// Longer lines are counted and not read.
const MAX_LINE: usize = 1 << 20;

/// Cuts a stream into lines wherever its pieces end. Only a line that is cut is kept, and only
/// until it is whole.
#[derive(Debug, Default)]
pub(super) struct SseLines {
    /// The line that has begun in an earlier piece.
    begun: Vec<u8>,
    /// The line is too long to be kept: its start is all there is in `begun`.
    too_long: bool,
    events: u64,
}

impl SseLines {
    /// Events seen: `data` lines but the final `[DONE]`.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Takes a piece of the stream and hands the data of every line that ends in it to `f`.
    pub fn chunk(&mut self, chunk: &[u8], mut f: impl FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.begun.is_empty() {
                self.line(line, &mut f);
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
    pub fn finish(&mut self, mut f: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            self.end_line(&mut f);
        }
    }

    fn keep(&mut self, part: &[u8]) {
        if self.begun.len() + part.len() <= MAX_LINE {
            self.begun.extend_from_slice(part);
        } else {
            self.too_long = true;
            // Its first bytes say whether it is an event.
            let room = b"data:".len().saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&part[..room.min(part.len())]);
        }
    }

    fn end_line(&mut self, f: &mut impl FnMut(&[u8])) {
        let mut line = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.too_long) {
            self.line(&line[..line.len().min(b"data:".len())], &mut |_: &[u8]| {});
        } else {
            self.line(&line, f);
        }
        // Keep the memory for the next line that is cut.
        line.clear();
        self.begun = line;
    }

    fn line(&mut self, line: &[u8], f: &mut impl FnMut(&[u8])) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if data != b"[DONE]" {
            self.events += 1;
            f(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a stream given in these pieces, and its events.
    fn read(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
        let mut lines = SseLines::default();
        let mut data = Vec::new();
        for piece in pieces {
            lines.chunk(piece, |d| data.push(d.to_vec()));
        }
        lines.finish(|d| data.push(d.to_vec()));
        (data, lines.events())
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
            let events = data.len() as u64;
            assert_eq!(read(&[stream.as_bytes()]), (data.clone(), events), "{stream:?}");
            for at in 0..=stream.len() {
                let (a, b) = stream.as_bytes().split_at(at);
                assert_eq!(read(&[a, b]), (data.clone(), events), "{stream:?} cut at {at}");
            }
        }
    }

    #[test]
    fn a_line_too_long_is_an_event_unread_and_bounded() {
        let long = vec![b'x'; MAX_LINE];
        let mut lines = SseLines::default();
        let mut read = Vec::new();
        for _ in 0..3 {
            lines.chunk(b"data: ", |d| read.push(d.to_vec()));
            for _ in 0..3 {
                lines.chunk(&long, |d| read.push(d.to_vec()));
                assert!(lines.begun.len() <= MAX_LINE);
            }
            lines.chunk(b"\ndata: y\n", |d| read.push(d.to_vec()));
        }
        assert_eq!(read, [b"y", b"y", b"y"]);
        assert_eq!(lines.events(), 6);
        // One whose start is in the same long piece.
        let piece = [b"data: ".as_slice(), &long].concat();
        lines.chunk(&piece, |_| panic!("a cut line"));
        lines.chunk(b"\n: \n", |_| panic!("a cut line"));
        assert_eq!(lines.events(), 7);
    }
}
