//! `slo-deadline-ordering-policy`: whose first token is due first goes first.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::flow_control::{OrderingPolicy, SloDeadline};

pub(super) const TYPE: PluginType =
    PluginType { name: "slo-deadline-ordering-policy", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::OrderingPolicy],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "the request whose x-llm-d-slo-ttft-ms ends first is next",
    formula: "",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn OrderingPolicy>(Arc::new(SloDeadline))
}
