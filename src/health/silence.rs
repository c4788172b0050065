//! How long an endpoint has said nothing while requests waited for it.

use std::time::Duration;

use crate::clock::Timestamp;

/// Requests that wait for a first sign of life, and for how long there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Silence {
    waiting: u32,
    /// When the present stretch began: requests have been waiting since, and nothing was said.
    began: Timestamp,
    /// Stretches before it, since something was last said. The time between them, in which no
    /// request waited, does not count.
    earlier: Duration,
}

impl Silence {
    /// A request is sent.
    pub(super) fn sent(&mut self, now: Timestamp) {
        if self.waiting == 0 {
            self.began = now;
        }
        self.waiting += 1;
    }

    /// A request is over or answered. `alive`: the endpoint said something.
    pub(super) fn over(&mut self, alive: bool, now: Timestamp) {
        self.waiting = self.waiting.saturating_sub(1);
        if alive {
            self.broken(now);
        } else if self.waiting == 0 {
            self.earlier += now.since(self.began);
        }
    }

    /// The endpoint said something.
    fn broken(&mut self, now: Timestamp) {
        self.began = now;
        self.earlier = Duration::ZERO;
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// When the silence would have begun, had requests been waiting all the time; `None` where
    /// none waits.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let began = self.began.since(Timestamp::START).saturating_sub(self.earlier);
        (self.waiting > 0).then(|| Timestamp::START + began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_while_requests_wait() {
        let at = |s: u64| Timestamp::START + Duration::from_secs(s);
        let mut silence = Silence::default();
        assert_eq!(silence.since(), None, "nothing waits");
        silence.sent(at(100));
        silence.sent(at(103));
        assert_eq!(silence.since(), Some(at(100)));
        silence.over(true, at(105));
        assert_eq!(silence.since(), Some(at(105)), "it said something; one still waits");
        silence.over(false, at(107));
        assert_eq!(silence.since(), None, "its client went away after 2 s");
        silence.sent(at(200));
        assert_eq!(silence.since(), Some(at(198)), "those 2 s count, the idle time does not");
        silence.over(true, at(201));
        silence.sent(at(300));
        assert_eq!(silence.since(), Some(at(300)), "it said something in between");
    }
}
