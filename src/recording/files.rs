use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::{FORMAT, FileName, Header, RecordOptions, VERSION};

/// The cheapest level that is not lossy on repetitions: the recorder is to cost next to nothing.
const LEVEL: i32 = 1;

/// The files of one recording, one of them open. Each packet that is written is a whole frame, so
/// that a file is good up to the last packet whatever becomes of the program.
pub(super) struct Files {
    options: RecordOptions,
    /// The name of the last file that was opened.
    name: FileName,
    started: String,
    config: String,
    open: Option<Open>,
    compressor: Compressor<'static>,
    frame: Vec<u8>,
}

struct Open {
    file: File,
    path: PathBuf,
    bytes: u64,
    since: Instant,
}

impl Files {
    /// Checks that files can be written, and makes the folder if there is none.
    ///
    /// # Errors
    /// Where they cannot.
    pub(super) fn new(
        options: RecordOptions,
        name: FileName,
        started: String,
        config: String,
    ) -> io::Result<Self> {
        fs::create_dir_all(&options.dir)?;
        let probe = options.dir.join(format!(".epp-{}.probe", name.recording));
        create(&probe)?;
        fs::remove_file(&probe)?;
        let mut compressor = Compressor::new(LEVEL)?;
        // What a disk did to a frame is noticed.
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        let (open, frame) = (None, Vec::new());
        Ok(Self { options, name, started, config, open, compressor, frame })
    }

    /// Lines that are put into one frame, bytes.
    pub(super) fn packet_bytes(&self) -> usize {
        // Packets that cannot be compressed still fit a file several times.
        (self.options.max_file_bytes / 8).clamp(4 << 10, 256 << 10) as usize
    }

    /// Writes whole lines. Returns the bytes that this took on the disk.
    ///
    /// # Errors
    /// Where the disk is full or the folder gone: then the lines are lost, and the next ones go
    /// to another file.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<u64> {
        let written = self.try_write(lines);
        if written.is_err() {
            // What was written of the frame makes the rest of this file unreadable.
            self.open = None;
        }
        written
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<u64> {
        let packed = self.pack(lines)?;
        let is_full = |open: &Open| {
            open.bytes + packed > self.options.max_file_bytes
                || open.since.elapsed() >= self.options.max_file_age
        };
        if self.open.as_ref().is_some_and(is_full) {
            self.open = None;
        }
        if self.open.as_ref().is_some_and(|open| !open.is_in_place()) {
            self.open = None;
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was taken away"));
        }
        if self.open.is_some() {
            return self.append();
        }
        let frame = std::mem::take(&mut self.frame);
        let head = self.begin();
        self.frame = frame;
        Ok(head? + self.append()?)
    }

    /// Makes a frame of the lines and says how large it is.
    fn pack(&mut self, lines: &[u8]) -> io::Result<u64> {
        self.frame.resize(zstd::zstd_safe::compress_bound(lines.len()), 0);
        let size = self.compressor.compress_to_buffer(lines, self.frame.as_mut_slice())?;
        self.frame.truncate(size);
        Ok(size as u64)
    }

    fn append(&mut self) -> io::Result<u64> {
        let Some(open) = &mut self.open else { return Ok(0) };
        open.file.write_all(&self.frame)?;
        let size = self.frame.len() as u64;
        open.bytes += size;
        Ok(size)
    }

