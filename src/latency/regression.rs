//! Regression that learns one observation at a time and forgets old ones.

/// A linear model with coefficients that are never negative, fitted to relative errors.
///
/// It keeps the normal equations of weighted least squares, decayed with every observation, and
/// solves them by coordinate descent from where it stood (Lawson and Hanson's non-negative least
/// squares, solved as in Franc, Hlavac and Navara 2005). Against the textbook's recursive least
/// squares with forgetting this cannot wind up: there is no inverse that grows while the traffic
/// stays the same. Terms that are never negative, with coefficients that are never negative, give
/// predictions that are never negative and never fall when load rises, also far from what was
/// seen.
///
/// An observation `y` predicted as `p` is weighted so that it pulls by `ln(y / p)`, limited to
/// [`MAX_PULL`]: a wait of ten seconds counts as much as one of ten milliseconds, twice too much
/// as much as half, and no observation counts without limit.
#[derive(Clone, Debug)]
pub(super) struct Regression<const N: usize> {
    /// Weighted products of terms.
    products: [[f64; N]; N],
    /// Weighted products of terms and targets.
    targets: [f64; N],
    coefficients: [f64; N],
    learnt: u64,
    /// What is left of an observation's weight after the next one.
    decay: f64,
}

/// Most that one observation pulls, as a logarithm of a ratio.
const MAX_PULL: f64 = 1.0;
/// Observations that are weighted by what was observed, before predictions mean anything.
const FIRST: u64 = 50;
/// Pull of each coefficient towards zero, against what its term has seen.
const RIDGE: f64 = 1e-3;
/// Rounds of coordinate descent at each solution; the next goes on where this one ended.
const ROUNDS: usize = 10;
/// Least prediction that a weight is made from, as a share of what was observed: while next to
/// nothing is predicted, everything would weigh next to infinitely.
const LEAST_SHARE: f64 = 0.125;

/// The sum of `coefficients` times `terms`.
pub(super) fn predict<const N: usize>(coefficients: &[f64; N], terms: &[f64; N]) -> f64 {
    coefficients.iter().zip(terms).map(|(c, t)| c * t).sum()
}

impl<const N: usize> Regression<N> {
    /// One that has half forgotten what was `half_life` observations ago.
    pub(super) fn new(half_life: f64) -> Self {
        Self {
            products: [[0.0; N]; N],
            targets: [0.0; N],
            coefficients: [0.0; N],
            learnt: 0,
            decay: 0.5f64.powf(1.0 / half_life),
        }
    }

    /// As of the last [`Self::solve`].
    pub(super) fn coefficients(&self) -> &[f64; N] {
        &self.coefficients
    }

    /// Observations so far.
    pub(super) fn learnt(&self) -> u64 {
        self.learnt
    }

    /// Takes note that `target` (finite, above 0) came of `terms` (finite, not negative): O(N^2).
    pub(super) fn learn(&mut self, terms: &[f64; N], target: f64) {
        let predicted = predict(&self.coefficients, terms).max(LEAST_SHARE * target);
        let weight = self.limited(terms, weight(predicted, target, self.learnt < FIRST));
        for (i, row) in self.products.iter_mut().enumerate() {
            for (product, term) in row.iter_mut().zip(terms) {
                *product = *product * self.decay + weight * terms[i] * term;
            }
        }
        for (sum, term) in self.targets.iter_mut().zip(terms) {
            *sum = *sum * self.decay + weight * term * target;
        }
        self.learnt = self.learnt.saturating_add(1);
    }

    /// `weight`, or less where the observation would weigh more in one term than all before it:
    /// one broken counter must not outweigh thousands of requests.
    fn limited(&self, terms: &[f64; N], weight: f64) -> f64 {
        terms.iter().enumerate().fold(weight, |weight, (i, &term)| {
            let limit = self.products[i][i] + 1.0;
            if weight * term * term > limit { limit / (term * term) } else { weight }
        })
    }

    /// Fits the coefficients to what was learnt: O(N^2).
    pub(super) fn solve(&mut self) {
        for _ in 0..ROUNDS {
            for i in 0..N {
                let own = self.products[i][i];
                if own <= 0.0 {
                    continue;
                }
                let others =
                    predict(&self.coefficients, &self.products[i]) - own * self.coefficients[i];
                let best = (self.targets[i] - others) / (own * (1.0 + RIDGE));
                if best.is_finite() {
                    self.coefficients[i] = best.max(0.0);
                }
            }
        }
    }
}

/// The weight that makes the pull of an observation on the fit, `weight * (target - predicted)`
/// in units of `1 / predicted`, the logarithm of `target / predicted`.
fn weight(predicted: f64, target: f64, first: bool) -> f64 {
    if first {
        return 1.0 / (target * target);
    }
    let difference = target - predicted;
    let pull = (target / predicted).ln().clamp(-MAX_PULL, MAX_PULL);
    if difference.abs() < 1e-6 * predicted {
        1.0 / (predicted * predicted)
    } else {
        pull / (predicted * difference)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `y = 5 + 20 a + 0 b`, with noise of 10 %.
    fn taught(model: &mut Regression<3>, n: usize, rng: &mut fastrand::Rng) {
        for i in 0..n {
            let (a, b) = (rng.f64() * 4.0, rng.f64());
            model.learn(&[1.0, a, b], (5.0 + 20.0 * a) * (0.9 + 0.2 * rng.f64()));
            if i % 16 == 0 {
                model.solve();
            }
        }
    }

    fn worst_error(model: &Regression<3>) -> f64 {
        [0.1, 1.0, 3.0]
            .into_iter()
            .map(|a| predict(model.coefficients(), &[1.0, a, 0.5]) / (5.0 + 20.0 * a) - 1.0)
            .fold(0.0, |worst: f64, e| worst.max(e.abs()))
    }

    #[test]
    fn finds_what_the_target_is_made_of() {
        let mut model = Regression::new(500.0);
        taught(&mut model, 1000, &mut fastrand::Rng::with_seed(1));
        assert!(worst_error(&model) < 0.05, "{model:?}");
    }

    #[test]
    fn follows_a_change() {
        let rng = &mut fastrand::Rng::with_seed(2);
        let mut model = Regression::new(200.0);
        for _ in 0..2000 {
            let a = rng.f64() * 4.0;
            model.learn(&[1.0, a, 0.0], 50.0 + 60.0 * a);
        }
        model.solve();
        taught(&mut model, 3000, rng);
        assert!(worst_error(&model) < 0.1, "{model:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whatever finite observations came before, ordinary ones put it right again, and
        /// meanwhile it never predicts nonsense.
        #[test]
        fn nothing_poisons_it_for_good(
            garbage in proptest::collection::vec((0.0..1e9f64, 0.0..1e9f64, 1e-6..1e7f64), 0..12),
            seed in any::<u64>(),
        ) {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let mut model = Regression::new(100.0);
            taught(&mut model, 200, rng);
            for (a, b, y) in garbage {
                model.learn(&[1.0, a, b], y);
                model.solve();
                prop_assert!(model.coefficients().iter().all(|c| c.is_finite() && *c >= 0.0));
            }
            taught(&mut model, 3000, rng);
            prop_assert!(worst_error(&model) < 0.15, "{:?}", model);
        }
    }
}
