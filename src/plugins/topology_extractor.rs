//! `topology-extractor`: where endpoints are: on which host, in which rack, zone and region, by
//! their labels.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::endpoints::{Endpoint, Labels};

pub(super) const TYPE: PluginType =
    PluginType { name: "topology-extractor", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Extractor],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "where endpoints are, by their labels",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::text("hostname", "label with the host").default("kubernetes.io/hostname"),
        Parameter::text("rack", "label with the rack").default("topology.kubernetes.io/rack"),
        Parameter::text("zone", "label with the zone").default("topology.kubernetes.io/zone"),
        Parameter::text("region", "label with the region").default("topology.kubernetes.io/region"),
    ]),
};

/// Which labels say where an endpoint is.
#[derive(Debug)]
pub(super) struct Topology {
    hostname: String,
    rack: String,
    zone: String,
    region: String,
}

/// How near two endpoints are, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proximity {
    Host,
    Rack,
    Zone,
    Region,
    /// They have no place in common, or nothing is known of it.
    Apart,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let mut label = |name: &'static str, default: &str| {
        p.string(name).filter(|key| !key.is_empty()).unwrap_or(default).to_owned()
    };
    // The defaults are Kubernetes's, but for the rack, for which it has none.
    let topology = Topology {
        hostname: label("hostname", "kubernetes.io/hostname"),
        rack: label("rack", "topology.kubernetes.io/rack"),
        zone: label("zone", "topology.kubernetes.io/zone"),
        region: label("region", "topology.kubernetes.io/region"),
    };
    p.finish();
    Capabilities::default().with(Arc::new(topology))
}

impl Topology {
    /// The nearest place that two endpoints share.
    pub(super) fn proximity(&self, one: &Endpoint, other: &Endpoint) -> Proximity {
        let (ours, theirs) = (one.labels(), other.labels());
        let share = |key: &str| is_shared(ours.get(key), theirs.get(key));
        if self.share_host((one, &ours), (other, &theirs)) {
            Proximity::Host
        } else if share(&self.rack) {
            Proximity::Rack
        } else if share(&self.zone) {
            Proximity::Zone
        } else if share(&self.region) {
            Proximity::Region
        } else {
            Proximity::Apart
        }
    }

    /// A pod without the label is where `spec.hostname` says, as in llm-d-router main at ebab6879;
    /// and two pods without are on one host where they have the same node.
    fn share_host(&self, one: (&Endpoint, &Labels), other: (&Endpoint, &Labels)) -> bool {
        let label = |(_, labels): (_, &'_ Labels)| labels.get(&self.hostname).cloned();
        let (ours, theirs) = (label(one), label(other));
        let (here, there) = (&one.0.spec.placement, &other.0.spec.placement);
        let by_node = ours.is_none() && theirs.is_none();
        let ours = ours.or_else(|| here.hostname.clone());
        let theirs = theirs.or_else(|| there.hostname.clone());
        is_shared(ours.as_ref(), theirs.as_ref())
            || (by_node && here.node_ip.is_some() && here.node_ip == there.node_ip)
    }
}

fn is_shared(ours: Option<&String>, theirs: Option<&String>) -> bool {
    ours.is_some_and(|place| !place.is_empty() && Some(place) == theirs)
}
