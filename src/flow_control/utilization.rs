use crate::endpoints::Nanos;
use crate::scheduling::Candidate;

/// The `utilization-detector`: how full the pool is by queue depth and KV-cache usage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UtilizationDetector {
    /// Waiting requests at which an endpoint counts as full.
    pub queue_depth_threshold: f64,
    /// KV-cache usage, 0 to 1, at which an endpoint counts as full.
    pub kv_cache_util_threshold: f64,
    /// Metrics older than this many nanoseconds count as full.
    pub staleness_threshold: Nanos,
    /// Share by which the filter lets an endpoint exceed the thresholds.
    pub headroom: f64,
}

impl Default for UtilizationDetector {
    fn default() -> Self {
        Self {
            queue_depth_threshold: 5.0,
            kv_cache_util_threshold: 0.8,
            staleness_threshold: 200_000_000,
            headroom: 0.0,
        }
    }
}

impl UtilizationDetector {
    /// Mean over the endpoints of max(waiting / queue threshold, usage / KV threshold), not
    /// limited to 1; an endpoint without fresh metrics counts 1, and so does an empty pool
    /// (llm-d-router main at ebab6879). 1 and more means saturated.
    pub fn saturation(&self, candidates: &[Candidate<'_>], now: Nanos) -> f64 {
        if candidates.is_empty() {
            return 1.0;
        }
        let sum: f64 = candidates
            .iter()
            .map(|c| {
                if c.signals.is_stale(now, self.staleness_threshold) {
                    return 1.0;
                }
                let queue = f64::from(c.signals.waiting) / self.queue_depth_threshold;
                let kv = c.signals.kv_usage / self.kv_cache_util_threshold;
                queue.max(kv)
            })
            .sum();
        sum / candidates.len() as f64
    }

    /// True where the endpoint has fresh metrics below both thresholds, headroom included.
    pub fn has_room(&self, candidate: &Candidate<'_>, now: Nanos) -> bool {
        let scale = 1.0 + self.headroom;
        let signals = &candidate.signals;
        !signals.is_stale(now, self.staleness_threshold)
            && f64::from(signals.waiting) < self.queue_depth_threshold * scale
            && signals.kv_usage < self.kv_cache_util_threshold * scale
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::endpoints::test_support::endpoint;
    use crate::endpoints::{Endpoint, SignalValues};

    fn worker(waiting: u32, kv_usage: f64, updated_at: Option<Nanos>) -> Arc<Endpoint> {
        let e = endpoint("w", 1);
        e.signals.store(SignalValues { waiting, kv_usage, updated_at, ..Default::default() });
        Arc::new(e)
    }

    #[test]
    fn saturation_is_the_mean_of_the_worse_ratio() {
        let detector = UtilizationDetector::default();
        let now = 1_000_000_000;
        let fresh = Some(now - 100_000_000);
        let stale = Some(now - 300_000_000);
        for (name, pool, expected) in [
            ("empty pool", vec![], 1.0),
            ("idle", vec![worker(0, 0.0, fresh)], 0.0),
            ("queue rules", vec![worker(5, 0.4, fresh)], 1.0),
            ("kv rules", vec![worker(0, 0.4, fresh)], 0.5),
            ("not limited to 1", vec![worker(20, 0.0, fresh), worker(0, 0.0, fresh)], 2.0),
            ("stale counts as full", vec![worker(0, 0.0, stale)], 1.0),
            ("never scraped counts as full", vec![worker(0, 0.0, None)], 1.0),
        ] {
            let pool: Vec<Candidate<'_>> = pool.iter().map(Candidate::new).collect();
            assert_eq!(detector.saturation(&pool, now), expected, "{name}");
        }
    }
}
