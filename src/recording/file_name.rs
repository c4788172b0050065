use std::fmt;

/// The name of a file: `epp-20261125T034900Z-5f0c21d4-000001.jsonl.zst`. Names sort by the start
/// of their recording and then by their place in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// When the recording began, UTC, to the second.
    pub started: String,
    pub recording: String,
    /// From 1 on.
    pub file: u32,
}

const PREFIX: &str = "epp-";
const SUFFIX: &str = ".jsonl.zst";

impl FileName {
    /// `None` where it is the name of something else.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split('-');
        let (started, recording, file) = (parts.next()?, parts.next()?, parts.next()?);
        let is_time = started.len() == 16
            && started.bytes().all(|b| b.is_ascii_digit() || b == b'T' || b == b'Z');
        let is_id = recording.len() == 8 && recording.bytes().all(|b| b.is_ascii_hexdigit());
        let is_number = file.len() >= 6 && file.bytes().all(|b| b.is_ascii_digit());
        if parts.next().is_some() || !is_time || !is_id || !is_number {
            return None;
        }
        let file = file.parse().ok()?;
        Some(Self { started: started.to_owned(), recording: recording.to_owned(), file })
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}-{}-{:06}{SUFFIX}", self.started, self.recording, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_not() {
        let name = "epp-20261125T034900Z-5f0c21d4-000012.jsonl.zst";
        let read = FileName::parse(name).unwrap();
        assert_eq!((read.to_string().as_str(), read.file), (name, 12));
        for other in [
            "epp.log",
            "epp-20261125T034900Z-5f0c21d4-000012.jsonl",
            "epp-20261125T034900Z-5f0c21d4-12.jsonl.zst",
            "epp-20261125T034900Z-5f0c21dg-000012.jsonl.zst",
            "epp-2026-11-25-5f0c21d4-000012.jsonl.zst",
            "epp-20261125T034900Z-5f0c21d4-000012-1.jsonl.zst",
            "epp-20261125T034900Z-5f0c21d4-99999999999.jsonl.zst",
        ] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
    }
}
