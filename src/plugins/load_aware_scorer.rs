//! `load-aware-scorer`: a worker's waiting queue against a threshold.

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, Scorer};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "load-aware-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "llm-d v0.2",
    summary: "the waiting queue against a threshold",
    formula: "0.5 · (1 - min(q, threshold)/threshold): 0.5 at most",
    parameters: Parameters::Listed(&[Parameter::integer(
        "threshold",
        "waiting requests that score 0; 0 and less is the default",
    )
    .unit("requests")
    .default("128")]),
};

const DEFAULT_THRESHOLD: u64 = 128;

#[derive(Debug)]
struct LoadAwareScorer {
    /// Waiting requests at which the score is 0.
    threshold: f64,
}

fn build(mut build: Build<'_, '_>) -> Capabilities {
    let threshold = parameters::positive(&mut build.parameters, "threshold", DEFAULT_THRESHOLD);
    build.parameters.finish();
    Capabilities::scorer(LoadAwareScorer { threshold: threshold as f64 })
        .reading(Needs { queue: true, ..Needs::default() })
}

impl Scorer for LoadAwareScorer {
    /// `0.5 * (1 - min(waiting, threshold) / threshold)`: 0.5 at best, not normalised (the same
    /// from llm-d-inference-scheduler v0.2.0 to llm-d-router main at ebab6879).
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        for (score, &c) in scores.iter_mut().zip(candidates) {
            let waiting = f64::from(cycle.candidates[c as usize].signals.waiting);
            *score = 0.5 * (1.0 - waiting.min(self.threshold) / self.threshold);
        }
    }
}
