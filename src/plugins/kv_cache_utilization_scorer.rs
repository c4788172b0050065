//! `kv-cache-utilization-scorer`: the emptier a worker's KV cache, the better.

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scheduling::{Cycle, Scorer};
use crate::scrape_config::Needs;

/// The alias is the type's name up to GIE v0.5.
pub(super) const TYPE: PluginType = PluginType {
    name: "kv-cache-utilization-scorer",
    aliases: &["kv-cache-scorer"],
    about: ABOUT,
    build,
};

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "GIE v1.0",
    summary: "the emptier the KV cache, the better",
    formula: "1 - kv",
    parameters: Parameters::Ignored,
};

#[derive(Debug)]
struct KvCacheUtilizationScorer;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::scorer(KvCacheUtilizationScorer).reading(Needs { kv: true, ..Needs::default() })
}

impl Scorer for KvCacheUtilizationScorer {
    /// `1 - usage`, not normalised (llm-d-router main at ebab6879). Usage that is not a number
    /// scores 0: a broken gauge must not look like an empty cache.
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        for (score, &c) in scores.iter_mut().zip(candidates) {
            *score = (1.0 - cycle.candidates[c as usize].signals.kv_usage).max(0.0);
        }
    }
}
