//! `queue-scorer`: the shorter a worker's waiting queue among the candidates, the better.

use super::min_max::fewest_is_best;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scheduling::{Cycle, Scorer};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "queue-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "GIE v0.5",
    summary: "the shorter the waiting queue, the better",
    formula: "(max q - q)/(max q - min q) over the candidates; all equal: 1",
    parameters: Parameters::Ignored,
};

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
