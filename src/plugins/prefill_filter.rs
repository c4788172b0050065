//! `prefill-filter`: keeps workers that can prefill; a worker without a role does not count as one (llm-d-router main at ebab6879).

use super::role::RoleFilter;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};

pub(super) const TYPE: PluginType =
    PluginType { name: "prefill-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Beta,
    since: "llm-d v0.2",
    summary: "endpoints that compute prompts, by the label llm-d.ai/role",
    formula: "role is prefill, encode-prefill, prefill-decode, both or encode-prefill-decode",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::filter(RoleFilter {
        roles: &["prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"],
        unlabelled: false,
    })
}
