//! `edf-ordering-policy`: whose time in the queue ends first goes first.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::flow_control::{EarliestDeadline, OrderingPolicy};

pub(super) const TYPE: PluginType =
    PluginType { name: "edf-ordering-policy", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::OrderingPolicy],
    stability: Stability::Beta,
    since: "GIE v1.4",
    summary: "the request whose time in the queue ends first is next",
    formula: "",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn OrderingPolicy>(Arc::new(EarliestDeadline))
}
