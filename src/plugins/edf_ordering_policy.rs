//! `edf-ordering-policy`: whose time in the queue ends first goes first.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType, parameters};
use crate::flow_control::{EarliestDeadline, OrderingPolicy};

pub(super) const TYPE: PluginType = PluginType { name: "edf-ordering-policy", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn OrderingPolicy>(Arc::new(EarliestDeadline))
}
