//! Random numbers of the kinds that workloads are made of.

/// A seeded source.
#[derive(Clone, Debug)]
pub(super) struct Random(fastrand::Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// From an exponential distribution: the pauses between events that know nothing of each
    /// other.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.0.f64()).ln() * mean
    }

    /// From a log-normal distribution with this median; `sigma` is the deviation of the
    /// logarithm. Lengths of texts are about so.
    pub(super) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        // Box and Muller's transform; the other normal number it gives is not needed.
        let radius = (-2.0 * (1.0 - self.0.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.0.f64()).cos();
        median * (sigma * normal).exp()
    }

    /// A log-normal length in tokens, between 1 and `max`.
    pub(super) fn length(&mut self, median: f64, sigma: f64, max: u32) -> u32 {
        (self.log_normal(median, sigma).round() as u32).clamp(1, max.max(1))
    }

    /// How many events until one that has probability `1 / mean`; at least 1.
    pub(super) fn geometric(&mut self, mean: f64) -> u32 {
        let p = 1.0 / mean.max(1.0);
        let mut n = 1;
        while self.0.f64() >= p && n < 10_000 {
            n += 1;
        }
        n
    }

    /// From 0 to 1, 1 excluded.
    pub(super) fn share(&mut self) -> f64 {
        self.0.f64()
    }

    /// A whole number below `n`, which must not be 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0.usize(..n)
    }

    /// A seed for another source.
    pub(super) fn seed(&mut self) -> u64 {
        self.0.u64(..)
    }
}

/// Popularity by Zipf's law: item `i` of `n` has weight `1 / (i + 1)^exponent`.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(super) fn new(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=n.max(1))
            .map(|i| {
                sum += (i as f64).powf(-exponent);
                sum
            })
            .collect();
        Self { cumulative }
    }

    pub(super) fn draw(&self, random: &mut Random) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(1.0);
        let at = random.0.f64() * total;
        self.cumulative.partition_point(|&c| c <= at).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 20_000;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < want * 0.06, "{got} is not near {want}");
    }

    #[test]
    fn distributions_have_their_means() {
        let mut r = Random::new(7);
        near((0..N).map(|_| r.exponential(3.0)).sum::<f64>() / N as f64, 3.0);
        near((0..N).map(|_| f64::from(r.geometric(5.0))).sum::<f64>() / N as f64, 5.0);
        let mut lengths: Vec<u32> = (0..N).map(|_| r.length(200.0, 0.8, 100_000)).collect();
        lengths.sort_unstable();
        near(f64::from(lengths[N / 2]), 200.0);
        // One standard deviation above the median is the 84th percentile.
        near(f64::from(lengths[N * 8413 / 10_000]), 200.0 * 0.8f64.exp());
    }

    #[test]
    fn zipf_prefers_the_first() {
        let (zipf, mut r) = (Zipf::new(3, 1.0), Random::new(7));
        let mut counts = [0.0; 3];
        for _ in 0..N {
            counts[zipf.draw(&mut r)] += 1.0 / N as f64;
        }
        for (got, want) in counts.into_iter().zip([6.0 / 11.0, 3.0 / 11.0, 2.0 / 11.0]) {
            near(got, want);
        }
        assert_eq!(Zipf::new(0, 1.0).draw(&mut r), 0);
    }
}
