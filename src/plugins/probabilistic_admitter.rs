//! `probabilistic-admitter`: refuses more and more of the requests that may be shed as the pool
//! fills.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::Fields;
use crate::error::{Code, DropReason, RequestError};
use crate::scheduling::{Admitter, Candidate, Cycle};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "probabilistic-admitter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Admitter],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "refuses more and more of the requests of negative priority (429) as the pool fills",
    formula: "probability min(1, k · s^power), s the mean over the endpoints of max(q/threshold, kv/threshold), 1 for one that never reported",
    parameters: Parameters::Listed(&[
        Parameter::number("queueDepthThreshold", "waiting requests that make an endpoint full")
            .unit("requests")
            .default("5.0")
            .above(0.0),
        Parameter::number("kvCacheUtilThreshold", "KV-cache usage that makes an endpoint full")
            .default("0.8")
            .above(0.0),
        Parameter::number("power", "power").default("5.0").above(0.0),
        Parameter::number("k", "factor").default("300.0").above(0.0),
    ]),
};

#[derive(Debug)]
struct ProbabilisticAdmitter {
    /// Waiting requests that make an endpoint full.
    queue_depth_threshold: f64,
    /// KV-cache usage that makes an endpoint full.
    kv_threshold: f64,
    power: f64,
    k: f64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let admitter = ProbabilisticAdmitter {
        queue_depth_threshold: above_zero(&mut p, "queueDepthThreshold", 5.0),
        kv_threshold: above_zero(&mut p, "kvCacheUtilThreshold", 0.8),
        power: above_zero(&mut p, "power", 5.0),
        k: above_zero(&mut p, "k", 300.0),
    };
    p.finish();
    Capabilities::default().with::<dyn Admitter>(Arc::new(admitter)).reading(Needs {
        queue: true,
        kv: true,
        ..Needs::default()
    })
}

fn above_zero(parameters: &mut Fields<'_>, name: &'static str, default: f64) -> f64 {
    let value = parameters.float(name).unwrap_or(default);
    if !(value > 0.0 && value.is_finite()) {
        parameters.error(name, format!("must be above 0, found {value}"));
    }
    value
}

impl ProbabilisticAdmitter {
    /// `min(k * saturation ^ power, 1)`, where the saturation is the mean of every endpoint's
    /// larger ratio of signal to threshold; one that never told any counts 1 (llm-d-router main at
    /// ebab6879).
    fn share_refused(&self, candidates: &[Candidate<'_>]) -> f64 {
        if candidates.is_empty() {
            return (self.k).min(1.0);
        }
        let load = |c: &Candidate<'_>| match c.signals.updated_at {
            None => 1.0,
            Some(_) => {
                let queue = f64::from(c.signals.waiting) / self.queue_depth_threshold;
                queue.max(c.signals.kv_usage / self.kv_threshold)
            }
        };
        let saturation = candidates.iter().map(load).sum::<f64>() / candidates.len() as f64;
        (self.k * saturation.powf(self.power)).min(1.0)
    }
}

impl Admitter for ProbabilisticAdmitter {
    /// Only requests of a negative priority may be refused.
    fn admit(&self, cycle: &Cycle<'_>) -> Result<(), RequestError> {
        if cycle.request.priority >= 0 {
            return Ok(());
        }
        let share = self.share_refused(cycle.candidates);
        if share <= 0.0 || cycle.with_rng(|rng| rng.f64()) >= share {
            return Ok(());
        }
        let message = "the pool is filling up, sheddable request dropped";
        Err(RequestError::new(Code::ResourceExhausted, message).with_reason(DropReason::Saturated))
    }
}
