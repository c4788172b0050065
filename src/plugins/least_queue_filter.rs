//! `least-queue-filter` of GIE v0.5: keeps endpoints whose queue is among the shortest.

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scheduling::{Cycle, Filter};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "least-queue-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Removed(""),
    since: "GIE v0.5",
    summary: "endpoints whose queue is among the shortest",
    formula: "q ≤ min q + (max q - min q)/n, divided as integers, n endpoints",
    parameters: Parameters::Ignored,
};

#[derive(Debug)]
struct LeastQueueFilter;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::filter(LeastQueueFilter).reading(Needs { queue: true, ..Needs::default() })
}

impl Filter for LeastQueueFilter {
    fn wants(&self) -> String {
        "a queue among the shortest".to_owned()
    }

    /// Keeps queues from `min` to `min + (max - min) / n`, divided as integers, of `n` endpoints.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        let queue = |c: u32| cycle.candidates[c as usize].signals.waiting;
        let Some(min) = candidates.iter().map(|&c| queue(c)).min() else { return };
        let max = candidates.iter().map(|&c| queue(c)).max().unwrap_or(min);
        let n = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        candidates.retain(|&c| queue(c) <= min + (max - min) / n);
    }
}
