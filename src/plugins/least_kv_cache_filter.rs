//! `least-kv-cache-filter` of GIE v0.5: keeps endpoints whose KV cache is among the least used.

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scheduling::{Cycle, Filter};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "least-kv-cache-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Removed(""),
    since: "GIE v0.5",
    summary: "endpoints whose KV cache is among the emptiest",
    formula: "kv ≤ min kv + (max kv - min kv)/n, n endpoints",
    parameters: Parameters::Ignored,
};

#[derive(Debug)]
struct LeastKvCacheFilter;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::filter(LeastKvCacheFilter).reading(Needs { kv: true, ..Needs::default() })
}

impl Filter for LeastKvCacheFilter {
    fn wants(&self) -> String {
        "a KV-cache use among the lowest".to_owned()
    }

    /// Keeps usages from `min` to `min + (max - min) / n` of `n` endpoints.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        let usage = |c: u32| cycle.candidates[c as usize].signals.kv_usage;
        let min = candidates.iter().map(|&c| usage(c)).fold(f64::INFINITY, f64::min);
        let max = candidates.iter().map(|&c| usage(c)).fold(f64::NEG_INFINITY, f64::max);
        let limit = min + (max - min) / candidates.len() as f64;
        candidates.retain(|&c| usage(c) <= limit);
    }
}
