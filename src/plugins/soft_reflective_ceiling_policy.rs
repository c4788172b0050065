//! `soft-reflective-ceiling-policy`: the fuller the pool, the less of it lower bands get.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability};
use crate::flow_control::{SoftReflectiveCeiling, UsageLimit};

pub(super) const TYPE: PluginType =
    PluginType { name: "soft-reflective-ceiling-policy", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::UsageLimitPolicy],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "the fuller the pool, the less of it lower bands get",
    formula: "band i of n: open below 1 - i · s/(n - 1), above it once in s/(1 - s) times",
    parameters: Parameters::Listed(&[]),
};

fn build(build: Build<'_, '_>) -> Capabilities {
    build.parameters.finish();
    Capabilities::default().with::<dyn UsageLimit>(Arc::new(SoftReflectiveCeiling::default()))
}
