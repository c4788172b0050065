//! How well a model says beforehand what samples show afterwards.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use super::traffic::Sample;
use crate::latency::{EndpointCorrection, Latency, LatencyPredictor, Observation, Prediction};
use crate::sim::Nanos;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Contestant {
    /// [`LatencyPredictor`].
    Model,
    /// The median of the last 500 requests, of all endpoints: knows nothing of the request.
    RecentMedian,
}

/// Relative errors of one contestant.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Errors {
    pub predictions: usize,
    pub median: f64,
    pub p90: f64,
}

/// What one contestant got wrong, by what it had to predict.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Verdict {
    pub ttft: Errors,
    pub tpot: Errors,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    FirstToken,
    Finished,
    Picked,
}

/// Goes through the samples as they happened: predicts each at its pick, learns from its first
/// token and its end. Counts errors of requests picked in the second half of the time only, so
/// that all contestants have learnt by then; what is counted was never seen before it is
/// predicted.
pub(super) fn judge(samples: &[Sample], contestant: Contestant) -> Verdict {
    let mut moments: Vec<(Nanos, Moment, usize)> = samples
        .iter()
        .enumerate()
        .flat_map(|(i, s)| {
            [
                (s.picked_at, Moment::Picked, i),
                (s.first_token_at, Moment::FirstToken, i),
                (s.finished_at, Moment::Finished, i),
            ]
        })
        .collect();
    moments.sort_unstable();
    let mut picks: Vec<Nanos> = samples.iter().map(|s| s.picked_at).collect();
    picks.sort_unstable();
    let middle = picks.get(picks.len() / 2).copied().unwrap_or(0);

    let mut predictor = Predictor::new(contestant, samples);
    let mut predictions = vec![Prediction::default(); samples.len()];
    for (_, moment, i) in moments {
        let sample = &samples[i];
        match moment {
            Moment::Picked => predictions[i] = predictor.predict(sample),
            Moment::FirstToken => predictor.observe(sample, Latency::Ttft(sample.ttft_ms())),
            Moment::Finished => {
                if let Some(ms) = sample.tpot_ms() {
                    predictor.observe(sample, Latency::Tpot(ms));
                }
            }
        }
    }
    let judged = || samples.iter().zip(&predictions).filter(|(s, _)| s.picked_at >= middle);
    Verdict {
        ttft: errors(judged().filter_map(|(s, p)| Some((p.ttft_ms?, s.ttft_ms())))),
        tpot: errors(judged().filter_map(|(s, p)| Some((p.tpot_ms?, s.tpot_ms()?)))),
    }
}

fn errors(pairs: impl Iterator<Item = (f64, f64)>) -> Errors {
    let mut all: Vec<f64> =
        pairs.filter(|(_, o)| *o > 0.0).map(|(p, o)| (p - o).abs() / o).collect();
    all.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| all.get((all.len() as f64 * q) as usize).copied().unwrap_or(f64::NAN);
    Errors { predictions: all.len(), median: at(0.5), p90: at(0.9) }
}

enum Predictor {
    Model { model: Box<LatencyPredictor>, corrections: Vec<Arc<EndpointCorrection>> },
    RecentMedian { ttft: Recent, tpot: Recent },
}

impl Predictor {
    fn new(contestant: Contestant, samples: &[Sample]) -> Self {
        let workers = samples.iter().map(|s| s.worker + 1).max().unwrap_or(0);
        match contestant {
            Contestant::Model => Self::Model {
                model: Box::default(),
                corrections: (0..workers).map(|_| Arc::default()).collect(),
            },
            Contestant::RecentMedian => {
                Self::RecentMedian { ttft: Recent::default(), tpot: Recent::default() }
            }
        }
    }

    fn predict(&self, sample: &Sample) -> Prediction {
        match self {
            Self::Model { model, corrections } => {
                model.predict(&sample.features, &corrections[sample.worker])
            }
            Self::RecentMedian { ttft, tpot } => {
                Prediction { ttft_ms: ttft.median, tpot_ms: tpot.median }
            }
        }
    }

    fn observe(&mut self, sample: &Sample, latency: Latency) {
        match self {
            Self::Model { model, corrections } => model.observe(Observation {
                features: sample.features,
                correction: Arc::clone(&corrections[sample.worker]),
                latency,
            }),
            Self::RecentMedian { ttft, tpot } => match latency {
                Latency::Ttft(ms) => ttft.push(ms),
                Latency::Tpot(ms) => tpot.push(ms),
            },
        }
    }
}

/// The median of what came last, worked out as often as the model is.
#[derive(Default)]
struct Recent {
    last: VecDeque<f64>,
    since: usize,
    median: Option<f64>,
}

impl Recent {
    fn push(&mut self, ms: f64) {
        self.last.push_back(ms);
        if self.last.len() > 500 {
            self.last.pop_front();
        }
        self.since += 1;
        if self.since >= 16 {
            self.since = 0;
            let mut sorted: Vec<f64> = self.last.iter().copied().collect();
            sorted.sort_unstable_by(f64::total_cmp);
            self.median = sorted.get(sorted.len() / 2).copied();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Features;

    /// Requests whose TTFT is 1 ms per 100 tokens and whose TPOT is 10 ms.
    fn samples() -> Vec<Sample> {
        let tokens = [200u64, 400, 3000];
        (0..2000)
            .map(|i| {
                let n = tokens[i % 3];
                let picked_at = i as u64 * 1_000_000_000;
                let first_token_at = picked_at + n * 10_000;
                Sample {
                    worker: 0,
                    features: Features { input_tokens: n as f64, ..Default::default() },
                    picked_at,
                    first_token_at,
                    finished_at: first_token_at + 90_000_000,
                    output_tokens: 10,
                }
            })
            .collect()
    }

    #[test]
    fn who_knows_the_request_is_better_than_who_does_not() {
        let model = judge(&samples(), Contestant::Model);
        let median = judge(&samples(), Contestant::RecentMedian);
        assert_eq!((model.ttft.predictions, median.ttft.predictions), (1000, 1000));
        assert!(model.ttft.p90 < 0.1 && model.tpot.p90 < 0.05, "{model:?}");
        assert!(median.ttft.p90 > 0.5 && median.tpot.p90 < 1e-6, "{median:?}");
    }
}
