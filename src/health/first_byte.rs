//! How long first bytes take in the pool.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::nanos;

/// Buckets per doubling of the time.
const PER_DOUBLING: f64 = 4.0;
/// Upper bound of the first bucket; the last one's is 2^20 times as long, 17 minutes.
const SHORTEST: Duration = Duration::from_millis(1);
const BUCKETS: usize = 81;
/// Once there are so many observations, all counts are halved: the pool's habits change.
const MANY: u64 = 2048;
/// Observations before anything is said.
const ENOUGH: u64 = 30;

/// Times to first byte of all endpoints of a pool; old ones fade.
#[derive(Debug)]
pub(super) struct FirstBytes {
    buckets: [AtomicU32; BUCKETS],
    count: AtomicU64,
}

impl Default for FirstBytes {
    fn default() -> Self {
        Self { buckets: [const { AtomicU32::new(0) }; BUCKETS], count: AtomicU64::new(0) }
    }
}

impl FirstBytes {
    /// Notes one; readers may see counts that do not quite add up, which does not matter.
    pub(super) fn note(&self, took: Duration) {
        let doublings = (nanos(took).max(1) as f64 / nanos(SHORTEST) as f64).log2();
        let bucket = (doublings * PER_DOUBLING).ceil().max(0.0) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
        if self.count.fetch_add(1, Relaxed) + 1 == MANY {
            let halved = |bucket: &AtomicU32| {
                let count = bucket.load(Relaxed);
                bucket.fetch_sub(count - count / 2, Relaxed);
                u64::from(count / 2)
            };
            self.count.store(self.buckets.iter().map(halved).sum(), Relaxed);
        }
    }

    /// The time within which the share `q` of them came, rounded up to its bucket's bound; `None`
    /// while little is known.
    pub(super) fn quantile(&self, q: f64) -> Option<Duration> {
        let counts: [u64; BUCKETS] =
            std::array::from_fn(|i| u64::from(self.buckets[i].load(Relaxed)));
        let total: u64 = counts.iter().sum();
        if total < ENOUGH {
            return None;
        }
        let mut left = (total as f64 * q).ceil() as u64;
        let bucket = counts.iter().position(|&count| {
            let reached = count >= left;
            left = left.saturating_sub(count);
            reached
        });
        let doublings = bucket.unwrap_or(BUCKETS - 1) as f64 / PER_DOUBLING;
        Some(SHORTEST.mul_f64(doublings.exp2()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_old_times_fade() {
        let times = FirstBytes::default();
        assert_eq!(times.quantile(0.99), None, "nothing is known");
        (1..=100).for_each(|i| times.note(Duration::from_millis(10 * i)));
        let ms = |q| times.quantile(q).map(|d| d.as_secs_f64() * 1e3).unwrap_or_default();
        assert!((500.0..=600.0).contains(&ms(0.5)), "{}", ms(0.5));
        assert!((990.0..=1200.0).contains(&ms(0.99)), "{}", ms(0.99));
        (0..20_000).for_each(|_| times.note(Duration::from_millis(20)));
        assert!((20.0..=24.0).contains(&ms(0.99)), "{}", ms(0.99));
        times.note(Duration::ZERO);
        times.note(Duration::MAX);
    }
}
