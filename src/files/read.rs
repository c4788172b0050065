//! Reading a file that may be anything.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Whoever waits for a file waits this long at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a file could not be read; the caller names the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("cannot be read: it is {0}, not a regular file")]
    NotRegular(&'static str),
    /// The limit in bytes.
    #[error("is larger than {} KiB", .0 / 1024)]
    TooLarge(u64),
    #[error("is not UTF-8 text")]
    NotText,
    #[error("cannot be read: nothing came for {PATIENCE:?}; is its file system there?")]
    Late,
}

/// The content of a regular file of `max_bytes` at most.
///
/// Reading happens on a thread of its own. One that never ends, as with a file system whose server
/// is gone, is left behind: there is no way to end it, and it keeps no process from ending.
///
/// # Errors
/// What is no regular file, is too large, cannot be read or does not come within five seconds.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let path = path.to_owned();
    within(PATIENCE, move || read_now(&path, max_bytes))
}

/// The same, as text.
///
/// # Errors
/// As [`read`], and what is not UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String, FileError> {
    String::from_utf8(read(path, max_bytes)?).map_err(|_| FileError::NotText)
}

fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let (send, result) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("file".into()).spawn(move || {
        // Fails where nobody waits any more.
        _ = send.send(work());
    })?;
    result.recv_timeout(time).unwrap_or(Err(FileError::Late))
}

fn read_now(path: &PathBuf, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    // Asked before opening, which can do things to a device, and after, for it may be another.
    regular(std::fs::metadata(path)?.file_type())?;
    let file = open(path)?;
    regular(file.metadata()?.file_type())?;
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max_bytes {
        true => Err(FileError::TooLarge(max_bytes)),
        false => Ok(bytes),
    }
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // A named pipe would wait for a writer; a terminal would become ours.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

fn regular(kind: FileType) -> Result<(), FileError> {
    if kind.is_file() {
        return Ok(());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Err(FileError::NotRegular("a pipe"));
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Err(FileError::NotRegular("a device"));
        }
        if kind.is_socket() {
            return Err(FileError::NotRegular("a socket"));
        }
    }
    Err(FileError::NotRegular(if kind.is_dir() { "a directory" } else { "something else" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_alone_are_read_and_not_beyond_their_limit() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("eight"), "12345678").unwrap();
        std::fs::write(at("binary"), b"\xff").unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(pipe.success());
        std::os::unix::fs::symlink(at("pipe"), at("link-to-pipe")).unwrap();
        std::os::unix::fs::symlink(at("eight"), at("link")).unwrap();
        let cases = [
            (at("eight"), 8, Ok("12345678")),
            (at("link"), 9, Ok("12345678")),
            (at("eight"), 7, Err("is larger than 0 KiB")),
            (at("binary"), 9, Err("is not UTF-8 text")),
            (at("none"), 9, Err("cannot be read: No such file")),
            (at("directory"), 9, Err("cannot be read: it is a directory")),
            (at("pipe"), 9, Err("cannot be read: it is a pipe")),
            (at("link-to-pipe"), 9, Err("cannot be read: it is a pipe")),
            ("/dev/zero".into(), 9, Err("cannot be read: it is a device")),
        ];
        for (path, limit, expected) in cases {
            let read = read_text(&path, limit);
            match (&read, expected) {
                (Ok(text), Ok(expected)) => assert_eq!(text, expected),
                (Err(e), Err(expected)) => assert!(e.to_string().starts_with(expected), "{e}"),
                _ => panic!("{}: {read:?}", path.display()),
            }
        }
    }

    #[test]
    fn what_does_not_come_is_not_waited_for() {
        let (_keep, never) = mpsc::channel::<()>();
        let waits = move || never.recv().map_err(|_| FileError::NotText);
        let outcome = within(Duration::from_millis(10), waits);
        assert!(matches!(outcome, Err(FileError::Late)), "{outcome:?}");
    }
}
