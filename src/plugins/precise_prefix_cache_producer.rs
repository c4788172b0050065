//! `precise-prefix-cache-producer`: how much of the prompt each candidate says it holds.

use super::precise_prefix_cache::{Generation, PRODUCER_PARAMETERS, PreciseCache, PreciseSettings};
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability};

pub(super) const TYPE: PluginType =
    PluginType { name: "precise-prefix-cache-producer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Producer],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "how much of the prompt each endpoint says it holds, from KV-cache events",
    formula: "matched blocks, each by the weight of its tier, of all",
    parameters: Parameters::Listed(&PRODUCER_PARAMETERS),
};

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let settings = PreciseSettings::read(&mut p, Generation::Producer);
    p.finish();
    let cache =
        PreciseCache::new(build.name, settings, build.dependencies, build.ids, build.hash_key);
    cache.into_parts(Capabilities::default())
}
