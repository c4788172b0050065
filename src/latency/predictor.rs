//! One pool's model as its users hold it: read by every request, taught by every answer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::correction::{EndpointCorrection, Factor};
use super::error_estimate::ErrorEstimate;
use super::features::{Features, TPOT_TERMS, TTFT_TERMS};
use super::regression::{Regression, predict};

/// Observations of a kind before anything is predicted of it.
pub const MIN_OBSERVATIONS: u64 = 100;
/// After so many further observations, an observation counts half.
const HALF_LIFE: f64 = 2000.0;
/// Observations that are learnt together.
const BATCH: usize = 16;
/// Observations that wait to be learnt at most; what comes beyond is dropped.
const MAX_PENDING: usize = 1024;
/// Observed times in milliseconds outside of this are no latencies.
const PLAUSIBLE_MS: std::ops::RangeInclusive<f64> = 1e-3..=3.6e6;

/// What a request would see at an endpoint. `None` where too little was learnt to say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Time to the first token, milliseconds.
    pub ttft_ms: Option<f64>,
    /// Mean time between the tokens of the answer, milliseconds.
    pub tpot_ms: Option<f64>,
}

/// Something that was observed of a request.
#[derive(Clone, Debug)]
pub struct Observation {
    /// As they were when its endpoint was chosen.
    pub features: Features,
    /// That endpoint's.
    pub correction: Arc<EndpointCorrection>,
    pub latency: Latency,
}

/// Milliseconds from the pick to the first token, or between the tokens after it on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    Ttft(f64),
    Tpot(f64),
}

/// How far off the predictions were of late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    pub ttft: ErrorEstimate,
    pub tpot: ErrorEstimate,
}

/// The model of a pool.
///
/// [`Self::predict`] reads one published set of coefficients and the endpoint's own factors: no
/// lock, a few dozen multiplications. [`Self::observe`] puts an observation into a small queue;
/// the caller that fills it learns the batch, unless another one is at it.
#[derive(Debug, Default)]
pub struct LatencyPredictor {
    published: ArcSwap<Published>,
    pending: Mutex<Vec<Observation>>,
    learner: Mutex<Learner>,
}

#[derive(Clone, Debug, Default)]
struct Published {
    ttft: Option<[f64; TTFT_TERMS]>,
    tpot: Option<[f64; TPOT_TERMS]>,
    errors: Errors,
}

#[derive(Debug)]
struct Learner {
    ttft: Regression<TTFT_TERMS>,
    tpot: Regression<TPOT_TERMS>,
    errors: Errors,
}

impl Default for Learner {
    fn default() -> Self {
        Self {
            ttft: Regression::new(HALF_LIFE),
            tpot: Regression::new(HALF_LIFE),
            errors: Errors::default(),
        }
    }
}

impl LatencyPredictor {
    pub fn new() -> Self {
        Self::default()
    }

    /// What a request of these features would see at the endpoint that `correction` belongs to.
    pub fn predict(&self, features: &Features, correction: &EndpointCorrection) -> Prediction {
        let published = self.published.load();
        let ttft = published.ttft.as_ref().map(|c| predict(c, &features.ttft_terms()));
        let tpot = published.tpot.as_ref().map(|c| predict(c, &features.tpot_terms()));
        Prediction {
            ttft_ms: ttft.map(|ms| ms * correction.ttft.get()),
            tpot_ms: tpot.map(|ms| ms * correction.tpot.get()),
        }
    }

    /// Takes note of what a request saw. Latencies that are not finite, not above a microsecond
    /// or above an hour are ignored.
    pub fn observe(&self, observation: Observation) {
        let (Latency::Ttft(ms) | Latency::Tpot(ms)) = observation.latency;
        if !PLAUSIBLE_MS.contains(&ms) {
            return;
        }
        {
            let mut pending = self.pending.lock();
            if pending.len() < MAX_PENDING {
                pending.push(observation);
            }
            if pending.len() < BATCH {
                return;
            }
        }
        let Some(mut learner) = self.learner.try_lock() else { return };
        let batch = std::mem::take(&mut *self.pending.lock());
        for observation in &batch {
            learner.learn(observation);
        }
        self.published.store(Arc::new(learner.solve()));
    }

    /// True as soon as TTFTs are predicted.
    pub fn is_ready(&self) -> bool {
        self.published.load().ttft.is_some()
    }

    /// How far off predictions were of late, by what was observed of requests since.
    pub fn errors(&self) -> Errors {
        self.published.load().errors
    }
}

impl Learner {
    fn learn(&mut self, observation: &Observation) {
        let Observation { features, correction, latency } = observation;
        match *latency {
            Latency::Ttft(ms) => {
                let terms = features.ttft_terms();
                learn(&mut self.ttft, &terms, &correction.ttft, ms, &mut self.errors.ttft);
            }
            Latency::Tpot(ms) => {
                let terms = features.tpot_terms();
                learn(&mut self.tpot, &terms, &correction.tpot, ms, &mut self.errors.tpot);
            }
        }
    }

    fn solve(&mut self) -> Published {
        self.ttft.solve();
        self.tpot.solve();
        Published { ttft: ready(&self.ttft), tpot: ready(&self.tpot), errors: self.errors }
    }
}

fn ready<const N: usize>(model: &Regression<N>) -> Option<[f64; N]> {
    (model.learnt() >= MIN_OBSERVATIONS).then_some(*model.coefficients())
}

/// Teaches the model what it would have been at an endpoint like all others, and the endpoint's
/// factor what was particular to it.
fn learn<const N: usize>(
    model: &mut Regression<N>,
    terms: &[f64; N],
    factor: &Factor,
    observed: f64,
    error: &mut ErrorEstimate,
) {
    let predicted = predict(model.coefficients(), terms);
    if model.learnt() >= MIN_OBSERVATIONS && predicted > 0.0 {
        error.observe(predicted * factor.get(), observed);
        factor.observe(predicted, observed);
    }
    model.learn(terms, observed / factor.get());
}
