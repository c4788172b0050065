//! `concurrency-detector`: full is what has so many requests, or tokens, in flight. A filter
//! too, where a profile names it.

use std::sync::Arc;

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::flow_control::{ConcurrencyConfig, ConcurrencyMode, SaturationDetector};
use crate::scheduling::{Cycle, Filter, ReadsAnswers, TokenLoad};

pub(super) const TYPE: PluginType =
    PluginType { name: "concurrency-detector", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::SaturationDetector, Part::Filter],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "full is what has so many requests or tokens in flight; as a filter it may keep none",
    formula: "pool: sum of what is in flight / sum of the limits; filter: below max · (1 + headroom)",
    parameters: Parameters::Listed(&[
        Parameter::one_of(
            "concurrencyMode",
            &["requests", "tokens", "hybrid"],
            "what is counted; hybrid: whichever is fuller",
        )
        .default("requests"),
        Parameter::integer("maxConcurrency", "requests that make an endpoint full")
            .unit("requests")
            .default("100")
            .at_least(1.0)
            .at_most(4_294_967_295.0),
        Parameter::integer("maxTokenConcurrency", "tokens that make an endpoint full")
            .unit("tokens")
            .default("1000000")
            .at_least(1.0),
        Parameter::number("headroom", "share by which the filter lets an endpoint exceed them")
            .default("0.0")
            .at_least(0.0),
        Parameter::in_flight_producer(),
    ]),
};

/// As a filter: drops full endpoints, all of them if need be.
impl Filter for ConcurrencyConfig {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        self.keep_free(cycle.candidates, candidates);
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let mut config = ConcurrencyConfig::default();
    config.mode = match p.string("concurrencyMode") {
        None | Some("" | "requests") => ConcurrencyMode::Requests,
        Some("tokens") => ConcurrencyMode::Tokens,
        Some("hybrid") => ConcurrencyMode::Hybrid,
        Some(_) => {
            p.error("concurrencyMode", "must be requests, tokens or hybrid");
            config.mode
        }
    };
    if let Some(max) = p.int_in("maxConcurrency", 1..=i64::from(u32::MAX)) {
        config.max_requests = u32::try_from(max).unwrap_or(u32::MAX);
    }
    if let Some(max) = p.int_in("maxTokenConcurrency", 1..=i64::MAX) {
        config.max_tokens = max.unsigned_abs();
    }
    if let Some(headroom) = p.float("headroom") {
        if headroom >= 0.0 && headroom.is_finite() {
            config.headroom = headroom;
        } else {
            p.error("headroom", format!("must not be negative, found {headroom}"));
        }
    }
    let producer = parameters::in_flight_producer(&mut p);
    if config.mode != ConcurrencyMode::Requests {
        build.dependencies.read::<TokenLoad>(producer);
    } else if producer.is_some() {
        build.dependencies.read_if_there::<TokenLoad>(producer);
    }
    p.finish();
    let counts_tokens = config.mode != ConcurrencyMode::Requests;
    let detector = Arc::new(config);
    let parts = Capabilities::default()
        .with::<dyn Filter>(detector.clone())
        .with::<dyn SaturationDetector>(detector);
    // Tokens are in flight until the answer begins.
    if counts_tokens { parts.reading_answers(ReadsAnswers::FirstToken) } else { parts }
}
