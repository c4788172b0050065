use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::SaturationConfig;
use crate::clock::Timestamp;
use crate::endpoints::Endpoint;
use crate::scheduling::Candidate;

/// What was let through and cannot be seen on any endpoint yet: permits whose request has not
/// reserved its endpoint. Without it, several that go at one reading would overshoot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    pub requests: u64,
    pub tokens: u64,
}

impl Pending {
    /// Without one request of so many tokens.
    pub(super) fn without(self, tokens: u64) -> Self {
        let Self { requests, tokens: all } = self;
        Self { requests: requests.saturating_sub(1), tokens: all.saturating_sub(tokens) }
    }
}

/// A request that was sent to an endpoint and whose answer begins.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// From sending it to the first token, at the endpoint alone.
    pub ttft: Duration,
    /// Requests in flight at its endpoint when it was sent, itself included.
    pub in_flight: i64,
    /// Prompt tokens that the endpoint had to work on; 0 where unknown.
    pub tokens: i64,
}

/// Says how full a pool is.
pub trait SaturationDetector: Debug + Send + Sync {
    /// How full `candidates` are together; from 1.0 on they are saturated. An empty pool is.
    fn saturation(&self, candidates: &[Candidate<'_>], pending: Pending, now: Timestamp) -> f64;

    /// The endpoints whose metrics are too old to count.
    fn stale(&self, candidates: &[Candidate<'_>], now: Timestamp) -> usize {
        let _ = (candidates, now);
        0
    }

    /// A request was sent to `endpoint` whose answer is to come as a stream.
    fn sent(&self, endpoint: &Endpoint) {
        let _ = endpoint;
    }

    /// The answer of such a request begins, or does not come any more. Called once for each.
    fn answered(&self, endpoint: &Endpoint) {
        let _ = endpoint;
    }

    /// Learns from a request whose answer begins.
    fn observe(&self, sent: Sent, now: Timestamp) {
        let _ = (sent, now);
    }

    /// True where [`SaturationDetector::observe`] does something.
    fn observes(&self) -> bool {
        false
    }

    /// The detector that stands behind this one now, where it is only a place for one: whoever
    /// was told of a request's beginning is to be told of its end.
    fn in_force(&self) -> Option<Arc<dyn SaturationDetector>> {
        None
    }

    /// True where [`Pending::tokens`] counts.
    fn counts_tokens(&self) -> bool {
        false
    }

    /// True where what is in flight is seen at once, false where only scraped metrics show it.
    fn sees_at_once(&self) -> bool;
}

/// The detector of the configuration in force, whichever that is.
#[derive(Debug)]
pub struct CurrentDetector(ArcSwap<Arc<dyn SaturationDetector>>);

impl CurrentDetector {
    pub fn new(detector: Arc<dyn SaturationDetector>) -> Self {
        Self(ArcSwap::from_pointee(detector))
    }

    /// From now on `detector` says how full the pool is.
    pub fn set(&self, detector: Arc<dyn SaturationDetector>) {
        self.0.store(Arc::new(detector));
    }
}

impl SaturationDetector for CurrentDetector {
    fn saturation(&self, candidates: &[Candidate<'_>], pending: Pending, now: Timestamp) -> f64 {
        self.0.load().saturation(candidates, pending, now)
    }

    fn stale(&self, candidates: &[Candidate<'_>], now: Timestamp) -> usize {
        self.0.load().stale(candidates, now)
    }

    fn sent(&self, endpoint: &Endpoint) {
        self.0.load().sent(endpoint);
    }

    fn answered(&self, endpoint: &Endpoint) {
        self.0.load().answered(endpoint);
    }

    fn in_force(&self) -> Option<Arc<dyn SaturationDetector>> {
        Some(Arc::clone(&self.0.load()))
    }

    fn observe(&self, sent: Sent, now: Timestamp) {
        self.0.load().observe(sent, now);
    }

    fn observes(&self) -> bool {
        self.0.load().observes()
    }

    fn counts_tokens(&self) -> bool {
        self.0.load().counts_tokens()
    }

    fn sees_at_once(&self) -> bool {
        self.0.load().sees_at_once()
    }
}

impl SaturationDetector for SaturationConfig {
    /// As [`SaturationConfig::saturation`], with what is pending spread over the queues.
    fn saturation(&self, candidates: &[Candidate<'_>], pending: Pending, now: Timestamp) -> f64 {
        self.saturation_with(candidates, pending.requests as f64, now)
    }

    fn stale(&self, candidates: &[Candidate<'_>], now: Timestamp) -> usize {
        candidates.iter().filter(|c| self.is_stale(&c.signals, now)).count()
    }

    fn sees_at_once(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::endpoints::test_support::endpoint;

    #[derive(Debug, Default)]
    struct Counting(AtomicI64);

    impl SaturationDetector for Counting {
        fn saturation(&self, _: &[Candidate<'_>], _: Pending, _: Timestamp) -> f64 {
            0.0
        }

        fn sent(&self, _: &Endpoint) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn answered(&self, _: &Endpoint) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }

        fn sees_at_once(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_request_ends_where_it_began_whatever_has_taken_the_place_since() {
        let (before, after) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
        let place = CurrentDetector::new(before.clone());
        let endpoint = endpoint("a", 1);
        place.sent(&endpoint);
        let told = place.in_force().unwrap();
        place.set(after.clone());
        place.sent(&endpoint);
        told.answered(&endpoint);
        let waiting = |counting: &Counting| counting.0.load(Ordering::Relaxed);
        assert_eq!((waiting(&before), waiting(&after)), (0, 1));
    }
}
