//! `round-robin-fairness-policy`: fairness ids take turns.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::flow_control::{FairnessPolicy, RoundRobin};

pub(super) const TYPE: PluginType =
    PluginType { name: "round-robin-fairness-policy", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::FairnessPolicy],
    stability: Stability::Beta,
    since: "GIE v1.4",
    summary: "the flows of a band take turns",
    formula: "",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn FairnessPolicy>(Arc::new(RoundRobin))
}
