//! `slo-deadline-ordering-policy`: whose first token is due first goes first.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType, parameters};
use crate::flow_control::{OrderingPolicy, SloDeadline};

pub(super) const TYPE: PluginType =
    PluginType { name: "slo-deadline-ordering-policy", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn OrderingPolicy>(Arc::new(SloDeadline))
}
