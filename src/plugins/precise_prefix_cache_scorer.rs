//! `precise-prefix-cache-scorer`: the more of the prompt a candidate says it holds, the better.
//!
//! Up to llm-d-router v0.8 it followed the engines itself; since v0.9 it is a name for
//! `prefix-cache-scorer` that reads the one `precise-prefix-cache-producer` there is, and follows
//! the engines itself only where there is none. A producer has to stand before the scorer in the
//! file to be found.

use super::precise_prefix_cache::{
    Generation, PRODUCER_KIND, PreciseCache, PreciseSettings, SCORER_PARAMETERS,
};
use super::prefix_cache_scorer::PrefixCacheScorer;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability};
use crate::config::Placed;

pub(super) const TYPE: PluginType =
    PluginType { name: "precise-prefix-cache-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Deprecated("prefix-cache-scorer"),
    since: "llm-d v0.3",
    summary: "the more of the prompt an endpoint says it holds, the better; reads the precise-prefix-cache-producer that stands before it, else follows the engines itself",
    formula: "matched/total blocks",
    parameters: Parameters::Listed(&SCORER_PARAMETERS),
};

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let settings = PreciseSettings::read(&mut p, Generation::Scorer);
    let producers: Vec<String> = build
        .dependencies
        .data()
        .iter()
        .filter(|slot| slot.kind == PRODUCER_KIND && slot.provided_by.is_some())
        .map(|slot| slot.producer.clone())
        .collect();
    if producers.len() > 1 {
        let message =
            "there is more than one precise-prefix-cache-producer; use prefix-cache-scorer";
        p.diagnostics().error(p.at(), p.path(), message);
    }
    p.finish();
    if let Some(name) = producers.first() {
        let name = Placed { value: name.as_str(), at: None, field: String::new() };
        let key = build.dependencies.read(Some(name));
        return Capabilities::scorer(PrefixCacheScorer::of_ratio(key));
    }
    let cache =
        PreciseCache::new(build.name, settings, build.dependencies, build.ids, build.hash_key);
    let scorer = Capabilities::scorer(PrefixCacheScorer::of_ratio(cache.key()));
    cache.into_parts(scorer)
}
