use bytes::Bytes;

use smallvec::SmallVec;

/// What publishers send where a number would be when a replay is over.
const END: [u8; 8] = [0xff; 8];

/// The parts of a message.
pub type Parts = SmallVec<[Bytes; 5]>;

/// A batch as it came, live or by replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Empty by replay from some releases.
    pub topic: Bytes,
    pub number: u64,
    pub payload: Bytes,
}

/// One answer to a request for replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    Batch(Numbered),
    End,
}

/// Topic, number and payload. Read from the end: what lies before differs between releases.
/// `None` where the message is no such thing.
pub fn numbered(mut parts: Parts) -> Option<Numbered> {
    let payload = parts.pop()?;
    let number = u64::from_be_bytes(parts.pop()?.as_ref().try_into().ok()?);
    Some(Numbered { topic: parts.pop().unwrap_or_default(), number, payload })
}

/// The same for an answer to a request for replay.
pub fn replayed(parts: Parts) -> Option<Replayed> {
    let batch = numbered(parts)?;
    if batch.payload.is_empty() && batch.number == u64::from_be_bytes(END) {
        return Some(Replayed::End);
    }
    Some(Replayed::Batch(batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(parts: &[&'static [u8]]) -> Parts {
        parts.iter().map(|part| Bytes::from_static(part)).collect()
    }

    #[test]
    fn layouts_of_all_releases() {
        let seven = b"\0\0\0\0\0\0\0\x07";
        let batch = |topic: &'static [u8]| {
            let (topic, payload) = (Bytes::from_static(topic), Bytes::from_static(b"p"));
            Some(Replayed::Batch(Numbered { topic, number: 7, payload }))
        };
        let cases: [(&[&'static [u8]], Option<Replayed>); 9] = [
            // Live: topic, number, payload.
            (&[b"kv@a@m", seven, b"p"], batch(b"kv@a@m")),
            (&[b"", seven, b"p"], batch(b"")),
            // Replayed by vLLM up to 0.24, then from 0.29.
            (&[b"", b"kv@a@m", seven, b"p"], batch(b"kv@a@m")),
            (&[seven, b"p"], batch(b"")),
            (&[b"", &END, b""], Some(Replayed::End)),
            (&[b"", b"", &END, b""], Some(Replayed::End)),
            (&[b"p"], None),
            (&[b"t", b"\0\0\x07", b"p"], None),
            (&[], None),
        ];
        for (parts, expected) in cases {
            assert_eq!(replayed(message(parts)), expected, "{parts:?}");
        }
    }
}
