//! `active-request-scorer`: the fewer requests we have in flight to a worker, the better.

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, Scorer, TokenLoad};

pub(super) const TYPE: PluginType =
    PluginType { name: "active-request-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "llm-d v0.3",
    summary: "the fewer requests are in flight to an endpoint, the better",
    formula: "n ≤ idleThreshold: 1; else (max n - n)/max n · maxBusyScore",
    parameters: Parameters::Listed(&[
        Parameter::integer("idleThreshold", "an endpoint with so many in flight counts as idle")
            .unit("requests")
            .default("0"),
        Parameter::number(
            "maxBusyScore",
            "what a busy endpoint scores at most; 1 where it is not from 0 to 1",
        )
        .default("1.0"),
        Parameter::in_flight_producer(),
        Parameter::duration("requestTimeout", "when a request was forgotten")
            .without_effect("a request counts until its exchange ends"),
    ]),
};

#[derive(Debug)]
struct ActiveRequestScorer {
    /// A worker with this many requests or fewer counts as idle.
    idle_threshold: i64,
    /// What a busy worker scores at most.
    max_busy_score: f64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    parameters::without_effect(
        &mut p,
        "requestTimeout",
        "a request counts until its exchange ends, however that is",
    );
    // Requests are counted whether or not anybody counts tokens; a name has to be one all the same.
    if let Some(name) = parameters::in_flight_producer(&mut p) {
        build.dependencies.read::<TokenLoad>(Some(name));
    }
    let idle_threshold = p.int("idleThreshold").unwrap_or(0).max(0);
    let mut max_busy_score = p.float("maxBusyScore").unwrap_or(1.0);
    if !(0.0..=1.0).contains(&max_busy_score) {
        p.warning("maxBusyScore", format!("{max_busy_score} is not within 0 and 1; 1 is used"));
        max_busy_score = 1.0;
    }
    p.finish();
    Capabilities::scorer(ActiveRequestScorer { idle_threshold, max_busy_score })
}

impl Scorer for ActiveRequestScorer {
    /// Idle workers score 1, others `(max - x) / max * max_busy_score`, the maximum taken over
    /// the candidates (llm-d-router main at ebab6879).
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let count = |c: u32| cycle.candidates[c as usize].in_flight_requests;
        let max = candidates.iter().map(|&c| count(c)).max().unwrap_or(0);
        for (score, &c) in scores.iter_mut().zip(candidates) {
            let active = count(c);
            *score = if active <= self.idle_threshold {
                1.0
            } else {
                (max - active) as f64 / max as f64 * self.max_busy_score
            };
        }
    }
}
