//! What `predicted-latency-producer` hands to the plugins that read it.

use super::Dependencies;
use crate::config::Fields;
use crate::headers::{self, Headers};
use crate::scheduling::{DataKey, RequestDatum};

/// What the request would see at each candidate.
#[derive(Clone, Debug, Default)]
pub(super) struct LatencyPredictions {
    /// By candidate index; `None` where nothing is predicted.
    pub by_candidate: Vec<Option<PredictedLatency>>,
}

impl RequestDatum for LatencyPredictions {
    const PRODUCER: &'static str = "latency predictor";
    const DEFAULT_PRODUCER: Option<&'static str> = Some("predicted-latency-producer");
}

/// What the request would see at one candidate, against what it asks for (llm-d-router main at
/// ebab6879).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PredictedLatency {
    pub ttft_ms: f64,
    /// The request's limit less what is predicted, milliseconds.
    pub ttft_headroom: f64,
    pub tpot_headroom: f64,
    /// Below the limit; without one nothing is.
    pub ttft_valid: bool,
    pub tpot_valid: bool,
}

impl PredictedLatency {
    /// Neither limit is missed.
    pub(super) fn has_headroom(&self) -> bool {
        self.ttft_headroom >= 0.0 && self.tpot_headroom >= 0.0
    }

    pub(super) fn is_valid(&self) -> bool {
        self.ttft_valid && self.tpot_valid
    }
}

impl LatencyPredictions {
    pub(super) fn get(&self, candidate: u32) -> Option<PredictedLatency> {
        self.by_candidate.get(candidate as usize).copied().flatten()
    }
}

/// The place of the predictions of the producer that the parameters name, or of the default one.
pub(super) fn predictions(
    parameters: &mut Fields<'_>,
    dependencies: &mut Dependencies,
) -> DataKey<LatencyPredictions> {
    dependencies.read(parameters.placed_string("latencyPredictionInfoProducerName"))
}

/// What a request asks for, in milliseconds; 0 where it asks for nothing, or for what is no time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Slo {
    pub ttft_ms: f64,
    pub tpot_ms: f64,
}

impl Slo {
    pub(super) fn of(request: &Headers) -> Self {
        Self {
            ttft_ms: milliseconds(request.named(headers::SLO_TTFT)),
            tpot_ms: milliseconds(request.named(headers::SLO_TPOT)),
        }
    }

    pub(super) fn is_given(self) -> bool {
        self.ttft_ms > 0.0 || self.tpot_ms > 0.0
    }
}

/// The reference takes a header that is no number for none; so do we, as it is no reason to turn
/// a request away.
fn milliseconds(header: Option<&str>) -> f64 {
    let number = header.and_then(|text| text.trim().parse::<f64>().ok());
    number.filter(|ms| ms.is_finite() && *ms > 0.0).unwrap_or(0.0)
}
