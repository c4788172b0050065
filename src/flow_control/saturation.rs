//! Whether the pool can take more: what decides if sheddable requests are refused.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::endpoints::SignalValues;
use crate::scheduling::Candidate;

/// When a worker, and with it the pool, counts as saturated. Defaults and formulas of
/// `utilization-detector` in llm-d-router main at ebab6879.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SaturationConfig {
    /// Waiting requests that make a worker full.
    pub queue_depth_threshold: f64,
    /// KV-cache usage that makes a worker full, 0 to 1.
    pub kv_cache_util_threshold: f64,
    /// Metrics older than this say nothing; the worker counts as full.
    pub metrics_staleness_threshold: Duration,
    /// Share by which a worker may exceed the thresholds before the filter drops it.
    pub headroom: f64,
}

impl Default for SaturationConfig {
    fn default() -> Self {
        Self {
            queue_depth_threshold: 5.0,
            kv_cache_util_threshold: 0.8,
            metrics_staleness_threshold: Duration::from_millis(200),
            headroom: 0.0,
        }
    }
}

impl SaturationConfig {
    /// How full the candidates are together: the mean of each one's larger ratio of signal to
    /// threshold, not limited to 1. A worker with stale metrics counts 1, as does an empty pool.
    /// From 1.0 on the pool is saturated.
    pub fn saturation(&self, candidates: &[Candidate<'_>], now: Timestamp) -> f64 {
        self.saturation_with(candidates, 0.0, now)
    }

    /// The same with `more` requests spread evenly over the workers' queues.
    pub(super) fn saturation_with(
        &self,
        candidates: &[Candidate<'_>],
        more: f64,
        now: Timestamp,
    ) -> f64 {
        if candidates.is_empty() {
            return 1.0;
        }
        let each = more / candidates.len() as f64;
        let load = |c: &Candidate<'_>| self.load(&c.signals, each, now).unwrap_or(1.0);
        candidates.iter().map(load).sum::<f64>() / candidates.len() as f64
    }

    /// The larger ratio of signal to threshold; `None` where the metrics are stale.
    fn load(&self, signals: &SignalValues, more: f64, now: Timestamp) -> Option<f64> {
        if self.is_stale(signals, now) {
            return None;
        }
        let queue = (f64::from(signals.waiting) + more) / self.queue_depth_threshold;
        Some(queue.max(signals.kv_usage / self.kv_cache_util_threshold))
    }

    pub(super) fn is_stale(&self, signals: &SignalValues, now: Timestamp) -> bool {
        signals.is_stale(now, self.metrics_staleness_threshold)
    }

    /// Keeps those of `kept` (indices of `all`) that have room, or all of them if none has.
    pub fn keep_free(&self, all: &[Candidate<'_>], now: Timestamp, kept: &mut Vec<u32>) {
        let has_room =
            |&i: &u32| all.get(i as usize).is_some_and(|c| self.has_room(&c.signals, now));
        if kept.iter().any(has_room) {
            kept.retain(has_room);
        }
    }

    fn has_room(&self, signals: &SignalValues, now: Timestamp) -> bool {
        let limit = 1.0 + self.headroom;
        !self.is_stale(signals, now)
            && f64::from(signals.waiting) < self.queue_depth_threshold * limit
            && signals.kv_usage < self.kv_cache_util_threshold * limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::endpoints::Endpoint;
    use crate::endpoints::test_support::endpoint;

    const NOW: Timestamp = Timestamp::from_nanos(10_000_000_000);

    /// Workers with a queue, a KV-cache usage and an age of their metrics (ms; `None`: never).
    fn pool(workers: &[(u32, f64, Option<u64>)]) -> Vec<Arc<Endpoint>> {
        let worker = |(n, &(waiting, kv_usage, age)): (usize, &(u32, f64, Option<u64>))| {
            let endpoint = endpoint("w", n as u8);
            endpoint.signals.store(SignalValues {
                waiting,
                kv_usage,
                updated_at: age.map(|age| Timestamp::from_nanos(NOW.as_nanos() - age * 1_000_000)),
                ..SignalValues::default()
            });
            Arc::new(endpoint)
        };
        workers.iter().enumerate().map(worker).collect()
    }

    #[test]
    fn saturation_is_the_mean_of_the_larger_ratios() {
        let fresh = Some(0);
        type Workers<'a> = &'a [(u32, f64, Option<u64>)];
        let cases: &[(Workers<'_>, f64)] = &[
            (&[], 1.0),
            (&[(0, 0.0, fresh)], 0.0),
            (&[(5, 0.0, fresh)], 1.0),
            (&[(1, 0.8, fresh)], 1.0),
            (&[(20, 0.1, fresh)], 4.0),
            (&[(0, 0.0, None)], 1.0),
            (&[(0, 0.0, Some(200))], 0.0),
            (&[(0, 0.0, Some(201))], 1.0),
            (&[(0, 0.0, fresh), (5, 0.0, fresh), (0, 0.4, fresh), (0, 0.0, None)], 0.625),
        ];
        for (workers, expected) in cases {
            let pool = pool(workers);
            let all: Vec<Candidate<'_>> = pool.iter().map(Candidate::new).collect();
            let got = SaturationConfig::default().saturation(&all, NOW);
            assert_eq!(got, *expected, "{workers:?}");
        }
    }

    #[test]
    fn the_filter_drops_full_workers_unless_all_are_full() {
        let fresh = Some(0);
        let with_headroom = SaturationConfig { headroom: 0.5, ..SaturationConfig::default() };
        let default = SaturationConfig::default();
        type Workers<'a> = &'a [(u32, f64, Option<u64>)];
        let cases: &[(SaturationConfig, Workers<'_>, &[u32])] = &[
            (default, &[(4, 0.79, fresh), (5, 0.0, fresh), (0, 0.8, fresh), (0, 0.0, None)], &[0]),
            (default, &[(5, 0.0, fresh), (0, 0.9, fresh)], &[0, 1]),
            (with_headroom, &[(7, 0.0, fresh), (8, 0.0, fresh)], &[0]),
            (default, &[], &[]),
        ];
        for (config, workers, expected) in cases {
            let pool = pool(workers);
            let all: Vec<Candidate<'_>> = pool.iter().map(Candidate::new).collect();
            let mut kept: Vec<u32> = (0..all.len() as u32).collect();
            config.keep_free(&all, NOW, &mut kept);
            assert_eq!(kept, *expected, "{workers:?}");
        }
    }
}
