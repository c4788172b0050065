//! `mm-embeddings-cache-scorer`: the more of the request's images, videos and sounds an endpoint
//! has encoded already, the better.

use super::mm_embeddings_cache_producer::EncoderCacheMatch;
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, DataKey, Scorer};

pub(super) const TYPE: PluginType =
    PluginType { name: "mm-embeddings-cache-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "the more of the request's media an endpoint has encoded already, the better",
    formula: "items sent there before / items; 0 without any",
    parameters: Parameters::Listed(&[Parameter::plugin(
        "producerName",
        "producer of encoder cache matches",
        "whose matches are read; without it the default producer's",
    )]),
};

#[derive(Debug)]
struct MmEmbeddingsCacheScorer {
    found: DataKey<EncoderCacheMatch>,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let found = build.dependencies.read(p.placed_string("producerName"));
    p.finish();
    Capabilities::scorer(MmEmbeddingsCacheScorer { found })
}

impl Scorer for MmEmbeddingsCacheScorer {
    /// The matched share of the items; 0 for requests without any (llm-d-router main at
    /// ebab6879).
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let Some(found) = cycle.data.get(self.found) else { return };
        for (score, &c) in scores.iter_mut().zip(candidates) {
            *score = found.ratio(c);
        }
    }
}
