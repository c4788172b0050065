//! `lmetric-scorer`: the fewer tokens the request adds to an endpoint, times the requests there,
//! the better. A type of our own, after "LMetric: Simple is Better" (arXiv 2603.15202): a product
//! of the two needs no weights, since factors cancel out when products are compared.

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, DataKey, PrefixMatch, Scorer, TokenLoad};

pub(super) const TYPE: PluginType =
    PluginType { name: "lmetric-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Own,
    since: "",
    summary: "the fewer tokens the request adds to an endpoint, times the requests there, the better",
    formula: "least x / x, x = max(uncached tokens, 16) · (n + 1) (arXiv 2603.15202)",
    parameters: Parameters::Listed(&[
        Parameter::prefix_producer(),
        Parameter::in_flight_producer(),
    ]),
};

/// The least that a request adds, tokens. A prompt that is cached as a whole still has its last
/// block computed; without it every such endpoint had a product of 0, however busy it is.
const LEAST_TOKENS: f64 = 16.0;

#[derive(Debug)]
struct LmetricScorer {
    load: DataKey<TokenLoad>,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    // The producer of what is in flight reads it; without one every prompt looks uncached.
    build.dependencies.read::<PrefixMatch>(parameters::prefix_producer(&mut p));
    let load = build.dependencies.read(parameters::in_flight_producer(&mut p));
    p.finish();
    Capabilities::scorer(LmetricScorer { load })
}

impl Scorer for LmetricScorer {
    /// The least product of all candidates over the candidate's own: 1 for the best, 0.5 for one
    /// with twice its product. The request itself counts as one of the batch, so that an idle
    /// endpoint with a long way to compute is not free. Requests are counted at the moment of the
    /// pick, not scraped.
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let load = cycle.data.get(self.load);
        for (score, &c) in scores.iter_mut().zip(candidates) {
            let new_tokens = f64::from(load.map_or(0, |load| load.uncached(c)));
            let batch = cycle.candidates[c as usize].in_flight_requests.max(0) as f64 + 1.0;
            *score = new_tokens.max(LEAST_TOKENS) * batch;
        }
        let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
        scores.iter_mut().for_each(|score| *score = least / *score);
    }
}
