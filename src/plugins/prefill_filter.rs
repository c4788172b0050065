//! `prefill-filter`: keeps workers that can prefill; a worker without a role does not count as one (llm-d-router main at ebab6879).

use super::role::RoleFilter;
use super::{Build, Capabilities, PluginType, parameters};

pub(super) const TYPE: PluginType = PluginType { name: "prefill-filter", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::filter(RoleFilter {
        roles: &["prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"],
        unlabelled: false,
    })
}
