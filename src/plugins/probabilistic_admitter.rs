//! `probabilistic-admitter`: refuses requests of negative priority the more often the fuller the
//! endpoints are (llm-d-router main at ebab6879).

use std::sync::Arc;

use super::{Build, Capabilities, PluginType};
use crate::datalayer::config::Needs;
use crate::error::{Code, DropReason, RequestError};
use crate::scheduling::{Admitter, Cycle};

pub(super) const TYPE: PluginType =
    PluginType { name: "probabilistic-admitter", aliases: &[], build };

#[derive(Debug)]
struct ProbabilisticAdmitter {
    queue_depth_threshold: f64,
    kv_cache_util_threshold: f64,
    power: f64,
    k: f64,
}

impl ProbabilisticAdmitter {
    /// min(k · saturation^power, 1), with the mean over the candidates of the larger of
    /// waiting / threshold and KV-cache usage / threshold. Without metrics a candidate counts 1.
    fn refusal_probability(&self, cycle: &Cycle<'_>) -> f64 {
        if cycle.candidates.is_empty() {
            return 1.0;
        }
        let load = |signals: &crate::endpoints::SignalValues| match signals.updated_at {
            None => 1.0,
            Some(_) => (f64::from(signals.waiting) / self.queue_depth_threshold)
                .max(signals.kv_usage / self.kv_cache_util_threshold),
        };
        let sum: f64 = cycle.candidates.iter().map(|c| load(&c.signals)).sum();
        let saturation = sum / cycle.candidates.len() as f64;
        (self.k * saturation.powf(self.power)).min(1.0)
    }
}

impl Admitter for ProbabilisticAdmitter {
    fn admit(&self, cycle: &Cycle<'_>) -> Result<(), RequestError> {
        if cycle.request.priority >= 0 {
            return Ok(());
        }
        if cycle.with_rng(|rng| rng.f64()) >= self.refusal_probability(cycle) {
            return Ok(());
        }
        let message = "system saturated, sheddable request dropped";
        Err(RequestError::new(Code::ResourceExhausted, message).with_reason(DropReason::Saturated))
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let mut positive = |name, default| match p.float(name) {
        Some(value) if value > 0.0 && value.is_finite() => value,
        Some(value) => {
            p.error(name, format!("must be over 0, found {value}"));
            default
        }
        None => default,
    };
    let admitter = ProbabilisticAdmitter {
        queue_depth_threshold: positive("queueDepthThreshold", 5.0),
        kv_cache_util_threshold: positive("kvCacheUtilThreshold", 0.8),
        power: positive("power", 5.0),
        k: positive("k", 300.0),
    };
    p.finish();
    let signals = Needs { queue: true, kv: true, ..Needs::default() };
    Capabilities::default().with::<dyn Admitter>(Arc::new(admitter)).reading(signals)
}
