//! Files that an operator names: read so that none of them can hold the program up, and followed
//! while it runs.
//!
//! [`read()`] takes regular files alone, up to a size, and gives up after a while: a named pipe that
//! nobody writes to, or a file system whose server is gone, would block whoever reads for good,
//! signals or not. [`Follower`] tells of changes, whichever way they are made.
//!
//! `notify-debouncer-full` would not serve: it wakes up all the time, changes or not, and does not
//! watch where a file's links lead, which is how Kubernetes swaps ConfigMaps and Secrets.

mod follow;
mod read;
mod watch;

pub use follow::{Follower, Noted, Timing};
pub use read::{FileError, read, read_text};
