//! `concurrency-detector`: full is what has so many requests, or tokens, in flight. A filter
//! too, where a profile names it.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType, parameters};
use crate::flow_control::{ConcurrencyConfig, ConcurrencyMode, SaturationDetector};
use crate::scheduling::{Cycle, Filter, TokenLoad};

pub(super) const TYPE: PluginType =
    PluginType { name: "concurrency-detector", aliases: &[], build };

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
    let detector = Arc::new(config);
    Capabilities::default()
        .with::<dyn Filter>(detector.clone())
        .with::<dyn SaturationDetector>(detector)
}
