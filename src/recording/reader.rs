use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{FORMAT, Header, Row, VERSION};

/// A longer line is no row: the longest prompt there is has some thousand pieces.
const MAX_LINE: u64 = 4 << 20;
/// The first bytes of a zstd frame.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What every header begins with, as it is written.
const HEAD: &[u8] = b"{\"format\":\"epp-recording\"";

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {message}", path.display())]
    Line { path: PathBuf, line: usize, message: String },
    #[error(
        "{}: version {found} of the format: this program reads version {VERSION}",
        path.display()
    )]
    Version { path: PathBuf, found: u32 },
    #[error("{}: not a recording: its first line is not the header of one", path.display())]
    Foreign { path: PathBuf },
    #[error("{}: there is no recording in it (files looked at: {files})", path.display())]
    Nothing { path: PathBuf, files: usize },
    #[error(
        "{} holds {} recordings, whose prompts cannot be compared: choose one with --recording ID, \
         or take them side by side with --recording all\n{}",
        path.display(), found.len(), found.join("\n")
    )]
    Several { path: PathBuf, found: Vec<String> },
    #[error("there is no recording {id}; there are: {}", found.join(", "))]
    Unknown { id: String, found: Vec<String> },
}

/// Which of the recordings in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The only one there is.
    #[default]
    Only,
    All,
    One(String),
}

/// What was read of one recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Of its first file that is there.
    pub header: Header,
    /// By arrival.
    pub rows: Vec<Row>,
    /// What the reader should know: files that break off, others that were passed over.
    pub notes: Vec<String>,
}

/// One file.
#[derive(Debug)]
pub struct FileContent {
    /// `None` where the file breaks off before its end.
    pub header: Option<Header>,
    pub rows: Vec<Row>,
    /// Why there is no more of it, where it breaks off.
    pub cut: Option<String>,
}

/// Reads the recordings in a folder, or one file of a recording.
///
/// # Errors
/// Where there is none, several and none was chosen, or one is of another version; where a line
/// that is whole is no row. A file that breaks off is good up to there.
pub fn read(path: &Path, choice: &Choice) -> Result<Vec<Recording>, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut notes = Vec::new();
    let mut all: BTreeMap<String, Recording> = BTreeMap::new();
    let mut add = |path: &Path, content: FileContent, notes: &mut Vec<String>| {
        if let Some(cut) = content.cut {
            let rows = content.rows.len();
            notes.push(format!("{} breaks off after {rows} requests: {cut}", path.display()));
        }
        let Some(header) = content.header else { return };
        let recording = all.entry(header.recording.clone()).or_insert_with(|| Recording {
            header,
            rows: Vec::new(),
            notes: Vec::new(),
        });
        recording.rows.extend(content.rows);
    };
    if fs::metadata(path).map_err(io)?.is_dir() {
        let entries = fs::read_dir(path).map_err(io)?;
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>().map_err(io)?;
        files.retain(|path| path.is_file());
        files.sort();
        let count = files.len();
        let mut passed_over = 0;
        for file in files {
            match read_path(&file) {
                Ok(content) => add(&file, content, &mut notes),
                Err(ReadError::Foreign { .. }) => passed_over += 1,
                Err(error) => return Err(error),
            }
        }
        if all.is_empty() {
            return Err(ReadError::Nothing { path: path.to_owned(), files: count });
        }
        if passed_over > 0 {
            notes.push(format!("passed over {passed_over} files that are no recordings"));
        }
    } else {
        add(path, read_path(path)?, &mut notes);
        if all.is_empty() {
            return Err(ReadError::Nothing { path: path.to_owned(), files: 1 });
        }
    }
    let mut chosen = choose(path, all, choice)?;
    for recording in &mut chosen {
        recording.rows.sort_by_key(|row| row.at_us);
    }
    chosen.sort_by(|a, b| a.header.started.cmp(&b.header.started));
    if let Some(first) = chosen.first_mut() {
        first.notes = notes;
    }
    Ok(chosen)
}

fn choose(
    path: &Path,
    mut all: BTreeMap<String, Recording>,
    choice: &Choice,
) -> Result<Vec<Recording>, ReadError> {
    match choice {
        Choice::Only if all.len() > 1 => {
            let mut found: Vec<&Recording> = all.values().collect();
            found.sort_by(|a, b| a.header.started.cmp(&b.header.started));
            let line = |r: &&Recording| {
                let (id, started) = (&r.header.recording, &r.header.started);
                format!("  {id}  begun {started}  {} requests", r.rows.len())
            };
            let found = found.iter().map(line).collect();
            Err(ReadError::Several { path: path.to_owned(), found })
        }
        Choice::Only | Choice::All => Ok(all.into_values().collect()),
        Choice::One(id) => match all.remove(id) {
            Some(recording) => Ok(vec![recording]),
            None => Err(ReadError::Unknown { id: id.clone(), found: all.into_keys().collect() }),
        },
    }
}

