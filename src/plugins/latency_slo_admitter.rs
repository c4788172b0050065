//! `latency-slo-admitter`: refuses a request that may be shed where no endpoint is predicted to
//! keep its limits.

use std::sync::Arc;

use super::latency_prediction::{LatencyPredictions, Slo, predictions};
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::error::{Code, DropReason, RequestError};
use crate::scheduling::{Admitter, Cycle, DataKey};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "latency-slo-admitter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Admitter],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "refuses a request of negative priority (429) whose limits no endpoint is predicted to keep",
    formula: "unless one is idle (r = 0) or cold (kv < 0.02)",
    parameters: Parameters::Listed(&[Parameter::latency_producer()]),
};

/// KV-cache usage below which an endpoint counts as one that has just started (llm-d-router main
/// at ebab6879): what is predicted of it comes from others.
const COLD: f64 = 0.02;

#[derive(Debug)]
struct LatencySloAdmitter {
    predictions: DataKey<LatencyPredictions>,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let Build { parameters: mut p, dependencies, .. } = build;
    let predictions = predictions(&mut p, dependencies);
    p.finish();
    Capabilities::default()
        .with::<dyn Admitter>(Arc::new(LatencySloAdmitter { predictions }))
        .reading(Needs { running: true, kv: true, ..Needs::default() })
}

impl Admitter for LatencySloAdmitter {
    /// Only requests of a negative priority that ask for a time may be refused. An endpoint that
    /// is idle or cold may take anything.
    fn admit(&self, cycle: &Cycle<'_>) -> Result<(), RequestError> {
        let request = cycle.request;
        if request.priority >= 0 || !Slo::of(&request.headers).is_given() {
            return Ok(());
        }
        let Some(predictions) = cycle.data.get(self.predictions) else { return Ok(()) };
        if predictions.by_candidate.iter().all(Option::is_none) {
            return Ok(());
        }
        let can_serve = |(i, c): (usize, &crate::scheduling::Candidate<'_>)| {
            c.signals.running == 0
                || c.signals.kv_usage < COLD
                || predictions.get(i as u32).is_some_and(|p| p.is_valid())
        };
        if cycle.candidates.iter().enumerate().any(can_serve) {
            return Ok(());
        }
        let message = "no endpoint is predicted to answer within the request's limits";
        Err(RequestError::new(Code::ResourceExhausted, message).with_reason(DropReason::Saturated))
    }
}
