//! What is said about a worker's metrics: when they break, and when they are back.

use std::time::Duration;

use crate::clock::Timestamp;

/// How scraping one worker goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Condition {
    #[default]
    Good,
    /// Some of what was asked for is missing.
    Partial,
    /// Nothing comes in.
    Failing,
}

/// One line is said about a worker in this time at most, so that one that flaps does not fill
/// the log.
const QUIET: Duration = Duration::from_secs(10);

/// What was last said about a worker.
#[derive(Debug, Default)]
pub(super) struct Health {
    said: Condition,
    said_at: Option<Timestamp>,
}

impl Health {
    /// True where the condition is news that should be told now; it is then taken to be told.
    pub(super) fn is_news(&mut self, condition: Condition, now: Timestamp) -> bool {
        let quiet = self.said_at.is_some_and(|at| now.since(at) < QUIET);
        if condition == self.said || quiet {
            return false;
        }
        self.said = condition;
        self.said_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Condition::*;
    use super::*;

    #[test]
    fn one_line_when_it_breaks_and_one_when_it_is_back() {
        let mut health = Health::default();
        let cases = [
            (0, Good, false, "a worker that answers is no news"),
            (1, Failing, true, "it breaks"),
            (2, Failing, false, "still broken"),
            (5, Good, false, "back, but something was said 4 s ago"),
            (6, Failing, false, "flapping"),
            (11, Good, true, "back, and nothing was said for 10 s"),
            (12, Good, false, "still good"),
            (30, Partial, true, "a family is missing"),
            (41, Failing, true, "now all are"),
            (60, Partial, true, "some are back"),
            (80, Good, true, "all are back"),
        ];
        for (at, condition, news, why) in cases {
            assert_eq!(
                health.is_news(condition, Timestamp::START + Duration::from_secs(at)),
                news,
                "at {at} s: {why}"
            );
        }
    }
}
