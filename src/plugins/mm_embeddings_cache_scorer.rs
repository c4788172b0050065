//! `mm-embeddings-cache-scorer`: the more of the request's images, videos and sounds an endpoint
//! has encoded already, the better.

use super::mm_embeddings_cache_producer::EncoderCacheMatch;
use super::{Build, Capabilities, PluginType};
use crate::scheduling::{Cycle, DataKey, Scorer};

pub(super) const TYPE: PluginType =
    PluginType { name: "mm-embeddings-cache-scorer", aliases: &[], build };

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
