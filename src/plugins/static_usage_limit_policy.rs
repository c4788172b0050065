//! `static-usage-limit-policy`: all bands may use the pool up to one saturation.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType};
use crate::flow_control::{StaticUsageLimit, UsageLimit};

pub(super) const TYPE: PluginType =
    PluginType { name: "static-usage-limit-policy", aliases: &[], build };

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
