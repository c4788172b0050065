//! `round-robin-fairness-policy`: fairness ids take turns.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType, parameters};
use crate::flow_control::{FairnessPolicy, RoundRobin};

pub(super) const TYPE: PluginType =
    PluginType { name: "round-robin-fairness-policy", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn FairnessPolicy>(Arc::new(RoundRobin))
}
