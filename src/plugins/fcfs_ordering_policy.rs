//! `fcfs-ordering-policy`: who came first goes first.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::flow_control::{FirstCome, OrderingPolicy};

pub(super) const TYPE: PluginType =
    PluginType { name: "fcfs-ordering-policy", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::OrderingPolicy],
    stability: Stability::Beta,
    since: "GIE v1.4",
    summary: "the request that came first is next",
    formula: "",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn OrderingPolicy>(Arc::new(FirstCome))
}
