//! Latency histograms and what is told of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies in nanoseconds, to three significant digits; grows with the largest.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    pub fn new() -> Self {
        // The only failure of this constructor is a digit count above 5.
        Self(Histogram::new(3).expect("three digits are supported"))
    }

    pub fn record(&mut self, latency: Duration) {
        self.record_nanos(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn record_nanos(&mut self, nanos: u64) {
        self.0.record(nanos).expect("a histogram that resizes takes any value");
    }

    pub fn merge(&mut self, other: &Self) {
        // Adding fails only where the target can neither hold nor grow to a value; it grows.
        self.0.add(&other.0).expect("a histogram that resizes takes any value");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value that a share `q` (0 to 1) of latencies does not exceed, in milliseconds.
    pub fn quantile_ms(&self, q: f64) -> f64 {
        self.0.value_at_quantile(q) as f64 / 1e6
    }

    pub fn summary(&self) -> Percentiles {
        Percentiles {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1e6,
            p50_ms: self.quantile_ms(0.50),
            p90_ms: self.quantile_ms(0.90),
            p99_ms: self.quantile_ms(0.99),
            max_ms: self.0.max() as f64 / 1e6,
        }
    }

    /// `(quantile, milliseconds)` from the median up towards the maximum, for a plot over
    /// "nines": each step halves what is left above.
    pub fn tail(&self) -> Vec<(f64, f64)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        self.0
            .iter_quantiles(2)
            .map(|v| (v.quantile(), v.value_iterated_to() as f64 / 1e6))
            .filter(|(q, _)| *q < 1.0)
            .collect()
    }
}

/// The usual figures of a latency distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    pub count: u64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut a = Latencies::new();
        let mut b = Latencies::new();
        for ms in 1..=50 {
            a.record(Duration::from_millis(ms));
            b.record(Duration::from_millis(ms + 50));
        }
        a.merge(&b);
        let s = a.summary();
        let near = |got: f64, want: f64| assert!((got - want).abs() < want * 0.002, "{got} {want}");
        assert_eq!(s.count, 100);
        near(s.p50_ms, 50.0);
        near(s.p90_ms, 90.0);
        near(s.p99_ms, 99.0);
        near(s.max_ms, 100.0);
        near(s.mean_ms, 50.5);
        assert!(a.tail().windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 <= w[1].1));
    }

    #[test]
    fn an_empty_histogram_has_zeros() {
        let s = Latencies::new().summary();
        assert_eq!((s.count, s.p99_ms, s.max_ms), (0, 0.0, 0.0));
        assert!(Latencies::new().tail().is_empty());
    }
}
