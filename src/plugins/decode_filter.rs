//! `decode-filter`: keeps workers that can decode; a worker without a role can do everything (llm-d-router main at ebab6879).

use super::role::RoleFilter;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};

pub(super) const TYPE: PluginType =
    PluginType { name: "decode-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Beta,
    since: "llm-d v0.2",
    summary: "endpoints that answer, by the label llm-d.ai/role, and those without it",
    formula: "role is decode, prefill-decode, both or encode-prefill-decode, or there is none",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::filter(RoleFilter {
        roles: &["decode", "prefill-decode", "both", "encode-prefill-decode"],
        unlabelled: true,
    })
}
