//! `token-load-scorer`: the fewer tokens a worker has to work on, this request's included, the
//! better.

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, DataKey, ReadsAnswers, Scorer, TokenLoad};

pub(super) const TYPE: PluginType =
    PluginType { name: "token-load-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "the fewer tokens an endpoint has to work on, the better",
    formula: "1 - min(tokens in flight + this request's uncached ones, threshold)/threshold",
    parameters: Parameters::Listed(&[
        Parameter::integer(
            "queueThresholdTokens",
            "tokens that score 0; 0 and less is the default",
        )
        .unit("tokens")
        .default("4194304"),
        Parameter::in_flight_producer(),
    ]),
};

const DEFAULT_THRESHOLD: u64 = 4_194_304;

#[derive(Debug)]
struct TokenLoadScorer {
    load: DataKey<TokenLoad>,
    /// Tokens in flight at which the score is 0.
    threshold: f64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let threshold = parameters::positive(&mut p, "queueThresholdTokens", DEFAULT_THRESHOLD);
    let load = build.dependencies.read(parameters::in_flight_producer(&mut p));
    p.finish();
    // Tokens are in flight until the answer begins.
    Capabilities::scorer(TokenLoadScorer { load, threshold: threshold as f64 })
        .reading_answers(ReadsAnswers::FirstToken)
}

impl Scorer for TokenLoadScorer {
    /// `1 - min(load, threshold) / threshold`, where load is what is in flight plus what this
    /// request would add there (llm-d-router main at ebab6879).
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let own = cycle.data.get(self.load);
        for (score, &c) in scores.iter_mut().zip(candidates) {
            let own = own.map_or(0, |own| own.uncached(c));
            let load = cycle.candidates[c as usize].in_flight_tokens + i64::from(own);
            *score = 1.0 - (load.max(0) as f64).min(self.threshold) / self.threshold;
        }
    }
}
