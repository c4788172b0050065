//! `sheddable-eviction-filter`: evicted are only running requests of negative priority.
//! With `enableEviction` that is always so; the type is there for those who write it down.

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};

pub(super) const TYPE: PluginType =
    PluginType { name: "sheddable-eviction-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::EvictionPolicy],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "only requests of negative priority are evicted; enableEviction does so anyway",
    formula: "",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default()
}