    /// Opens the next file and writes its header.
    fn begin(&mut self) -> io::Result<u64> {
        if !self.options.dir.exists() {
            // Not its parents: where a volume is gone, nothing is written in its place.
            fs::create_dir(&self.options.dir)?;
        }
        self.make_room()?;
        self.name.file += 1;
        let path = self.options.dir.join(self.name.to_string());
        let file = create(&path)?;
        self.open = Some(Open { file, path, bytes: 0, since: Instant::now() });
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            recording: self.name.recording.clone(),
            file: self.name.file,
            started: self.started.clone(),
            epp: env!("CARGO_PKG_VERSION").to_owned(),
            config: self.config.clone(),
        };
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        self.pack(&line)?;
        self.append()
    }

    /// Removes the oldest files until another one has room.
    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.options.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(name) = name.to_str().and_then(FileName::parse) {
                files.push((name, entry.metadata().map_or(0, |m| m.len()), entry.path()));
            }
        }
        files.sort();
        let mut all: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if all + self.options.max_file_bytes <= self.options.max_bytes {
                break;
            }
            match fs::remove_file(&path) {
                Ok(()) => all -= size,
                Err(e) if e.kind() == io::ErrorKind::NotFound => all -= size,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Open {
    /// False where the name leads to another file or to none: what is written goes nowhere then.
    fn is_in_place(&self) -> bool {
        let named = fs::metadata(&self.path);
        let open = self.file.metadata();
        let id = |m: fs::Metadata| (m.dev(), m.ino());
        named.is_ok_and(|named| open.is_ok_and(|open| id(named) == id(open)))
    }
}

/// Makes a file that its owner alone may read.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn files(dir: &Path, max_file_bytes: u64, max_bytes: u64) -> io::Result<Files> {
        let max_file_age = Duration::from_secs(3600);
        let dir = dir.to_owned();
        let options = RecordOptions { dir, max_file_bytes, max_file_age, max_bytes };
        let (started, recording) = ("20261125T034900Z".to_owned(), "5f0c21d4".to_owned());
        let name = FileName { started, recording, file: 0 };
        Files::new(options, name, "2026-11-25T03:49:00Z".to_owned(), String::new())
    }

    fn sizes(dir: &Path) -> Vec<(String, u64)> {
        let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
        let mut all: Vec<_> = entries
            .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().len()))
            .collect();
        all.sort();
        all
    }

    fn noise(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|_| fastrand::u8(..)).collect()
    }

    #[test]
    fn files_are_closed_by_size_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("notes.txt");
        fs::write(&foreign, vec![b'x'; 100_000]).unwrap();
        let mut files = files(dir.path(), 20_000, 70_000).unwrap();
        for _ in 0..40 {
            files.write(&noise(4_000)).unwrap();
        }
        let left = sizes(dir.path());
        let ours: Vec<_> = left.iter().filter(|(name, _)| name.starts_with("epp-")).collect();
        assert!(ours.iter().all(|(_, size)| *size <= 20_000), "{ours:?}");
        assert!(ours.iter().map(|(_, size)| size).sum::<u64>() <= 70_000, "{ours:?}");
        assert_eq!(ours.last().unwrap().0, "epp-20261125T034900Z-5f0c21d4-000010.jsonl.zst");
        assert!(ours.len() >= 2 && foreign.exists());
    }

    #[test]
    fn a_folder_that_vanishes_is_noticed_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a");
        let mut files = files(&folder, 1 << 20, 1 << 30).unwrap();
        files.write(b"{}\n").unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(files.write(b"{}\n").unwrap_err().kind(), io::ErrorKind::NotFound);
        files.write(b"{}\n").unwrap();
        assert_eq!(sizes(&folder).len(), 1);

        // Where what holds the folder is gone too, nothing is made in its place.
        let outer = dir.path().to_owned();
        drop(dir);
        assert!(files.write(b"{}\n").is_err() && files.write(b"{}\n").is_err());
        assert!(!outer.exists());
    }

    #[test]
    fn old_files_are_closed_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files(dir.path(), 1 << 20, 1 << 30).unwrap();
        files.options.max_file_age = Duration::ZERO;
        files.write(b"{}\n").unwrap();
        files.write(b"{}\n").unwrap();
        assert_eq!(sizes(dir.path()).len(), 2);
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(files(file.path(), 1 << 20, 1 << 30).is_err());
        assert!(files(&file.path().join("below"), 1 << 20, 1 << 30).is_err());
    }
}
