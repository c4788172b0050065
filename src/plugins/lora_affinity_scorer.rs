//! `lora-affinity-scorer`: prefers workers that have the requested adapter loaded, then those
//! with room for one more.

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::endpoints::LoraSignals;
use crate::scheduling::{Cycle, Scorer};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "lora-affinity-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "GIE v1.0",
    summary: "prefers endpoints that have the requested LoRA adapter",
    formula: "active: 1; room for another: 0.8; awaited: 0.6; else 0",
    parameters: Parameters::Ignored,
};

#[derive(Debug)]
struct LoraAffinityScorer;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::scorer(LoraAffinityScorer).reading(Needs { lora: true, ..Needs::default() })
}

impl Scorer for LoraAffinityScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        for (score, &c) in scores.iter_mut().zip(candidates) {
            let lora = cycle.candidates[c as usize].endpoint.signals.lora();
            *score = lora.as_ref().map_or(0.0, |lora| rate(lora, &cycle.request.target_model));
        }
    }
}

/// Room is asked for before the waiting adapters are, as in llm-d-router main at ebab6879: a
/// worker that is about to load the adapter and has room for another counts as one with room.
fn rate(lora: &LoraSignals, adapter: &str) -> f64 {
    if lora.running.iter().any(|a| a == adapter) {
        1.0
    } else if lora.running.len() + lora.waiting.len() < lora.max as usize {
        0.8
    } else if lora.waiting.iter().any(|a| a == adapter) {
        0.6
    } else {
        0.0
    }
}
