//! `lora-affinity-filter` of GIE v0.5: keeps endpoints that have the requested adapter loaded, or
//! those with room for one more.

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Filter};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "lora-affinity-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Removed("lora-affinity-scorer"),
    since: "GIE v0.5",
    summary: "endpoints that have the requested adapter loaded, or those with room for one more",
    formula: "",
    parameters: Parameters::Listed(&[Parameter::number(
        "threshold",
        "how likely those that have it are kept where others have room",
    )
    .default("0.999")
    .at_least(0.0)
    .at_most(1.0)]),
};

const DEFAULT_THRESHOLD: f64 = 0.999;

#[derive(Debug)]
struct LoraAffinityFilter {
    /// How likely the endpoints that have the adapter are kept where others have room, 0 to 1.
    threshold: f64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let threshold = p.float("threshold").unwrap_or(DEFAULT_THRESHOLD);
    if !(0.0..=1.0).contains(&threshold) {
        p.error("threshold", format!("must be from 0 to 1, found {threshold}"));
    }
    p.finish();
    let signals = Needs { lora: true, ..Needs::default() };
    Capabilities::filter(LoraAffinityFilter { threshold }).reading(signals)
}

impl Filter for LoraAffinityFilter {
    fn wants(&self) -> String {
        "the adapter loaded, or room for it".to_owned()
    }

    /// Of endpoints with the adapter and endpoints with room, where there are both, the former are
    /// kept with the probability of the threshold; where there is neither, none is kept.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        let adapter = &cycle.request.target_model;
        let (mut loaded, mut with_room) = (Vec::new(), Vec::new());
        for &c in candidates.iter() {
            let lora = cycle.candidates[c as usize].endpoint.signals.lora();
            let Some(lora) = lora.as_deref() else { continue };
            if lora.running.contains(adapter) || lora.waiting.contains(adapter) {
                loaded.push(c);
            } else if lora.running.len() + lora.waiting.len() < lora.max as usize {
                with_room.push(c);
            }
        }
        let keeps_loaded = match (loaded.is_empty(), with_room.is_empty()) {
            (false, false) => cycle.with_rng(|rng| rng.f64()) < self.threshold,
            (is_empty, _) => !is_empty,
        };
        *candidates = if keeps_loaded { loaded } else { with_room };
    }
}
