//! What clients saw.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bench::latency::Latencies;

/// One answered request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub ttft: Duration,
    pub total: Duration,
    pub endpoint: String,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub ttft: Latencies,
    pub itl: Latencies,
    pub e2e: Latencies,
    pub errors: BTreeMap<String, u64>,
    /// Answers by endpoint.
    pub endpoints: BTreeMap<String, u64>,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
    /// Answers that met the goal.
    pub good: u64,
    /// Requests asked while a fault was in force, and those of them that failed.
    pub asked_in_fault: u64,
    pub failed_in_fault: u64,
}

/// What clients should not have to wait longer for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub ttft: Duration,
    /// Between tokens, on average over an answer.
    pub itl: Duration,
}

impl Answer {
    /// Mean time between tokens; `None` for an answer of one.
    fn itl(&self) -> Option<Duration> {
        let later = u32::try_from(self.output_tokens.saturating_sub(1)).unwrap_or(0);
        self.total.saturating_sub(self.ttft).checked_div(later)
    }
}

impl Tally {
    /// `in_fault`: it was asked while a fault was in force.
    pub(super) fn record(&mut self, result: Result<Answer, String>, goal: Goal, in_fault: bool) {
        self.asked_in_fault += u64::from(in_fault);
        self.failed_in_fault += u64::from(in_fault && result.is_err());
        match result {
            Ok(answer) => {
                let itl = answer.itl();
                if answer.ttft <= goal.ttft && itl.is_none_or(|itl| itl <= goal.itl) {
                    self.good += 1;
                }
                self.output_tokens += answer.output_tokens;
                self.ttft.record(answer.ttft);
                self.e2e.record(answer.total);
                if let Some(itl) = itl {
                    self.itl.record(itl);
                }
                self.prompt_tokens += answer.prompt_tokens;
                self.cached_tokens += answer.cached_tokens;
                *self.endpoints.entry(answer.endpoint).or_default() += 1;
            }
            Err(kind) => *self.errors.entry(kind).or_default() += 1,
        }
    }

    pub(super) fn answered(&self) -> u64 {
        self.e2e.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_errors_are_kept_apart() {
        let mut tally = Tally::default();
        let answer = |output_tokens| Answer {
            ttft: Duration::from_millis(100),
            total: Duration::from_millis(500),
            endpoint: "w".into(),
            prompt_tokens: 10,
            cached_tokens: 4,
            output_tokens,
        };
        let goal = |itl| Goal { ttft: Duration::from_millis(100), itl: Duration::from_millis(itl) };
        tally.record(Ok(answer(5)), goal(100), false);
        assert_eq!(tally.good, 1);
        tally.record(Ok(answer(1)), goal(0), true);
        assert_eq!(tally.good, 2, "an answer of one token has no time between tokens");
        tally.record(Ok(answer(5)), Goal { ttft: Duration::ZERO, ..goal(100) }, false);
        tally.record(Ok(answer(5)), goal(99), false);
        tally.record(Err("HTTP 503".into()), goal(100), true);
        assert_eq!((tally.asked_in_fault, tally.failed_in_fault), (2, 1));
        assert_eq!((tally.good, tally.output_tokens), (2, 16));
        assert_eq!((tally.answered(), tally.itl.count(), tally.errors["HTTP 503"]), (4, 3, 1));
        assert!((tally.itl.summary().p50_ms - 100.0).abs() < 0.2);
        assert_eq!((tally.prompt_tokens, tally.cached_tokens, tally.endpoints["w"]), (40, 16, 4));
    }
}