fn read_path(path: &Path) -> Result<FileContent, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    read_file(path, BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?))
}

/// Reads one file, packed or plain; `path` stands in errors.
///
/// # Errors
/// As [`read`], of this file.
pub fn read_file(path: &Path, mut packed: impl BufRead) -> Result<FileContent, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let head = packed.fill_buf().map_err(io)?;
    if ZSTD.starts_with(head) {
        // Opened, and next to nothing written: the program or the disk ended there.
        let cut = Some("it has next to nothing in it".into());
        return Ok(FileContent { header: None, rows: Vec::new(), cut });
    }
    if !head.starts_with(&ZSTD) {
        return read_lines(path, packed);
    }
    let unpacked = zstd::Decoder::with_buffer(packed).map_err(io)?;
    read_lines(path, BufReader::with_capacity(1 << 16, unpacked))
}

fn read_lines(path: &Path, reader: impl BufRead) -> Result<FileContent, ReadError> {
    let mut lines = Lines { reader, number: 0, line: Vec::new() };
    let cut = |header, rows, why: String| Ok(FileContent { header, rows, cut: Some(why) });
    let header = match lines.next() {
        Next::Line(text) => header(path, text)?,
        Next::End => return cut(None, Vec::new(), "it has no lines".into()),
        Next::Cut(why) => {
            // Less than a line, and it may be the beginning of anything.
            let begun = lines.line.as_slice();
            let ours = HEAD.starts_with(begun) || begun.starts_with(HEAD);
            return match ours {
                true => cut(None, Vec::new(), why),
                false => Err(ReadError::Foreign { path: path.to_owned() }),
            };
        }
    };
    let mut rows = Vec::new();
    loop {
        match lines.next() {
            Next::Line(b"") => {}
            Next::Line(text) => match serde_json::from_slice(text) {
                Ok(row) => rows.push(row),
                Err(e) => {
                    let message = e.to_string();
                    let line = lines.number;
                    return Err(ReadError::Line { path: path.to_owned(), line, message });
                }
            },
            Next::End => return Ok(FileContent { header: Some(header), rows, cut: None }),
            Next::Cut(why) => return cut(Some(header), rows, why),
        }
    }
}

/// Only what tells whether it is ours, and of which version.
#[derive(serde::Deserialize)]
struct Mark {
    format: String,
    version: u32,
}

fn header(path: &Path, line: &[u8]) -> Result<Header, ReadError> {
    let foreign = || ReadError::Foreign { path: path.to_owned() };
    let mark: Mark = serde_json::from_slice(line).map_err(|_| foreign())?;
    if mark.format != FORMAT {
        return Err(foreign());
    }
    if mark.version != VERSION {
        return Err(ReadError::Version { path: path.to_owned(), found: mark.version });
    }
    let wrong = |e: serde_json::Error| ReadError::Line {
        path: path.to_owned(),
        line: 1,
        message: e.to_string(),
    };
    serde_json::from_slice(line).map_err(wrong)
}

/// Lines that end, told from one that breaks off.
struct Lines<R> {
    reader: R,
    number: usize,
    line: Vec<u8>,
}

