//! How fast an endpoint is beside the others, whatever it has to do.

use std::time::Duration;

use crate::clock::Timestamp;

/// How far one answer moves the estimate towards itself.
const STEP: f64 = 0.1;
/// An answer that lies further away than this (a factor of 1.65) moves it no further than one
/// that lies so far: a few odd answers do not move it much, as with a median.
const FAR: f64 = 0.5;
/// Answers before an estimate is used.
const ENOUGH: u32 = 10;
/// An estimate without new answers loses half of what it says in this time.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// Differences smaller than this are noise: what is not clearly slower counts as fast.
const NOISE: f64 = 0.8;
/// The slowest that anything is taken to be.
const SLOWEST: f64 = 0.1;

/// The logarithm of the time to first byte per unit of work, averaged robustly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Speed {
    log: f64,
    answers: u32,
    at: Timestamp,
}

impl Speed {
    pub(super) fn note(&mut self, took: Duration, work: f64, now: Timestamp) {
        if !work.is_finite() || work <= 0.0 {
            return;
        }
        let log = (took.as_secs_f64().max(1e-6) / work).ln();
        // The first few answers are averaged evenly.
        let step = STEP.max(1.0 / f64::from(self.answers + 1));
        let far = if self.answers < ENOUGH { f64::INFINITY } else { FAR };
        self.log += step * (log - self.log).clamp(-far, far);
        self.answers = self.answers.saturating_add(1);
        self.at = now;
    }

    /// When the last answer came.
    pub(super) fn at(&self) -> Timestamp {
        self.at
    }

    /// The estimate, where it is one.
    pub(super) fn log(&self) -> Option<f64> {
        (self.answers >= ENOUGH).then_some(self.log)
    }
}

/// What endpoints are held against: the middle one of the logarithms, the faster of two.
pub(super) fn reference(logs: impl Iterator<Item = f64>) -> Option<f64> {
    let mut logs: Vec<f64> = logs.collect();
    let middle = logs.len().checked_sub(1)? / 2;
    Some(*logs.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// `speed / reference` of an estimate that was last renewed at `at`: 1 for as fast as the others,
/// 0.5 for one that takes twice as long. Between 0.1 and 1.
pub(super) fn factor(log: f64, at: Timestamp, reference: f64, now: Timestamp) -> f64 {
    let fade = (-now.since(at).as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
    let factor = ((reference - log) * fade).exp();
    if factor >= NOISE { 1.0 } else { factor.max(SLOWEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed_of(times_ms: impl Iterator<Item = f64>) -> Speed {
        let mut speed = Speed::default();
        times_ms.for_each(|ms| {
            speed.note(Duration::from_secs_f64(ms / 1e3), 100.0, Timestamp::START);
        });
        speed
    }

    #[test]
    fn twice_as_slow_is_a_half() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut around = |ms: f64| speed_of((0..200).map(|_| ms * (0.7 + 0.6 * rng.f64())));
        let fast: Vec<f64> = (0..3).filter_map(|_| around(100.0).log()).collect();
        let slow = around(200.0).log().unwrap_or_default();
        let all = reference(fast.iter().copied().chain([slow])).unwrap_or_default();
        let of = |log| factor(log, Timestamp::START, all, Timestamp::START);
        assert!(fast.iter().all(|&log| of(log) == 1.0));
        assert!((of(slow) - 0.5).abs() < 0.06, "{}", of(slow));
    }

    #[test]
    fn a_few_odd_answers_do_not_matter() {
        let clean = speed_of(std::iter::repeat_n(100.0, 100)).log().unwrap_or_default();
        let odd = speed_of((0..100).map(|i| if i % 20 == 10 { 30_000.0 } else { 100.0 }));
        let shift = odd.log().unwrap_or_default() - clean;
        assert!(shift.abs() < 0.1, "{shift}");
    }

    #[test]
    fn little_is_not_enough_and_old_estimates_fade() {
        assert_eq!(speed_of(std::iter::repeat_n(1.0, 9)).log(), None);
        let of = |seconds| factor(1.0, Timestamp::START, 0.0, Timestamp::START + seconds);
        assert!((of(Duration::ZERO) - (-1.0f64).exp()).abs() < 1e-9);
        assert!(of(Duration::from_secs(30)) > 0.6);
        assert_eq!(of(Duration::from_secs(120)), 1.0);
        assert_eq!(factor(9.0, Timestamp::START, 0.0, Timestamp::START), SLOWEST);
        assert_eq!(reference(std::iter::empty()), None);
        assert_eq!(reference([2.0, 1.0].into_iter()), Some(1.0), "the faster of two");
    }

    #[test]
    fn nonsense_is_not_taken_in() {
        let mut speed = speed_of(std::iter::repeat_n(100.0, 20));
        let before = speed;
        for work in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            speed.note(Duration::from_secs(1), work, Timestamp::START);
        }
        assert_eq!(speed, before);
    }
}
