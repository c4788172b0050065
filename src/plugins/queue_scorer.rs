//! `queue-scorer`: the shorter a worker's waiting queue among the candidates, the better.

use super::min_max::fewest_is_best;
use super::{Build, Capabilities, PluginType, parameters};
use crate::scheduling::{Cycle, Scorer};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType = PluginType { name: "queue-scorer", aliases: &[], build };

#[derive(Debug)]
struct QueueScorer;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::scorer(QueueScorer).reading(Needs { queue: true, ..Needs::default() })
}

impl Scorer for QueueScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        fewest_is_best(candidates, scores, |c| cycle.candidates[c as usize].signals.waiting);
    }
}
