//! `soft-reflective-ceiling-policy`: the fuller the pool, the less of it lower bands get.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType};
use crate::flow_control::{SoftReflectiveCeiling, UsageLimit};

pub(super) const TYPE: PluginType =
    PluginType { name: "soft-reflective-ceiling-policy", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    build.parameters.finish();
    Capabilities::default().with::<dyn UsageLimit>(Arc::new(SoftReflectiveCeiling::default()))
}
