//! How far off predictions are, without keeping them.

/// Quantiles of the relative error `|predicted - observed| / observed`, followed one observation
/// at a time by stochastic approximation (Robbins and Monro 1951): each observation above the
/// estimate moves it up by a share of itself, each below moves it down, in the proportion at which
/// the two balance at the quantile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorEstimate {
    /// Half of the predictions are off by no more, as a share of what was observed.
    pub median: f64,
    /// Nine of ten predictions are off by no more.
    pub p90: f64,
    /// Observations behind the estimates.
    pub observations: u64,
}

/// How much an estimate moves by one observation.
const STEP: f64 = 0.02;
/// No estimate goes below it, since it moves in shares of itself, nor above it.
const LEAST: f64 = 1e-4;
const MOST: f64 = 1e3;

impl Default for ErrorEstimate {
    fn default() -> Self {
        Self { median: 0.1, p90: 0.3, observations: 0 }
    }
}

impl ErrorEstimate {
    /// Takes note of a prediction and what came of it, both finite and above 0.
    pub(super) fn observe(&mut self, predicted: f64, observed: f64) {
        let error = (predicted - observed).abs() / observed;
        // Large steps at first, so that the starting values are soon forgotten.
        let step = STEP.max(2.0 / (2.0 + self.observations as f64));
        self.median = moved(self.median, error, 0.5, step);
        self.p90 = moved(self.p90, error, 0.9, step);
        self.observations = self.observations.saturating_add(1);
    }
}

fn moved(estimate: f64, error: f64, quantile: f64, step: f64) -> f64 {
    let direction = if error > estimate { quantile } else { quantile - 1.0 };
    (estimate * (step * direction).exp()).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settles_on_the_quantiles() {
        let rng = &mut fastrand::Rng::with_seed(3);
        let mut estimate = ErrorEstimate::default();
        for _ in 0..5000 {
            // Errors evenly spread from 0 to 40 %.
            estimate.observe(100.0 * (1.0 + 0.4 * rng.f64()), 100.0);
        }
        assert!((0.15..0.25).contains(&estimate.median), "{estimate:?}");
        assert!((0.32..0.40).contains(&estimate.p90), "{estimate:?}");
    }
}
