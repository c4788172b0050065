//! Saying what is wrong with an object once.

use std::collections::BTreeSet;

/// What is wrong with the objects we watch, each said once for as long as it stays so.
///
/// Objects change their status all the time and are read again whenever the API server
/// restarts; their mistakes should be one line in the log all the same.
#[derive(Debug, Default)]
pub(super) struct WarnOnce {
    said: BTreeSet<String>,
}

impl WarnOnce {
    /// Logs those of `now` that were not there the last time.
    pub(super) fn say(&mut self, now: BTreeSet<String>) {
        for note in now.difference(&self.said) {
            tracing::warn!("{note}");
        }
        self.said = now;
    }
}
