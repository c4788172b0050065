//! Text files, plain or gzip, line by line, with errors that name the line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::recording::ReadError;

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}:{line}: {message}", path.display())]
    Line { path: PathBuf, line: usize, message: String },
    #[error("{}: recording {recording}, at_us {at_us}: {message}", path.display())]
    Row { path: PathBuf, recording: String, at_us: u64, message: String },
    #[error(transparent)]
    Recording(#[from] ReadError),
    #[error("{}: unknown format; expected one of {}", path.display(), expected.join(", "))]
    Format { path: PathBuf, expected: Vec<&'static str> },
}

/// A trace file being read.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: usize,
}

/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

impl Lines {
    /// # Errors
    /// Where the file cannot be read.
    pub(super) fn open(path: &Path) -> Result<Self, TraceError> {
        let io = |source| TraceError::Io { path: path.to_owned(), source };
        let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?);
        let packed = file.fill_buf().map_err(io)?.starts_with(&GZIP);
        let reader: Box<dyn BufRead> = if packed {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        Ok(Self { path: path.to_owned(), reader, line: 0 })
    }

    #[cfg(test)]
    pub(super) fn from_text(text: &'static str) -> Self {
        Self { path: "test".into(), reader: Box::new(text.as_bytes()), line: 0 }
    }

    #[cfg(test)]
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        let reader = Box::new(std::io::Cursor::new(bytes));
        Self { path: "test".into(), reader, line: 0 }
    }

    /// The next line that is not blank; `None` at the end.
    ///
    /// # Errors
    /// Where reading fails or the line is not UTF-8.
    pub(super) fn next_line(&mut self) -> Result<Option<String>, TraceError> {
        loop {
            let mut text = String::new();
            self.line += 1;
            match self.reader.read_line(&mut text) {
                Ok(0) => return Ok(None),
                Ok(_) if text.trim().is_empty() => {}
                Ok(_) => return Ok(Some(text)),
                Err(e) => return Err(self.error(e)),
            }
        }
    }

    /// An error at the line read last.
    pub(super) fn error(&self, message: impl ToString) -> TraceError {
        error_at(&self.path, self.line, message)
    }

    /// The file's name without folder and endings.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.split('.').next().unwrap_or_default().to_owned()
    }

    /// The file's path and all that is left of it.
    pub(super) fn into_parts(self) -> (PathBuf, impl Read) {
        (self.path, self.reader)
    }

    /// Parses every line as JSON and hands it to `take`.
    ///
    /// # Errors
    /// Where a line cannot be parsed or is not taken.
    pub(super) fn each_json<T: serde::de::DeserializeOwned>(
        &mut self,
        mut take: impl FnMut(T) -> Result<(), String>,
    ) -> Result<(), TraceError> {
        while let Some(line) = self.next_line()? {
            let value = serde_json::from_str(&line).map_err(|e| self.error(e))?;
            take(value).map_err(|e| self.error(e))?;
        }
        Ok(())
    }
}

/// An error at a line of a file.
pub(super) fn error_at(path: &Path, line: usize, message: impl ToString) -> TraceError {
    TraceError::Line { path: path.to_owned(), line, message: message.to_string() }
}

/// The longest prompt or answer a trace may have: above, a length is taken for a mistake.
const MAX_TOKENS: u64 = 64 << 20;

/// # Errors
/// Where `n` is too large to be a number of tokens.
pub(super) fn tokens(n: u64) -> Result<u32, String> {
    if n > MAX_TOKENS {
        return Err(format!("{n} tokens are too many"));
    }
    Ok(n as u32)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn plain_and_packed_files_read_alike() {
        let dir = tempfile::tempdir().unwrap();
        let text = b"one\n\n  \ntwo\nthree";
        let plain = dir.path().join("a.b.jsonl");
        std::fs::write(&plain, text).unwrap();
        let packed = dir.path().join("a.jsonl.gz");
        let mut gz =
            flate2::write::GzEncoder::new(File::create(&packed).unwrap(), Default::default());
        gz.write_all(text).unwrap();
        gz.finish().unwrap();
        for path in [plain, packed] {
            let mut lines = Lines::open(&path).unwrap();
            let mut all = Vec::new();
            while let Some(line) = lines.next_line().unwrap() {
                all.push((lines.line, line.trim().to_owned()));
            }
            assert_eq!(all, [(1, "one".into()), (4, "two".into()), (5, "three".into())]);
            assert_eq!(lines.name(), "a");
        }
    }

    #[test]
    fn errors_name_file_and_line() {
        let mut lines = Lines::from_text("{}\n{]\n");
        let e = lines.each_json(|_: serde_json::Value| Ok(())).unwrap_err();
        assert!(e.to_string().starts_with("test:2: "), "{e}");
        assert!(Lines::open(Path::new("/no/such/file")).is_err());
        let e = Lines::from_bytes(vec![0xff, b'\n']).next_line().unwrap_err();
        assert!(e.to_string().starts_with("test:1: "), "{e}");
    }
}
