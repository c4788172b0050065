use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use smallvec::SmallVec;

use super::cardinality::cut;
use crate::exchange::Outcome;
use crate::scheduling::{Belief, DecisionTrace, Explanation};

/// One request, how its endpoint was chosen, or why none was, and what came of it. Of the request
/// itself it holds its id and its model's names, cut to a bounded length, and nothing of its body.
#[derive(Debug)]
pub struct DecisionRecord {
    time: Timestamp,
    request_id: String,
    incoming_model: Option<String>,
    model: String,
    priority: i32,
    chosen: Option<Chosen>,
    refused: OnceLock<Refused>,
    queued: Option<Duration>,
    scheduling: Option<Duration>,
    beliefs: SmallVec<[Belief; 1]>,
    trace: Option<Arc<DecisionTrace>>,
    ended: OnceLock<Ended>,
}

/// The endpoint that a request was sent to.
#[derive(Clone, Debug)]
struct Chosen {
    id: Arc<str>,
    address: Arc<str>,
}

/// Why a request was not answered by an endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    pub code: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// How an exchange ended, and what its endpoint reported.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    pub ending: &'static str,
    pub duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}

/// What a record shows.
#[derive(Debug, Serialize)]
pub struct DecisionView<'a> {
    pub time: String,
    pub request_id: &'a str,
    /// The model as the client asked for it, where that is another.
    #[serde(rename = "incomingModel", skip_serializing_if = "Option::is_none")]
    pub incoming_model: Option<&'a str>,
    /// The model as the endpoint is asked for it.
    pub model: &'a str,
    pub priority: i32,
    /// `namespace/name` of the endpoint chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<&'a str>,
    /// Its `ip:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<&'a str>,
    /// Why the request was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<&'a Refused>,
    /// What it waited in the queue, where it had to, milliseconds.
    #[serde(rename = "queuedMs", skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<f64>,
    /// What the scheduler took, microseconds.
    #[serde(rename = "schedulingUs", skip_serializing_if = "Option::is_none")]
    pub scheduling_us: Option<f64>,
    /// What was believed of the prompt at the endpoint chosen.
    pub prefix: Vec<BeliefView>,
    /// What the endpoint chosen got from each scorer.
    pub scores: Vec<ScoreView<'a>>,
    /// `None` where it was refused before candidates were looked at, or is not among those whose
    /// steps are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
    /// `None` while the exchange goes on.
    pub ended: Option<&'a Ended>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BeliefView {
    pub source: &'static str,
    pub cached_blocks: u32,
    pub prompt_blocks: u32,
    pub cached_tokens: u64,
    /// The share of the prompt, 0 to 1.
    pub share: f64,
}

#[derive(Debug, Serialize)]
pub struct ScoreView<'a> {
    pub plugin: &'a str,
    pub weight: f64,
    /// Before weighting.
    pub score: f64,
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl DecisionRecord {
    /// What is known when a request was routed or refused.
    pub(super) fn of(outcome: &Outcome<'_>) -> Self {
        let request = outcome.request;
        let trace = match (outcome.decision, outcome.refusal) {
            (Some(decision), _) => decision.trace.clone(),
            (_, Some(refusal)) => refusal.trace.clone(),
            _ => None,
        };
        let changed = request.incoming_model != request.target_model;
        Self {
            time: Timestamp::now(),
            request_id: cut(&request.id).to_owned(),
            incoming_model: changed.then(|| cut(&request.incoming_model).to_owned()),
            model: cut(&request.target_model).to_owned(),
            priority: request.priority,
            chosen: outcome
                .endpoint
                .map(|e| Chosen { id: e.id.clone(), address: e.host_port.clone() }),
            refused: OnceLock::new(),
            queued: outcome.times.queued,
            scheduling: outcome.times.scheduling,
            beliefs: outcome.decision.map(|d| d.beliefs.clone()).unwrap_or_default(),
            trace,
            ended: OnceLock::new(),
        }
    }

    /// Completes it with how the exchange ended.
    pub(super) fn end(&self, outcome: &Outcome<'_>) {
        if let Some(refusal) = outcome.refusal {
            _ = self.refused.set(Refused {
                code: refusal.error.code.as_str(),
                message: refusal.error.message.to_string(),
                reason: refusal.error.drop_reason.map(|reason| reason.as_str()),
            });
        }
        let usage = outcome.response.usage;
        // Set by nobody else: the record is one of this exchange.
        _ = self.ended.set(Ended {
            ending: outcome.ending.as_str(),
            duration_ms: ms(outcome.times.duration()),
            ttft_ms: outcome.times.ttft().map(ms),
            status: outcome.response.status,
            prompt_tokens: usage.map(|u| u.prompt),
            completion_tokens: usage.map(|u| u.completion),
            cached_tokens: usage.and_then(|u| u.cached),
        });
    }

    /// Roughly what it takes in memory, bytes.
    pub(super) fn size(&self) -> usize {
        let names = self.request_id.capacity() + self.model.capacity();
        size_of::<Self>() + names + self.trace.as_ref().map_or(0, |trace| trace.size())
    }

    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// True where the client got our error.
    pub fn is_refused(&self) -> bool {
        self.refused.get().is_some()
    }

    /// Whether the request went to the endpoint that is called so: `namespace/name`, the name
    /// alone, or `ip:port`.
    pub fn went_to(&self, endpoint: &str) -> bool {
        self.chosen.as_ref().is_some_and(|chosen| {
            let name = chosen.id.rsplit_once('/').map_or(&*chosen.id, |(_, name)| name);
            [&*chosen.id, name, &*chosen.address].contains(&endpoint)
        })
    }

    /// Whether the client asked for this model, or the endpoint is asked for it.
    pub fn is_for(&self, model: &str) -> bool {
        self.model == model || self.incoming_model.as_deref() == Some(model)
    }

    fn scores(&self) -> Vec<ScoreView<'_>> {
        let scores = self.trace.as_ref().map(|trace| trace.target_scores()).unwrap_or_default();
        let view = |(plugin, weight, score)| ScoreView { plugin, weight, score };
        scores.into_iter().map(view).collect()
    }

    /// What there is to show; every step, where they were kept, if `explained`.
    pub fn view(&self, explained: bool) -> DecisionView<'_> {
        let belief = |b: &Belief| BeliefView {
            source: b.source.as_str(),
            cached_blocks: b.cached,
            prompt_blocks: b.total,
            cached_tokens: b.tokens(),
            share: b.share(),
        };
        let trace = self.trace.as_ref().filter(|_| explained);
        DecisionView {
            time: self.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            request_id: &self.request_id,
            incoming_model: self.incoming_model.as_deref(),
            model: &self.model,
            priority: self.priority,
            endpoint: self.chosen.as_ref().map(|c| &*c.id),
            address: self.chosen.as_ref().map(|c| &*c.address),
            refused: self.refused.get(),
            queued_ms: self.queued.map(ms),
            scheduling_us: self.scheduling.map(|d| d.as_nanos() as f64 / 1e3),
            prefix: self.beliefs.iter().map(belief).collect(),
            scores: self.scores(),
            explanation: trace.map(|trace| trace.explanation()),
            ended: self.ended.get(),
        }
    }
}
