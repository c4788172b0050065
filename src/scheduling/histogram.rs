use std::sync::atomic::{AtomicU64, Ordering};

use super::MetricValue;

/// A histogram of plain atomics. One observation is a search among the bounds and two additions
/// that never retry, so requests on many cores do not wait for each other.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Observations per bucket; the last one is above all bounds.
    counts: Box<[AtomicU64]>,
    /// Sum of the observations in units of `1 / scale`.
    sum: AtomicU64,
    scale: f64,
}

/// The content of one or more histograms at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    pub bounds: &'static [f64],
    pub counts: Vec<u64>,
    pub sum: f64,
}

impl Histogram {
    /// For durations in seconds; the sum is kept in nanoseconds.
    pub fn seconds(bounds: &'static [f64]) -> Self {
        Self::with_scale(bounds, 1e9)
    }

    /// For bytes, tokens and other whole numbers.
    pub fn whole(bounds: &'static [f64]) -> Self {
        Self::with_scale(bounds, 1.0)
    }

    /// For other values; the sum is kept in units of `1 / scale`.
    pub fn with_scale(bounds: &'static [f64], scale: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0), scale }
    }

    /// Counts one value; a negative or undefined one counts as zero.
    pub fn observe(&self, value: f64) {
        let value = value.max(0.0);
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * self.scale).round() as u64, Ordering::Relaxed);
    }

    /// Adds values that were counted elsewhere by the same bounds, `sum` together.
    pub fn add(&self, counts: &[u32], sum: f64) {
        for (total, &count) in self.counts.iter().zip(counts).filter(|(_, count)| **count > 0) {
            total.fetch_add(count.into(), Ordering::Relaxed);
        }
        self.sum.fetch_add((sum * self.scale).round() as u64, Ordering::Relaxed);
    }

    /// An empty tally with this histogram's bounds.
    pub fn empty_tally(&self) -> Tally {
        Tally { bounds: self.bounds, counts: vec![0; self.counts.len()], sum: 0.0 }
    }

    /// Adds what was observed so far to `tally`, which has the same bounds.
    pub fn add_to(&self, tally: &mut Tally) {
        for (total, count) in tally.counts.iter_mut().zip(&self.counts) {
            *total += count.load(Ordering::Relaxed);
        }
        tally.sum += self.sum.load(Ordering::Relaxed) as f64 / self.scale;
    }

    /// What was observed so far.
    pub fn tally(&self) -> Tally {
        let mut tally = self.empty_tally();
        self.add_to(&mut tally);
        tally
    }
}

impl Tally {
    /// Adds another tally with the same bounds.
    pub fn add(&mut self, other: &Tally) {
        for (total, count) in self.counts.iter_mut().zip(&other.counts) {
            *total += count;
        }
        self.sum += other.sum;
    }

    /// Number of observations.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The same as a plugin publishes it.
    pub fn into_value(self) -> MetricValue {
        MetricValue::Histogram { bounds: self.bounds.to_vec(), counts: self.counts, sum: self.sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BOUNDS: &[f64] = &[0.1, 1.0, 10.0];

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        for (value, bucket) in [
            (0.0, 0),
            (0.1, 0),
            (0.11, 1),
            (1.0, 1),
            (10.0, 2),
            (10.5, 3),
            (-1.0, 0),
            (f64::NAN, 0),
        ] {
            let h = Histogram::seconds(BOUNDS);
            h.observe(value);
            let mut expected = vec![0; 4];
            expected[bucket] = 1;
            assert_eq!(h.tally().counts, expected, "{value}");
        }
    }

    #[test]
    fn sums_keep_their_unit_and_tallies_add_up() {
        let (a, b) = (Histogram::seconds(BOUNDS), Histogram::seconds(BOUNDS));
        a.observe(0.25);
        a.observe(2.0);
        b.observe(100.0);
        let mut both = a.tally();
        b.add_to(&mut both);
        assert_eq!(both.counts, [0, 1, 1, 1]);
        assert_eq!(both.total(), 3);
        assert!((both.sum - 102.25).abs() < 1e-6);
        let bytes = Histogram::whole(BOUNDS);
        bytes.observe(7.0);
        assert_eq!(bytes.tally().sum, 7.0);
    }
}