enum Next<'a> {
    Line(&'a [u8]),
    End,
    Cut(String),
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Next<'_> {
        self.line.clear();
        self.number += 1;
        let read = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut self.line);
        match read {
            Ok(0) => Next::End,
            Ok(_) => match self.line.strip_suffix(b"\n") {
                Some(line) => Next::Line(line.strip_suffix(b"\r").unwrap_or(line)),
                None => Next::Cut(format!("line {} has no end", self.number)),
            },
            Err(e) => Next::Cut(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(recording: &str, version: u32) -> String {
        format!(
            "{{\"format\":\"epp-recording\",\"version\":{version},\"recording\":\"{recording}\",\
             \"file\":1,\"started\":\"2026-11-25T03:49:00Z\",\"epp\":\"0.1.0\",\"config\":\"\"}}\n"
        )
    }

    fn row(at_us: u64) -> Row {
        Row { at_us, prompt: vec![(at_us as u32, 3)], end: "complete".into(), ..Row::default() }
    }

    fn lines(rows: impl Iterator<Item = u64>) -> String {
        rows.map(|at| serde_json::to_string(&row(at)).unwrap() + "\n").collect()
    }

    fn packed(packets: &[String]) -> Vec<u8> {
        packets.iter().flat_map(|p| zstd::bulk::compress(p.as_bytes(), 1).unwrap()).collect()
    }

    fn of(bytes: &[u8]) -> Result<FileContent, ReadError> {
        read_file(Path::new("test"), bytes)
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let full = Row {
            block_tokens: Some(128),
            prompts: Some(2),
            refused: Some("TooManyRequests".into()),
            priority: -3,
            stream: true,
            ..row(5)
        };
        let text = head("a", 1) + &serde_json::to_string(&full).unwrap() + "\n\n" + &lines(7..9);
        for bytes in [
            text.clone().into_bytes(),
            packed(std::slice::from_ref(&text)),
            text.replace('\n', "\r\n").into_bytes(),
        ] {
            let content = of(&bytes).unwrap();
            assert_eq!(content.rows, [full.clone(), row(7), row(8)]);
            assert_eq!((content.header.unwrap().recording.as_str(), content.cut), ("a", None));
        }
    }

    #[test]
    fn what_is_no_recording_says_so() {
        for (text, want) in [
            ("hello\n", "test: not a recording"),
            ("hello", "test: not a recording"),
            ("{\"format\":\"other\",\"version\":1}\n", "test: not a recording"),
            (&head("a", 2), "test: version 2 of the format: this program reads version 1"),
            ("{\"format\":\"epp-recording\",\"version\":1}\n", "test:1: missing field `recording`"),
            (&(head("a", 1) + "{\"at_us\":-1}\n"), "test:2: invalid value"),
            (
                &(head("a", 1) + "{\"at_us\":1,\"bytes\":2,\"prompt\":[[1]]}\n"),
                "test:2: invalid length 1",
            ),
        ] {
            let error = of(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    proptest! {
        /// A recording that is cut anywhere is good up to there, by whole packets where packed.
        #[test]
        fn a_file_cut_at_any_byte_has_the_rows_before(cut in any::<prop::sample::Index>()) {
            let packets = [head("a", 1), lines(0..10), lines(10..20), lines(20..30)];
            let all: Vec<Row> = (0..30).map(row).collect();
            for (bytes, step) in [(packed(&packets), 10), (packets.concat().into_bytes(), 1)] {
                let content = of(&bytes[..cut.index(bytes.len())]).unwrap();
                let found = content.rows.len();
                prop_assert_eq!(&content.rows[..], &all[..found]);
                prop_assert!(found < 30 && found.is_multiple_of(step));
                // Cut between two packets, or lines, nobody can tell.
                prop_assert!(content.header.is_some() || content.cut.is_some());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, flip in any::<prop::sample::Index>(), to: u8) {
            let _ = of(&bytes);
            let mut spoilt = packed(&[head("a", 1), lines(0..10)]);
            let at = flip.index(spoilt.len());
            spoilt[at] = to;
            let _ = of(&spoilt);
        }
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
        dir
    }

    #[test]
    fn a_folder_has_one_recording_or_says_which() {
        let file = |id, rows| packed(&[head(id, 1), lines(rows)]);
        let dir = folder(&[
            ("2.zst", file("a", 0..3)),
            ("1.zst", file("a", 3..5)),
            ("notes", b"hello".to_vec()),
            ("3.zst", file("a", 5..7)[..100].to_vec()),
            ("empty", Vec::new()),
        ]);
        let all = read(dir.path(), &Choice::Only).unwrap();
        let [one] = &all[..] else { panic!("{all:?}") };
        let at: Vec<u64> = one.rows.iter().map(|row| row.at_us).collect();
        assert_eq!(at, [0, 1, 2, 3, 4]);
        let notes = one.notes.join("\n");
        assert!(
            notes.contains("3.zst breaks off after 0 requests")
                && notes.contains("passed over 1 files"),
            "{notes}"
        );

        fs::write(dir.path().join("4.zst"), file("b", 0..1)).unwrap();
        let error = read(dir.path(), &Choice::Only).unwrap_err().to_string();
        assert!(
            error.contains("holds 2 recordings")
                && error.contains("  b  begun 2026-11-25T03:49:00Z  1 requests"),
            "{error}"
        );
        assert_eq!(read(dir.path(), &Choice::All).unwrap().len(), 2);
        assert_eq!(read(dir.path(), &Choice::One("b".into())).unwrap()[0].rows.len(), 1);
        let error = read(dir.path(), &Choice::One("c".into())).unwrap_err().to_string();
        assert_eq!(error, "there is no recording c; there are: a, b");
    }

    #[test]
    fn a_folder_without_one_is_an_error() {
        let dir = folder(&[("notes", b"hello".to_vec())]);
        let error = read(dir.path(), &Choice::Only).unwrap_err().to_string();
        assert!(error.ends_with("there is no recording in it (files looked at: 1)"), "{error}");
        assert!(read(&dir.path().join("absent"), &Choice::Only).is_err());
        let dir = folder(&[("new", head("a", 9).into_bytes())]);
        let error = read(dir.path(), &Choice::Only).unwrap_err().to_string();
        assert!(error.contains("version 9 of the format"), "{error}");
    }
}
