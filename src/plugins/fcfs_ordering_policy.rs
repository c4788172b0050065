//! `fcfs-ordering-policy`: who came first goes first.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType, parameters};
use crate::flow_control::{FirstCome, OrderingPolicy};

pub(super) const TYPE: PluginType =
    PluginType { name: "fcfs-ordering-policy", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn OrderingPolicy>(Arc::new(FirstCome))
}
