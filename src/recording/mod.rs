//! Live traffic, written down without a word of it (`epp --record`), and read again. [`Recorder`]
//! listens to how exchanges end and hands what it may keep to a thread of its own, which makes
//! numbers of everything that could tell something, packs lines of JSON and keeps the files within
//! their bounds. [`read()`] reads a folder of such files, or one. `docs/tuning.md` describes the format.

mod batch;
mod file_name;
mod files;
mod format;
mod names;
mod pieces;
mod reader;
mod recorder;
mod writer;

pub use file_name::FileName;
pub use format::{BLOCK_TOKENS, FORMAT, Header, Row, VERSION};
pub use reader::{Choice, ReadError, Recording, read, read_file};
pub use recorder::Recorder;

use std::path::PathBuf;
use std::time::Duration;

/// Where a recording goes, and how much it may take there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordOptions {
    pub dir: PathBuf,
    /// A file is closed before it is larger, bytes.
    pub max_file_bytes: u64,
    /// A file is closed when it is as old.
    pub max_file_age: Duration,
    /// All recordings in the folder together, bytes.
    pub max_bytes: u64,
}

/// The smallest `max_file_bytes`: a file is to hold more than a packet or two.
pub const MIN_FILE_BYTES: u64 = 64 << 10;

/// What a header calls a configuration, by its text after all defaults.
pub fn config_mark(text: &str) -> String {
    format!("{:016x}", xxhash_rust::xxh64::xxh64(text.as_bytes(), 0))
}
