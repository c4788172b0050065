//! `program-aware-fairness`: who was served least so far goes first, or whose session is deepest.

use std::sync::Arc;
use std::time::Duration;

use super::{Build, Capabilities, PluginType};
use crate::config::Fields;
use crate::flow_control::{FairnessPolicy, ProgramAware, ProgramAwareConfig, ProgramStrategy};

pub(super) const TYPE: PluginType =
    PluginType { name: "program-aware-fairness", aliases: &[], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let mut config = ProgramAwareConfig::default();
    // Those of the strategy that is not used are allowed, and do nothing.
    let weight_service = not_negative(&mut p, "lasWeightService").unwrap_or(0.8);
    let weight_head_wait = not_negative(&mut p, "lasWeightHeadWait").unwrap_or(0.2);
    let time_weight = not_negative(&mut p, "turnPriorityTimeWeight").unwrap_or(0.5);
    let inactivity = seconds(&mut p, "turnPriorityInactivitySeconds");
    config.strategy = match p.string("strategy").unwrap_or_default() {
        "" | "las" => ProgramStrategy::LeastAttainedService { weight_service, weight_head_wait },
        "turn-priority" => ProgramStrategy::TurnPriority {
            time_weight,
            inactivity: inactivity.unwrap_or(Duration::from_secs(120)),
        },
        _ => {
            p.error("strategy", "must be las or turn-priority");
            config.strategy
        }
    };
    if let Some(half_life) = seconds(&mut p, "lasHalfLifeSeconds") {
        config.half_life = half_life;
    }
    if let Some(ttl) = seconds(&mut p, "evictionTtlSeconds") {
        config.eviction_ttl = ttl;
    }
    if let Some(sweep) = seconds(&mut p, "evictionSweepSeconds") {
        if sweep.is_zero() {
            p.error("evictionSweepSeconds", "must be longer than 0");
        }
        config.eviction_sweep = sweep;
    }
    p.finish();
    let policy = Arc::new(ProgramAware::new(config));
    Capabilities::default().with::<dyn FairnessPolicy>(policy.clone()).with(policy)
}

fn not_negative(p: &mut Fields<'_>, name: &'static str) -> Option<f64> {
    let value = p.float(name)?;
    if value >= 0.0 && value.is_finite() {
        return Some(value);
    }
    p.error(name, format!("must not be negative, found {value}"));
    None
}

fn seconds(p: &mut Fields<'_>, name: &'static str) -> Option<Duration> {
    not_negative(p, name).map(|s| Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX))
}
