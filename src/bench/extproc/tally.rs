//! What a number of exchanges came to.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::Serialize;

use super::exchange::{Failure, Outcome};
use crate::bench::latency::Latencies;

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub headers_out: Latencies,
    pub total: Latencies,
    /// Exchanges that failed, by kind.
    pub errors: BTreeMap<String, u64>,
    /// By worker: picks of each group's requests.
    picks: HashMap<Bytes, Vec<u64>>,
}

impl Tally {
    pub(super) fn record(&mut self, group: usize, result: Result<Outcome, Failure>) {
        match result {
            Ok(outcome) => {
                self.headers_out.record(outcome.headers_out);
                self.total.record(outcome.total);
                self.add_picks(&outcome.destination, group, 1);
            }
            Err(failure) => *self.errors.entry(failure.to_string()).or_default() += 1,
        }
    }

    fn add_picks(&mut self, worker: &Bytes, group: usize, n: u64) {
        if !self.picks.contains_key(worker) {
            // A copy, so that the reply it came in need not stay.
            self.picks.insert(Bytes::copy_from_slice(worker), Vec::new());
        }
        let groups = self.picks.entry(worker.clone()).or_default();
        if groups.len() <= group {
            groups.resize(group + 1, 0);
        }
        groups[group] += n;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.headers_out.merge(&other.headers_out);
        self.total.merge(&other.total);
        for (kind, n) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += n;
        }
        for (worker, groups) in &other.picks {
            for (group, &n) in groups.iter().enumerate().filter(|(_, n)| **n > 0) {
                self.add_picks(worker, group, n);
            }
        }
    }

    pub(super) fn succeeded(&self) -> u64 {
        self.total.count()
    }

    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Where the requests went.
    pub(super) fn spread(&self) -> Spread {
        let endpoints: BTreeMap<String, u64> = self
            .picks
            .iter()
            .map(|(w, groups)| (String::from_utf8_lossy(w).into_owned(), groups.iter().sum()))
            .collect();
        let all: u64 = endpoints.values().sum();
        let largest = endpoints.values().copied().max().unwrap_or(0);
        let groups = self.picks.values().map(Vec::len).max().unwrap_or(0);
        let favourites: u64 = (0..groups)
            .map(|g| self.picks.values().filter_map(|v| v.get(g)).max().copied().unwrap_or(0))
            .sum();
        let share = |part: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
        Spread {
            largest_to_mean: share(largest) * endpoints.len() as f64,
            stickiness: share(favourites),
            endpoints,
        }
    }
}

/// How requests were spread over the workers that got any.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Spread {
    /// Requests by worker.
    pub endpoints: BTreeMap<String, u64>,
    /// The busiest worker's requests over the mean; 1 is perfectly even.
    pub largest_to_mean: f64,
    /// Share of requests that went to the worker their group went to most.
    pub stickiness: f64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(worker: &'static str) -> Result<Outcome, Failure> {
        Ok(Outcome {
            headers_out: Duration::from_millis(1),
            total: Duration::from_millis(2),
            destination: Bytes::from_static(worker.as_bytes()),
        })
    }

    #[test]
    fn spread_and_errors_add_up_over_merges() {
        let mut a = Tally::default();
        let mut b = Tally::default();
        // Group 0 goes to w1 three times of four, group 1 to w2 both times.
        for (group, worker) in [(0, "w1"), (0, "w1"), (0, "w2"), (1, "w2")] {
            a.record(group, outcome(worker));
        }
        b.record(0, outcome("w1"));
        b.record(1, outcome("w2"));
        b.record(1, Err(Failure::Immediate(503)));
        b.record(1, Err(Failure::Timeout));
        b.record(1, Err(Failure::Immediate(503)));
        a.merge(&b);
        assert_eq!((a.succeeded(), a.failed()), (6, 3));
        assert_eq!(a.errors["immediate response 503"], 2);
        let spread = a.spread();
        assert_eq!(spread.endpoints, BTreeMap::from([("w1".into(), 3), ("w2".into(), 3)]));
        assert!((spread.largest_to_mean - 1.0).abs() < 1e-9);
        assert!((spread.stickiness - 5.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_sent_is_no_division_by_zero() {
        let spread = Tally::default().spread();
        assert_eq!((spread.largest_to_mean, spread.stickiness), (0.0, 0.0));
    }
}
