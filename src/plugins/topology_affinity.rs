//! What the filter and the scorer by topology share.

use super::topology_extractor::{Proximity, Topology};
use super::{Dependencies, Parameter, PluginPart};
use crate::config::{Fields, Placed};
use crate::scheduling::Cycle;

/// The extractor that is read where none is named.
const DEFAULT_EXTRACTOR: &str = "topology-extractor";

/// Which extractor is read, as a parameter.
pub(super) const EXTRACTOR: Parameter = Parameter::plugin(
    "topologyProducerName",
    "topology extractor",
    "the plugin that knows where endpoints are",
)
.default("topology-extractor");

/// Where endpoints are, beside the one that an earlier stage chose.
#[derive(Debug)]
pub(super) struct Neighbourhood(PluginPart<Topology>);

impl Neighbourhood {
    /// Reads which extractor is meant. Without one no endpoint is anywhere, which is said and
    /// no error, as in llm-d-router main at ebab6879.
    pub(super) fn read(p: &mut Fields<'_>, dependencies: &mut Dependencies) -> Self {
        let given = p.placed_string("topologyProducerName");
        let default = || Placed {
            value: DEFAULT_EXTRACTOR.to_owned(),
            at: p.at(),
            field: p.field("topologyProducerName"),
        };
        let name = match given.filter(|name| !name.value.is_empty()) {
            Some(given) => given.map(str::to_owned),
            None => default(),
        };
        Self(dependencies.plugin_that(name, "topology extractor", |_| true))
    }

    /// How near a candidate is to the endpoint that an earlier stage chose; `None` where no stage
    /// did.
    pub(super) fn of<'a>(&'a self, cycle: &Cycle<'a>) -> Option<impl Fn(u32) -> Proximity + 'a> {
        let topology = self.0.get()?;
        let candidates = cycle.candidates;
        let peer = candidates.get(cycle.peer? as usize)?.endpoint;
        Some(move |candidate: u32| match candidates.get(candidate as usize) {
            Some(candidate) => topology.proximity(peer, candidate.endpoint),
            None => Proximity::Apart,
        })
    }
}
