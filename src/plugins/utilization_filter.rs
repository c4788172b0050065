//! `utilization-filter`: keeps endpoints that are below all of some limits.

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::config::Fields;
use crate::scheduling::{Candidate, Cycle, Filter, TokenLoad};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "utilization-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "endpoints that are above none of some limits",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::each("conditions", &CONDITION, "the limits, which must all hold")
            .required()
            .example("[{metric: waiting-queue, maxValue: 1}]"),
        Parameter::boolean("fallbackOnEmpty", "keep all where none is below the limits")
            .default("false"),
        Parameter::in_flight_producer(),
    ]),
};

const CONDITION: [Parameter; 2] = [
    Parameter::one_of(
        "metric",
        &["active-requests", "running-requests", "waiting-queue", "kv-cache-utilization"],
        "what is limited",
    )
    .required()
    .example("waiting-queue"),
    Parameter::number("maxValue", "the most it may be").at_least(0.0).required().example("1"),
];

#[derive(Debug)]
struct UtilizationFilter {
    conditions: Vec<Condition>,
    /// Where no endpoint is below the limits, all are kept.
    fallback: bool,
}

#[derive(Clone, Copy, Debug)]
struct Condition {
    metric: Metric,
    /// Requests, or a share of the KV cache from 0 to 1.
    max: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    /// Requests that we have in flight there.
    ActiveRequests,
    RunningRequests,
    WaitingQueue,
    KvCacheUtilization,
}

const METRICS: [(&str, Metric); 4] = [
    ("active-requests", Metric::ActiveRequests),
    ("running-requests", Metric::RunningRequests),
    ("waiting-queue", Metric::WaitingQueue),
    ("kv-cache-utilization", Metric::KvCacheUtilization),
];

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let conditions: Vec<Condition> =
        p.each("conditions").into_iter().filter_map(condition).collect();
    if p.list("conditions").is_none_or(<[_]>::is_empty) {
        p.error("conditions", "is required: the limits, each with 'metric' and 'maxValue'");
    }
    let fallback = p.bool("fallbackOnEmpty").unwrap_or(false);
    // Requests are counted whether or not anybody counts tokens; a name has to be one all the same.
    if let Some(name) = parameters::in_flight_producer(&mut p) {
        build.dependencies.read::<TokenLoad>(Some(name));
    }
    p.finish();
    let reads = |metric| conditions.iter().any(|c| c.metric == metric);
    let needs = Needs {
        queue: reads(Metric::WaitingQueue),
        running: reads(Metric::RunningRequests),
        kv: reads(Metric::KvCacheUtilization),
        ..Needs::default()
    };
    Capabilities::filter(UtilizationFilter { conditions, fallback }).reading(needs)
}

fn condition(mut p: Fields<'_>) -> Option<Condition> {
    let given = p.string("metric");
    let metric = METRICS.iter().find(|(name, _)| given == Some(name)).map(|(_, metric)| *metric);
    if metric.is_none() {
        let names = METRICS.map(|(name, _)| name).join(", ");
        p.error("metric", format!("must be one of {names}"));
    }
    let max = p.float("maxValue");
    let limit = if metric == Some(Metric::KvCacheUtilization) { 1.0 } else { f64::MAX };
    match max {
        None => p.error("maxValue", "is required"),
        Some(max) if !(0.0..=limit).contains(&max) => {
            let most = if limit == 1.0 { " and at most 1" } else { "" };
            p.error("maxValue", format!("must not be negative{most}, found {max}"));
        }
        Some(_) => {}
    }
    p.finish();
    Some(Condition { metric: metric?, max: max? })
}

impl Condition {
    fn holds(self, candidate: &Candidate<'_>) -> bool {
        let value = match self.metric {
            Metric::ActiveRequests => candidate.in_flight_requests as f64,
            Metric::RunningRequests => f64::from(candidate.signals.running),
            Metric::WaitingQueue => f64::from(candidate.signals.waiting),
            Metric::KvCacheUtilization => candidate.signals.kv_usage,
        };
        value <= self.max
    }
}

impl Filter for UtilizationFilter {
    fn wants(&self) -> String {
        let name = |metric| METRICS.iter().find(|(_, m)| *m == metric).map_or("", |(name, _)| name);
        let said = |c: &Condition| format!("{} at most {}", name(c.metric), c.max);
        self.conditions.iter().map(said).collect::<Vec<_>>().join(", ")
    }

    /// A value above its limit drops the endpoint; one that was never reported is 0
    /// (llm-d-router main at ebab6879).
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        let passes = |c: u32| {
            let candidate = &cycle.candidates[c as usize];
            self.conditions.iter().all(|condition| condition.holds(candidate))
        };
        if self.fallback && !candidates.iter().any(|&c| passes(c)) {
            return;
        }
        candidates.retain(|&c| passes(c));
    }
}
