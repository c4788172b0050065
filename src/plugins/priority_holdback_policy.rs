//! `priority-holdback-policy`: the lower a band, the earlier it is held back.

use std::sync::Arc;

use super::{
    About, Build, Capabilities, Kind, Parameter, Parameters, Part, PluginType, Stability,
    parameters,
};
use crate::config::{Fields, Value};
use crate::flow_control::{HoldbackDomain, PriorityHoldback, UsageLimit};

pub(super) const TYPE: PluginType =
    PluginType { name: "priority-holdback-policy", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::UsageLimitPolicy],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "the lower a band, the earlier it is held back",
    formula: "rank: max - i · (max - min)/(n - 1) for band i of n; value: by the priorities themselves; explicit: as given",
    parameters: Parameters::Listed(&[
        Parameter::one_of(
            "domain",
            &["rank", "value", "explicit"],
            "what ceilings are worked out from",
        )
        .default("rank")
        .example("value"),
        Parameter::number(
            "minCeiling",
            "saturation up to which the lowest band goes; required unless the domain is explicit",
        )
        .at_least(0.0)
        .below(1.0)
        .required()
        .example("0.5"),
        Parameter::number("maxCeiling", "saturation up to which the highest band goes")
            .default("1.0")
            .above(0.0)
            .at_most(1.0)
            .example("0.75"),
        Parameter::of_kind(
            "ceilings",
            Kind::NumberMap,
            "priorities with their ceilings from 0 to 1, which must not rise towards lower ones",
        )
        .beside("{domain: explicit, minCeiling: null}")
        .example("{\"0\": 0.5}"),
        Parameter::one_of("shape", &["linear"], "the only one").default("linear"),
    ]),
};

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    if let Some(shape) = p.string("shape")
        && shape != "linear"
    {
        p.error("shape", "must be linear: there is no other");
    }
    let domain = match p.string("domain") {
        None | Some("rank") => HoldbackDomain::Rank,
        Some("value") => HoldbackDomain::Value,
        Some("explicit") => HoldbackDomain::Explicit(ceilings(&mut p)),
        Some(_) => {
            p.error("domain", "must be rank, value or explicit");
            HoldbackDomain::Rank
        }
    };
    let is_explicit = matches!(domain, HoldbackDomain::Explicit(_));
    if !is_explicit {
        parameters::without_effect(&mut p, "ceilings", "they belong to the domain explicit");
    }
    let min = p.float("minCeiling");
    let max = p.float("maxCeiling");
    if is_explicit {
        for (name, value) in [("minCeiling", min), ("maxCeiling", max)] {
            if value.is_some() {
                p.error(name, "and the domain explicit exclude each other");
            }
        }
    } else if min.is_none() && p.node("minCeiling").is_none() {
        p.error("minCeiling", "is missing: the ceiling of the lowest band");
    }
    let (min_ceiling, max_ceiling) = (min.unwrap_or(0.0), max.unwrap_or(1.0));
    if !(0.0..1.0).contains(&min_ceiling) {
        p.error("minCeiling", format!("must be from 0 to under 1, found {min_ceiling}"));
    }
    if !(max_ceiling > 0.0 && max_ceiling <= 1.0) {
        p.error("maxCeiling", format!("must be over 0 and up to 1, found {max_ceiling}"));
    } else if max_ceiling < min_ceiling {
        p.error("maxCeiling", format!("must not be under minCeiling, found {max_ceiling}"));
    }
    p.finish();
    let policy = PriorityHoldback { min_ceiling, max_ceiling, domain };
    Capabilities::default().with::<dyn UsageLimit>(Arc::new(policy))
}

/// The ceilings by priority; lower priorities must not have higher ones.
fn ceilings(p: &mut Fields<'_>) -> Vec<(i32, f64)> {
    let Some(node) = p.node("ceilings") else {
        p.error("ceilings", "is missing: a ceiling for each priority");
        return Vec::new();
    };
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        _ => {
            p.error("ceilings", "must be a mapping from priorities to ceilings");
            &[]
        }
    };
    let mut ceilings = Vec::new();
    for (key, value) in entries {
        let ceiling = match value.value {
            Value::Int(ceiling) => ceiling as f64,
            Value::Float(ceiling) => ceiling,
            _ => f64::NAN,
        };
        match key.name.parse::<i32>() {
            Ok(priority) if (0.0..=1.0).contains(&ceiling) => ceilings.push((priority, ceiling)),
            _ => p.error("ceilings", "must map whole priorities to ceilings from 0 to 1"),
        }
    }
    ceilings.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    if ceilings.windows(2).any(|pair| matches!(pair, [higher, lower] if higher.1 < lower.1)) {
        p.error("ceilings", "must not rise towards lower priorities");
    }
    ceilings
}
