//! `priority-then-time-eviction-order-policy`: the lowest priority is evicted first, of equals the newest.
//! With `enableEviction` that is always so; the type is there for those who write it down.

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};

pub(super) const TYPE: PluginType = PluginType {
    name: "priority-then-time-eviction-order-policy",
    aliases: &[],
    about: ABOUT,
    build,
};

const ABOUT: About = About {
    parts: &[Part::EvictionPolicy],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "the lowest priority is evicted first, of equals the newest; enableEviction does so anyway",
    formula: "",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default()
}
