//! From a collected request to its endpoint, and what stays of it until the exchange ends.

use std::sync::Arc;

use bytes::Bytes;
use prost_types::Struct;
use smallvec::SmallVec;

use super::collected::Collected;
use super::common::Common;
use super::{Shared, headers, reply};
use crate::api::{Api, ModelRenamer, ParsedRequest, ResponseReader, Usage, VideoHints};
use crate::clock;
use crate::clock::Timestamp;
use crate::endpoints::Reservation;
use crate::error::{DropReason, RequestError};
use crate::scheduling::{Decision, InferenceRequest};
use crate::telemetry::{Completion, RequestSeries};

/// Fairness id of requests that name none.
const DEFAULT_FLOW: &str = "default-flow";

/// A routed request and what to answer with.
pub(super) struct Outcome {
    pub destination: Bytes,
    pub metadata: Struct,
    pub body: Bytes,
    pub body_changed: bool,
    pub routed: Routed,
    /// The gateway is to finish the response alone.
    pub skip_response: bool,
}

/// What an exchange holds from the pick to its end. Dropping it, however the stream ends,
/// releases the reservations and closes the books, once.
pub(super) struct Routed {
    series: Arc<RequestSeries>,
    reservations: SmallVec<[Reservation; 1]>,
    incoming_model: String,
    target_model: String,
    api: Api,
    /// The request asked for a stream.
    pub stream: bool,
    received_at: Timestamp,
    first_byte_at: Option<Timestamp>,
    last_chunk_at: Option<Timestamp>,
    response_bytes: u64,
}

impl Routed {
    /// Reads the usage off the response.
    pub fn response_reader(&self, sse: bool) -> ResponseReader {
        ResponseReader::new(self.api, sse)
    }

    /// Maps the model's name back, where it was changed on the way in.
    pub fn renamer(&self) -> Option<ModelRenamer> {
        let changed = self.incoming_model != self.target_model
            && !self.incoming_model.is_empty()
            && !self.target_model.is_empty();
        changed.then(|| ModelRenamer::new(&self.target_model, &self.incoming_model))
    }

    /// The worker answered with an error status.
    pub fn on_status(&mut self, status: u16) {
        if status >= 400 {
            self.series.error("ModelServerError");
        }
    }

    /// A piece of the response came by.
    pub fn on_chunk(&mut self, bytes: usize, streaming: bool) {
        if bytes == 0 {
            return;
        }
        self.response_bytes += bytes as u64;
        if !streaming && self.first_byte_at.is_some() {
            return;
        }
        let now = clock::now();
        if self.first_byte_at.is_none() {
            self.first_byte_at = Some(now);
            self.series.first_token(now.since(self.received_at).as_secs_f64(), streaming);
            self.reservations.iter_mut().for_each(Reservation::release_tokens);
        } else if let Some(last) = self.last_chunk_at {
            self.series.inter_token(now.since(last).as_secs_f64());
        }
        self.last_chunk_at = Some(now);
    }

    /// The response is complete.
    pub fn on_complete(&mut self, usage: Option<Usage>, streaming: bool) {
        let usage = usage.unwrap_or_default();
        self.series.completed(&Completion {
            duration_s: clock::now().since(self.received_at).as_secs_f64(),
            ttft_s: self.first_byte_at.map(|at| at.since(self.received_at).as_secs_f64()),
            streaming,
            response_bytes: self.response_bytes,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            cached_tokens: usage.cached_tokens,
        });
        // The worker is done with the request, whatever the gateway still does with the stream.
        self.reservations.clear();
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        self.series.running_dec();
    }
}

/// Routes a request whose body is known.
pub(super) fn route(
    common: &Common,
    collected: &Collected,
    body: Bytes,
) -> Result<Outcome, RequestError> {
    let shared = &common.shared;
    let video = VideoHints::read(|name| collected.headers.get(name));
    let parsed = shared
        .parsers
        .parse(&collected.path(), body.clone(), shared.wants_prompt, &video)
        .inspect_err(|e| refused(shared, collected, "", "", e))?;
    let incoming = parsed.model.as_deref();
    let header = headers::named(&collected.headers, headers::MODEL_REWRITE);
    let target = shared.director.target_model(incoming, header);
    if target.is_none() && parsed.model_required {
        let error = RequestError::bad_request("model not found in request body");
        refused(shared, collected, "", "", &error);
        return Err(error);
    }
    let target = target.unwrap_or_default();
    let (body, body_changed) = if parsed.model_required && incoming != Some(target.as_str()) {
        let changed = parsed
            .with_model(&body, &target, shared.max_request_body)
            .inspect_err(|e| refused(shared, collected, incoming.unwrap_or_default(), "", e))?;
        (changed, true)
    } else {
        (body, false)
    };
    decide(common, collected, parsed, target, body, body_changed)
}

