//! `encode-filter`: keeps workers that can encode media; a worker without a role does not count as one (llm-d-router main at ebab6879).

use super::role::RoleFilter;
use super::{Build, Capabilities, PluginType, parameters};

pub(super) const TYPE: PluginType = PluginType { name: "encode-filter", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::filter(RoleFilter {
        roles: &["encode", "encode-prefill", "encode-prefill-decode"],
        unlabelled: false,
    })
}
