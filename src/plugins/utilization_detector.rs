//! `utilization-detector`: the saturation detector, and a filter where a profile names it.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType};
use crate::datalayer::config::Needs;
use crate::flow_control::{SaturationConfig, SaturationDetector};
use crate::scheduling::{Cycle, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "utilization-detector", aliases: &[], build };

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
