//! `program-aware-fairness`: who was served least so far goes first, or whose session is deepest.

use std::sync::Arc;
use std::time::Duration;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::Fields;
use crate::flow_control::{FairnessPolicy, ProgramAware, ProgramAwareConfig, ProgramStrategy};

pub(super) const TYPE: PluginType =
    PluginType { name: "program-aware-fairness", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::FairnessPolicy],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "who was served least so far goes first, or whose session is deepest",
    formula: "las: 0.8 · (1 - service) + 0.2 · wait, both from the least (0) to the most (1) of the flows; service is prompt tokens and twice the answer's, halved every half-life; turn-priority: requests so far + weight · seconds waited",
    parameters: Parameters::Listed(&[
        Parameter::one_of(
            "strategy",
            &["las", "turn-priority"],
            "least attained service, or deepest session",
        )
        .default("las"),
        Parameter::number("lasWeightService", "weight of little service")
            .default("0.8")
            .at_least(0.0),
        Parameter::number("lasWeightHeadWait", "weight of a long wait")
            .default("0.2")
            .at_least(0.0),
        Parameter::number("lasHalfLifeSeconds", "time in which what was served counts half")
            .unit("s")
            .default("60")
            .at_least(0.0),
        Parameter::number("turnPriorityTimeWeight", "requests that a second's wait counts")
            .default("0.5")
            .at_least(0.0)
            .beside("{strategy: turn-priority}"),
        Parameter::number("turnPriorityInactivitySeconds", "when a session is over")
            .unit("s")
            .default("120")
            .at_least(0.0)
            .beside("{strategy: turn-priority}"),
        Parameter::number("evictionTtlSeconds", "when a program is forgotten")
            .unit("s")
            .default("3600")
            .at_least(0.0),
        Parameter::number("evictionSweepSeconds", "how often that is looked for")
            .unit("s")
            .default("300")
            .above(0.0),
    ]),
};

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
    Capabilities::default()
        .with::<dyn FairnessPolicy>(policy.clone())
        .with(policy)
        .remembering("service of programs")
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
