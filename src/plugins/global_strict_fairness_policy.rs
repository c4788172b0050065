//! `global-strict-fairness-policy`: the first by the ordering policy, whoever sent it.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType, parameters};
use crate::flow_control::{FairnessPolicy, GlobalStrict};

pub(super) const TYPE: PluginType =
    PluginType { name: "global-strict-fairness-policy", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn FairnessPolicy>(Arc::new(GlobalStrict))
}
