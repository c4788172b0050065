//! `encode-filter`: keeps workers that can encode media; a worker without a role does not count as one (llm-d-router main at ebab6879).

use super::role::RoleFilter;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};

pub(super) const TYPE: PluginType =
    PluginType { name: "encode-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Beta,
    since: "llm-d v0.7",
    summary: "endpoints that encode media, by the label llm-d.ai/role",
    formula: "role is encode, encode-prefill or encode-prefill-decode",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::filter(RoleFilter {
        roles: &["encode", "encode-prefill", "encode-prefill-decode"],
        unlabelled: false,
    })
}