/// Routes a request whose headers have to leave before its body is seen.
pub(super) fn route_unseen(
    common: &Common,
    collected: &Collected,
) -> Result<Outcome, RequestError> {
    decide(common, collected, ParsedRequest::unseen(), String::new(), Bytes::new(), false)
}

fn decide(
    common: &Common,
    collected: &Collected,
    parsed: ParsedRequest,
    target_model: String,
    body: Bytes,
    body_changed: bool,
) -> Result<Outcome, RequestError> {
    let shared = &common.shared;
    let director = &shared.director;
    let incoming_model = parsed.model.unwrap_or_default();
    let objective = headers::named(&collected.headers, headers::OBJECTIVE);
    let request = InferenceRequest {
        id: collected.headers.get(headers::REQUEST_ID).unwrap_or_default().to_owned(),
        priority: director.objectives.priority(objective, &incoming_model),
        target_model,
        cache_salt: parsed.cache_salt,
        headers: collected.headers.clone(),
        prompt: parsed.prompt,
        stream: parsed.stream,
        max_output_tokens: parsed.max_output_tokens,
        body_len: body.len(),
        cached_only: headers::prefers_if_available(&collected.headers),
    };
    let now = clock::now();
    let decision = director.route(&request, common.subset.as_ref(), now);
    let took = clock::now().since(now).as_secs_f64();
    let decision = match decision {
        Ok(decision) => decision,
        Err(error) => {
            // Where nothing may be picked from, the scheduler was not asked.
            if error.drop_reason != Some(DropReason::NoEndpoints) {
                shared.metrics.scheduler(took, false, &request.target_model, "", "", 0);
            }
            refused(shared, collected, &incoming_model, &request.target_model, &error);
            return Err(error);
        }
    };
    let target = &decision.endpoints[0].spec;
    let (name, namespace) = (&target.name, &target.namespace);
    shared.metrics.scheduler(took, true, &request.target_model, name, namespace, target.port);
    let series = series(shared, collected, &incoming_model, &request);
    series.accepted(body.len());
    series.running_inc();
    log_handled(&request, &incoming_model, objective, &decision);
    if let (Some(log), Some(explanation)) = (&shared.decisions, &decision.explanation) {
        log.push(&request, &decision.endpoints[0], explanation);
    }
    let destination = reply::destination(&decision);
    let received_at = collected.received_at;
    shared.metrics.request_processing(clock::now().since(received_at).as_secs_f64());
    Ok(Outcome {
        metadata: reply::destination_metadata(&destination, &decision.scores),
        destination,
        body,
        body_changed,
        skip_response: parsed.skip_response,
        routed: Routed {
            series,
            reservations: decision.reservations,
            incoming_model,
            target_model: request.target_model,
            api: parsed.api,
            stream: parsed.stream,
            received_at,
            first_byte_at: None,
            last_chunk_at: None,
            response_bytes: 0,
        },
    })
}

fn series(
    shared: &Shared,
    collected: &Collected,
    incoming: &str,
    request: &InferenceRequest,
) -> Arc<RequestSeries> {
    let fairness = headers::named(&collected.headers, headers::FAIRNESS_ID).unwrap_or(DEFAULT_FLOW);
    shared.metrics.request_series(incoming, &request.target_model, fairness, request.priority)
}

/// Counts and logs a request that was not routed; the log names the request, not its content.
fn refused(
    shared: &Shared,
    collected: &Collected,
    incoming: &str,
    target: &str,
    error: &RequestError,
) {
    let fairness = headers::named(&collected.headers, headers::FAIRNESS_ID).unwrap_or(DEFAULT_FLOW);
    shared.metrics.request_series(incoming, target, fairness, 0).error(error.code.as_str());
    tracing::info!(
        "x-request-id" = collected.headers.get(headers::REQUEST_ID).unwrap_or_default(),
        code = error.code.as_str(),
        reason = %error.message,
        "Request refused"
    );
}

/// The line that the KServe tutorial tells users to look for, with the fields it had at v0.2.0.
fn log_handled(
    request: &InferenceRequest,
    incoming_model: &str,
    objective: Option<&str>,
    decision: &Decision,
) {
    let criticality = match request.priority {
        p if p < 0 => "Sheddable",
        0 => "Standard",
        _ => "Critical",
    };
    let (cached, blocks) = decision.prefix_blocks.unwrap_or_default();
    tracing::info!(
        "x-request-id" = request.id,
        model = incoming_model,
        resolvedTargetModel = request.target_model,
        criticality,
        objective = objective.unwrap_or_default(),
        targetModel = request.target_model,
        endpoint = decision.endpoints[0].description().as_str(),
        cachedBlocks = cached,
        promptBlocks = blocks,
        "Request handled"
    );
}
