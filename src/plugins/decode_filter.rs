//! `decode-filter`: keeps workers that can decode; a worker without a role can do everything (llm-d-router main at ebab6879).

use super::role::RoleFilter;
use super::{Build, Capabilities, PluginType, parameters};

pub(super) const TYPE: PluginType = PluginType { name: "decode-filter", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::filter(RoleFilter {
        roles: &["decode", "prefill-decode", "both", "encode-prefill-decode"],
        unlabelled: true,
    })
}
