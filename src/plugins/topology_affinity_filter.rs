//! `topology-affinity-filter`: keeps endpoints near the one that an earlier stage chose: a prefill
//! endpoint on the decode endpoint's host, say.

use super::topology_affinity::{self, Neighbourhood};
use super::topology_extractor::Proximity;
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "topology-affinity-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "endpoints near the one that an earlier stage chose",
    formula: "all where none is near enough, or no stage chose",
    parameters: Parameters::Listed(&[
        Parameter::one_of(
            "minAffinity",
            &["host", "rack", "zone", "region"],
            "the place that has to be shared, or a nearer one",
        )
        .default("host"),
        topology_affinity::EXTRACTOR,
    ]),
};

#[derive(Debug)]
struct TopologyAffinityFilter {
    neighbourhood: Neighbourhood,
    /// What is farther is dropped.
    farthest: Proximity,
}

const LEVELS: [(&str, Proximity); 4] = [
    ("host", Proximity::Host),
    ("rack", Proximity::Rack),
    ("zone", Proximity::Zone),
    ("region", Proximity::Region),
];

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let given = p.string("minAffinity").filter(|text| !text.is_empty()).unwrap_or("host");
    let farthest = LEVELS.iter().find(|(name, _)| *name == given).map(|(_, level)| *level);
    if farthest.is_none() {
        p.error("minAffinity", "must be one of host, rack, zone, region");
    }
    let neighbourhood = Neighbourhood::read(&mut p, build.dependencies);
    p.finish();
    let farthest = farthest.unwrap_or(Proximity::Host);
    Capabilities::filter(TopologyAffinityFilter { neighbourhood, farthest })
}

impl Filter for TopologyAffinityFilter {
    /// Keeps all where no earlier stage chose, or none of them is near enough (llm-d-router main
    /// at ebab6879).
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        let Some(proximity) = self.neighbourhood.of(cycle) else { return };
        let is_near = |c: u32| proximity(c) <= self.farthest;
        if candidates.iter().any(|&c| is_near(c)) {
            candidates.retain(|&c| is_near(c));
        }
    }

    fn depends_on_load(&self) -> bool {
        false
    }
}
