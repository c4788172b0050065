//! What clients saw.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bench::latency::Latencies;

/// One answered request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub ttft: Duration,
    pub total: Duration,
    pub worker: String,
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
    /// Answers by worker.
    pub workers: BTreeMap<String, u64>,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
}

impl Tally {
    pub(super) fn record(&mut self, result: Result<Answer, String>) {
        match result {
            Ok(answer) => {
                self.ttft.record(answer.ttft);
                self.e2e.record(answer.total);
                let later = u32::try_from(answer.output_tokens.saturating_sub(1)).unwrap_or(0);
                if let Some(itl) = answer.total.saturating_sub(answer.ttft).checked_div(later) {
                    self.itl.record(itl);
                }
                self.prompt_tokens += answer.prompt_tokens;
                self.cached_tokens += answer.cached_tokens;
                *self.workers.entry(answer.worker).or_default() += 1;
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
            worker: "w".into(),
            prompt_tokens: 10,
            cached_tokens: 4,
            output_tokens,
        };
        tally.record(Ok(answer(5)));
        tally.record(Ok(answer(1)));
        tally.record(Err("HTTP 503".into()));
        assert_eq!((tally.answered(), tally.itl.count(), tally.errors["HTTP 503"]), (2, 1, 1));
        assert!((tally.itl.summary().p50_ms - 100.0).abs() < 0.2);
        assert_eq!((tally.prompt_tokens, tally.cached_tokens, tally.workers["w"]), (20, 8, 2));
    }
}
