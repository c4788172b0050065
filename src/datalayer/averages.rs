//! The pool as a whole, for the metrics endpoint.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::endpoints::{SignalValues, Snapshot};

/// Mean and spread of one signal over the endpoints that count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    pub mean: f64,
    /// Sample standard deviation: divided by n - 1, and by 1 for a single endpoint.
    pub std_dev: f64,
}

/// The signals over the endpoints whose values are fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Averages {
    /// KV-cache usage, 0 to 1.
    pub kv_usage: Spread,
    /// Requests waiting.
    pub queue: Spread,
    /// Requests running.
    pub running: Spread,
}

/// What the pool's gauges show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolAverages {
    /// How many endpoints have values no older than the threshold.
    pub fresh: usize,
    /// `None` where no endpoint is fresh: gauges keep what they showed.
    pub averages: Option<Averages>,
}

/// Averages over the endpoints of `snapshot` that were scraped within `staleness`
/// before `now`, rounded to two decimals, as llm-d-router main at ebab6879 exposes them.
pub fn pool_averages(snapshot: &Snapshot, now: Timestamp, staleness: Duration) -> PoolAverages {
    let values = snapshot.endpoints.iter().map(|e| e.signals.load());
    let fresh: Vec<_> = values.filter(|v| !v.is_stale(now, staleness)).collect();
    let averages = (!fresh.is_empty()).then(|| Averages {
        kv_usage: spread(&fresh, |v| v.kv_usage),
        queue: spread(&fresh, |v| v.waiting.into()),
        running: spread(&fresh, |v| v.running.into()),
    });
    PoolAverages { fresh: fresh.len(), averages }
}

fn spread(values: &[SignalValues], of: impl Fn(&SignalValues) -> f64) -> Spread {
    let n = values.len() as f64;
    let mean = values.iter().map(&of).sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (of(v) - mean).powi(2)).sum();
    let std_dev = (squares / (n - 1.0).max(1.0)).sqrt();
    Spread { mean: two_decimals(mean), std_dev: two_decimals(std_dev) }
}

fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::endpoints::test_support::endpoint;

    /// Endpoints given as (waiting, running, kv usage, time of the last scrape).
    fn averages(endpoints: &[(u32, u32, f64, Option<u64>)]) -> PoolAverages {
        let endpoints = endpoints.iter().map(|&(waiting, running, kv_usage, updated_at)| {
            let e = endpoint("w", 1);
            let updated_at = updated_at.map(Timestamp::from_nanos);
            let values =
                SignalValues { waiting, running, kv_usage, updated_at, ..Default::default() };
            e.signals.store(values);
            Arc::new(e)
        });
        let now = Timestamp::from_nanos(10_000);
        pool_averages(
            &Snapshot { endpoints: endpoints.collect() },
            now,
            Duration::from_nanos(2_000),
        )
    }

    #[test]
    fn mean_and_sample_deviation_of_fresh_endpoints() {
        let s = |mean, std_dev| Spread { mean, std_dev };
        let old = Some(7_999);
        let fresh = Some(8_000);
        assert_eq!(averages(&[]), PoolAverages::default());
        assert_eq!(averages(&[(5, 5, 0.5, None), (5, 5, 0.5, old)]), PoolAverages::default());
        let one = averages(&[(3, 4, 0.456, fresh), (100, 100, 1.0, old)]);
        let expected =
            Averages { kv_usage: s(0.46, 0.0), queue: s(3.0, 0.0), running: s(4.0, 0.0) };
        assert_eq!(one, PoolAverages { fresh: 1, averages: Some(expected) });
        // 2 and 4: mean 3, squares 1 + 1, over n - 1 = 1: 1.41.
        let two = averages(&[(2, 0, 0.0, fresh), (4, 1, 1.0, fresh)]);
        let expected =
            Averages { kv_usage: s(0.5, 0.71), queue: s(3.0, 1.41), running: s(0.5, 0.71) };
        assert_eq!(two, PoolAverages { fresh: 2, averages: Some(expected) });
    }
}
