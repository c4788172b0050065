//! `precise-prefix-cache-producer`: how much of the prompt each candidate says it holds.

use super::precise_prefix_cache::{Generation, PreciseCache, PreciseSettings};
use super::{Build, Capabilities, PluginType};

pub(super) const TYPE: PluginType =
    PluginType { name: "precise-prefix-cache-producer", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let settings = PreciseSettings::read(&mut p, Generation::Producer);
    p.finish();
    let cache =
        PreciseCache::new(build.name, settings, build.dependencies, build.ids, build.hash_key);
    cache.into_parts(Capabilities::default())
}
