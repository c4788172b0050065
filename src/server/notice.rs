//! Saying something once that happens a hundred thousand times.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The same thing is said again after this time at the earliest.
const QUIET: Duration = Duration::from_secs(600);

/// When something was said last, and how often it has happened since.
#[derive(Debug)]
pub(super) struct Notice(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said_at: Option<Instant>,
    times: u64,
}

impl Notice {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Counts one more time that it happened; how many times that are since it was said last,
    /// where it is time to say it.
    pub(super) fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.times += 1;
        if state.said_at.is_some_and(|at| now.duration_since(at) < QUIET) {
            return None;
        }
        state.said_at = Some(now);
        Some(std::mem::take(&mut state.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_now_and_then_with_the_number_of_times() {
        let notice = Notice::new();
        let start = Instant::now();
        let at = |seconds| notice.due_at(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(1));
        assert_eq!(at(1), None);
        assert_eq!(at(599), None);
        assert_eq!(at(600), Some(3));
        assert_eq!(at(601), None);
        assert_eq!(at(1_300), Some(2));
    }
}
