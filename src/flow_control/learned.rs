use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::{LearnedLimit, Observation, Pending, SaturationConfig, SaturationDetector, Sent};
use crate::clock::Timestamp;
use crate::endpoints::Endpoint;
use crate::scheduling::Candidate;

/// An endpoint counts for so many full ones at most: one that hangs must not shut out the requests
/// that the others could serve.
const MOST_BACKLOG: f64 = 1.5;

/// `learned-saturation-detector`, ours. It needs no threshold. The pool is full when as many requests
/// are in flight as it was seen to keep up with ([`LearnedLimit`]), or when more of them wait for
/// their first token than would if next to none had to queue in its engine: those are known at
/// once, while what a queue does to times is known only when it is over. Until it has seen enough, and where
/// nothing is streamed, it goes by the metrics as `utilization-detector` does.
#[derive(Debug, Default)]
pub struct LearnedDetector {
    limit: Mutex<LearnedLimit>,
    /// The limit as bits of an `f64`, so that readers take no lock; 0 before enough was seen.
    current: AtomicU64,
    endpoints: AtomicUsize,
    /// Streamed requests that were sent and not answered yet, by endpoint instance.
    unanswered: RwLock<HashMap<u64, AtomicI64>>,
    /// How many of them there may be at each endpoint, as bits of an `f64`.
    allowed: AtomicU64,
    until_learned: SaturationConfig,
}

impl LearnedDetector {
    /// Requests an endpoint can have in flight; `None` before enough was seen.
    pub fn limit(&self) -> Option<f64> {
        match self.current.load(Ordering::Relaxed) {
            0 => None,
            bits => Some(f64::from_bits(bits)),
        }
    }

    /// How many streamed requests wait for their first token, in multiples of what may: the mean
    /// over the endpoints.
    fn backlog(&self, candidates: &[Candidate<'_>], pending: f64) -> f64 {
        let allowed = f64::from_bits(self.allowed.load(Ordering::Relaxed)).max(1.0);
        let unanswered = self.unanswered.read();
        let of = |c: &Candidate<'_>| {
            let count = unanswered.get(&c.endpoint.instance)?;
            Some((count.load(Ordering::SeqCst) as f64 / allowed).min(MOST_BACKLOG))
        };
        let all = candidates.iter().filter_map(of).sum::<f64>() + pending / allowed;
        all / candidates.len() as f64
    }

    /// Keeps those of `kept` (indices of `all`) that have room, or all of them if none has.
    pub fn keep_free(&self, all: &[Candidate<'_>], now: Timestamp, kept: &mut Vec<u32>) {
        let Some(limit) = self.limit() else { return self.until_learned.keep_free(all, now, kept) };
        let has_room =
            |&i: &u32| all.get(i as usize).is_some_and(|c| (c.in_flight_requests as f64) < limit);
        if kept.iter().any(has_room) {
            kept.retain(has_room);
        }
    }
}

impl SaturationDetector for LearnedDetector {
    fn saturation(&self, candidates: &[Candidate<'_>], pending: Pending, now: Timestamp) -> f64 {
        if candidates.is_empty() {
            return 1.0;
        }
        self.endpoints.store(candidates.len(), Ordering::Relaxed);
        let Some(limit) = self.limit() else {
            return SaturationDetector::saturation(&self.until_learned, candidates, pending, now);
        };
        let endpoints = candidates.len() as f64;
        let pending = pending.requests as f64;
        let in_flight: i64 = candidates.iter().map(|c| c.in_flight_requests).sum();
        let of_limit = (in_flight as f64 + pending) / (limit * endpoints);
        of_limit.max(self.backlog(candidates, pending))
    }

    fn stale(&self, candidates: &[Candidate<'_>], now: Timestamp) -> usize {
        if self.limit().is_some() { 0 } else { self.until_learned.stale(candidates, now) }
    }

    fn observe(&self, sent: Sent, now: Timestamp) {
        let Sent { ttft, in_flight, tokens } = sent;
        let endpoints = self.endpoints.load(Ordering::Relaxed);
        let mut limit = self.limit.lock();
        limit.observe(Observation { ttft, in_flight, tokens, endpoints }, now);
        if let Some(current) = limit.limit() {
            self.current.store(current.to_bits(), Ordering::Relaxed);
        }
        let allowed = limit.allowed_unanswered(endpoints, now);
        self.allowed.store(allowed.to_bits(), Ordering::Relaxed);
    }

    fn sent(&self, endpoint: &Endpoint) {
        if let Some(count) = self.unanswered.read().get(&endpoint.instance) {
            count.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let mut all = self.unanswered.write();
        // Endpoints that are gone and have nothing in flight any more are forgotten.
        if all.len() > 2 * self.endpoints.load(Ordering::Relaxed) {
            all.retain(|_, count| *count.get_mut() > 0);
        }
        *all.entry(endpoint.instance).or_default().get_mut() += 1;
    }

    fn answered(&self, endpoint: &Endpoint) {
        if let Some(count) = self.unanswered.read().get(&endpoint.instance) {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn observes(&self) -> bool {
        true
    }

    fn sees_at_once(&self) -> bool {
        self.limit().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::endpoints::test_support::endpoint;
    use crate::endpoints::{Reservation, ReservationTerms, SignalValues};

    #[test]
    fn it_goes_by_metrics_until_it_has_learned() {
        let detector = LearnedDetector::default();
        let e = Arc::new(endpoint("w", 1));
        let at = |ms| Timestamp::START + Duration::from_millis(ms);
        let updated_at = Some(at(0));
        e.signals.store(SignalValues { waiting: 10, updated_at, ..Default::default() });
        let saturation = || {
            detector.saturation(&[Candidate::new(&e)], Pending { requests: 1, tokens: 0 }, at(0))
        };
        assert_eq!(saturation(), 2.2);
        for n in 0..200 {
            let sent = Sent { ttft: Duration::from_millis(50), in_flight: 1, tokens: 10 };
            detector.observe(sent, at(n * 100));
        }
        let limit = detector.limit().unwrap();
        let _held: Vec<_> =
            (0..7).map(|_| Reservation::new(e.clone(), ReservationTerms::default())).collect();
        assert_eq!(saturation(), 8.0 / limit);
        let mut kept = vec![0];
        let candidates = [Candidate::new(&e)];
        detector.keep_free(&candidates, at(0), &mut kept);
        assert_eq!(kept, [0]);
        assert_eq!(detector.saturation(&[], Pending::default(), at(0)), 1.0);
    }
}
