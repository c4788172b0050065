use super::{Pending, SaturationDetector};
use crate::clock::Timestamp;
use crate::scheduling::Candidate;

/// `concurrency-detector`: full is what has so many requests, or tokens, in flight. Defaults and
/// formulas of llm-d-router main at ebab6879.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConcurrencyConfig {
    pub mode: ConcurrencyMode,
    /// Requests in flight that make an endpoint full.
    pub max_requests: u32,
    /// Tokens in flight that do.
    pub max_tokens: u64,
    /// Share by which an endpoint may exceed them before the filter drops it.
    pub headroom: f64,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrencyMode {
    Requests,
    Tokens,
    /// Both; the fuller counts.
    Hybrid,
}

impl Default for ConcurrencyConfig {
    fn default() -> Self {
        Self {
            mode: ConcurrencyMode::Requests,
            max_requests: 100,
            max_tokens: 1_000_000,
            headroom: 0.0,
        }
    }
}

impl ConcurrencyConfig {
    /// Keeps those of `kept` (indices of `all`) that have room; perhaps none.
    pub fn keep_free(&self, all: &[Candidate<'_>], kept: &mut Vec<u32>) {
        kept.retain(|&i| all.get(i as usize).is_some_and(|c| self.has_room(c)));
    }

    fn has_room(&self, c: &Candidate<'_>) -> bool {
        let limit = |max: f64| (max * (1.0 + self.headroom)).floor();
        let requests = (c.in_flight_requests as f64) < limit(f64::from(self.max_requests));
        let tokens = (c.in_flight_tokens as f64) < limit(self.max_tokens as f64);
        match self.mode {
            ConcurrencyMode::Requests => requests,
            ConcurrencyMode::Tokens => tokens,
            ConcurrencyMode::Hybrid => requests && tokens,
        }
    }
}

impl SaturationDetector for ConcurrencyConfig {
    /// In flight over what may be, summed over the candidates; for [`ConcurrencyMode::Hybrid`]
    /// the mean of each one's larger ratio.
    fn saturation(&self, candidates: &[Candidate<'_>], pending: Pending, _: Timestamp) -> f64 {
        if candidates.is_empty() {
            return 1.0;
        }
        let n = candidates.len() as f64;
        let (max_requests, max_tokens) = (f64::from(self.max_requests), self.max_tokens as f64);
        let (requests, tokens) = (pending.requests as f64, pending.tokens as f64);
        match self.mode {
            ConcurrencyMode::Requests => {
                let sum: i64 = candidates.iter().map(|c| c.in_flight_requests).sum();
                (sum as f64 + requests) / (max_requests * n)
            }
            ConcurrencyMode::Tokens => {
                let sum: i64 = candidates.iter().map(|c| c.in_flight_tokens).sum();
                (sum as f64 + tokens) / (max_tokens * n)
            }
            ConcurrencyMode::Hybrid => {
                let larger = |c: &Candidate<'_>| {
                    let by_requests = (c.in_flight_requests as f64 + requests / n) / max_requests;
                    by_requests.max((c.in_flight_tokens as f64 + tokens / n) / max_tokens)
                };
                candidates.iter().map(larger).sum::<f64>() / n
            }
        }
    }

    fn counts_tokens(&self) -> bool {
        self.mode != ConcurrencyMode::Requests
    }

    fn sees_at_once(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::endpoints::Endpoint;
    use crate::endpoints::test_support::endpoint;

    const NOW: Timestamp = Timestamp::START;

    fn pool(n: usize) -> Vec<Arc<Endpoint>> {
        (0..n).map(|n| Arc::new(endpoint("w", n as u8))).collect()
    }

    /// Candidates with so many requests and tokens in flight.
    fn candidates<'a>(pool: &'a [Arc<Endpoint>], loads: &[(i64, i64)]) -> Vec<Candidate<'a>> {
        let load = |(e, &(requests, tokens)): (&'a Arc<Endpoint>, &(i64, i64))| Candidate {
            in_flight_requests: requests,
            in_flight_tokens: tokens,
            ..Candidate::new(e)
        };
        pool.iter().zip(loads).map(load).collect()
    }

    #[test]
    fn saturation_by_mode() {
        use ConcurrencyMode::{Hybrid, Requests, Tokens};
        let pending = |requests, tokens| Pending { requests, tokens };
        for (mode, loads, pending, expected) in [
            (Requests, &[][..], pending(0, 0), 1.0),
            (Requests, &[(10, 0), (0, 0)], pending(0, 0), 0.5),
            (Requests, &[(10, 9000), (10, 0)], pending(0, 0), 1.0),
            (Requests, &[(10, 0), (5, 0)], pending(5, 0), 1.0),
            (Requests, &[(30, 0)], pending(0, 0), 3.0),
            (Tokens, &[(10, 500), (0, 500)], pending(0, 1000), 1.0),
            (Tokens, &[(10, 0)], pending(0, 0), 0.0),
            (Hybrid, &[(10, 100), (1, 900)], pending(0, 0), 0.95),
            (Hybrid, &[(2, 100), (1, 900)], pending(4, 200), (0.4 + 1.0) / 2.0),
        ] {
            let config =
                ConcurrencyConfig { mode, max_requests: 10, max_tokens: 1000, headroom: 0.0 };
            let pool = pool(loads.len());
            let got = config.saturation(&candidates(&pool, loads), pending, NOW);
            assert!((got - expected).abs() < 1e-12, "{mode:?} {loads:?} {pending:?}: {got}");
        }
    }

    #[test]
    fn the_filter_may_leave_nothing() {
        use ConcurrencyMode::{Hybrid, Requests, Tokens};
        for (mode, headroom, loads, expected) in [
            (Requests, 0.0, &[(9, 5000), (10, 0)][..], &[0][..]),
            (Requests, 0.25, &[(11, 0), (12, 0)], &[0]),
            (Requests, 0.0, &[(10, 0)], &[]),
            (Tokens, 0.0, &[(99, 999), (0, 1000)], &[0]),
            (Hybrid, 0.0, &[(9, 999), (10, 0), (0, 1000)], &[0]),
        ] {
            let config = ConcurrencyConfig { mode, max_requests: 10, max_tokens: 1000, headroom };
            let pool = pool(loads.len());
            let mut kept: Vec<u32> = (0..loads.len() as u32).collect();
            config.keep_free(&candidates(&pool, loads), &mut kept);
            assert_eq!(kept, expected, "{mode:?} {loads:?}");
        }
    }
}
