//! `utilization-detector`: the saturation detector, and a filter where a profile names it.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::flow_control::{SaturationConfig, SaturationDetector};
use crate::scheduling::{Cycle, Filter};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "utilization-detector", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::SaturationDetector, Part::Filter],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "full is what has a long queue or a full KV cache; as a filter it keeps all where all are full",
    formula: "pool: mean of max(q/queueDepthThreshold, kv/kvCacheUtilThreshold), 1 for one that is stale; filter: below threshold · (1 + headroom)",
    parameters: Parameters::Listed(&[
        Parameter::integer("queueDepthThreshold", "waiting requests that make an endpoint full")
            .unit("requests")
            .default("5")
            .at_least(1.0),
        Parameter::number("kvCacheUtilThreshold", "KV-cache usage that makes an endpoint full")
            .default("0.8")
            .above(0.0)
            .at_most(1.0),
        Parameter::duration(
            "metricsStalenessThreshold",
            "age at which its metrics no longer count",
        )
        .default("200ms"),
        Parameter::number("headroom", "share by which the filter lets an endpoint exceed them")
            .default("0.0")
            .at_least(0.0),
    ]),
};

/// As a filter: drops full workers, unless all of them are.
impl Filter for SaturationConfig {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        self.keep_free(cycle.candidates, cycle.now, candidates);
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let mut config = SaturationConfig::default();
    if let Some(depth) = p.int_in("queueDepthThreshold", 1..=i64::MAX) {
        config.queue_depth_threshold = depth as f64;
    }
    if let Some(usage) = p.float("kvCacheUtilThreshold") {
        if usage > 0.0 && usage <= 1.0 {
            config.kv_cache_util_threshold = usage;
        } else {
            p.error("kvCacheUtilThreshold", format!("must be over 0 and up to 1, found {usage}"));
        }
    }
    if let Some(age) = p.duration("metricsStalenessThreshold") {
        if age.is_zero() {
            p.error("metricsStalenessThreshold", "must be longer than 0");
        } else {
            config.metrics_staleness_threshold = age;
        }
    }
    if let Some(headroom) = p.float("headroom") {
        if headroom >= 0.0 {
            config.headroom = headroom;
        } else {
            p.error("headroom", format!("must not be negative, found {headroom}"));
        }
    }
    p.finish();
    let detector = Arc::new(config);
    let signals = Needs { queue: true, kv: true, ..Needs::default() };
    Capabilities::default()
        .with::<dyn Filter>(detector.clone())
        .with::<dyn SaturationDetector>(detector)
        .reading(signals)
}
