//! `topology-affinity-scorer`: prefers endpoints near the one that an earlier stage chose.

use super::topology_affinity::{self, Neighbourhood};
use super::topology_extractor::Proximity;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Scorer};

pub(super) const TYPE: PluginType =
    PluginType { name: "topology-affinity-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "the nearer to the endpoint that an earlier stage chose, the better",
    formula: "same host: 1; rack: 0.2; zone: 0.05; region: 0.02; else 0",
    parameters: Parameters::Listed(&[topology_affinity::EXTRACTOR]),
};

#[derive(Debug)]
struct TopologyAffinityScorer(Neighbourhood);

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let neighbourhood = Neighbourhood::read(&mut p, build.dependencies);
    p.finish();
    Capabilities::scorer(TopologyAffinityScorer(neighbourhood))
}

impl Scorer for TopologyAffinityScorer {
    /// By the nearest place they share (llm-d-router main at ebab6879); 0 for all where no earlier
    /// stage chose.
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let Some(proximity) = self.0.of(cycle) else { return };
        for (score, &c) in scores.iter_mut().zip(candidates) {
            *score = match proximity(c) {
                Proximity::Host => 1.0,
                Proximity::Rack => 0.2,
                Proximity::Zone => 0.05,
                Proximity::Region => 0.02,
                Proximity::Apart => 0.0,
            };
        }
    }
}
