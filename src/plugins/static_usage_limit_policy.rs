//! `static-usage-limit-policy`: all bands may use the pool up to one saturation.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::flow_control::{StaticUsageLimit, UsageLimit};

pub(super) const TYPE: PluginType =
    PluginType { name: "static-usage-limit-policy", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::UsageLimitPolicy],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "all bands go up to one saturation",
    formula: "",
    parameters: Parameters::Listed(&[Parameter::number("threshold", "the saturation")
        .default("1.0")
        .above(0.0)]),
};

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let mut policy = StaticUsageLimit::default();
    if let Some(threshold) = p.float("threshold") {
        if threshold > 0.0 && threshold.is_finite() {
            policy.threshold = threshold;
        } else {
            p.error("threshold", format!("must be over 0, found {threshold}"));
        }
    }
    p.finish();
    Capabilities::default().with::<dyn UsageLimit>(Arc::new(policy))
}
