//! The spans of an exchange that has ended.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{Event, Span, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

use super::decision;
use super::tracer::Active;
use crate::clock::Timestamp;
use crate::exchange::{Ending, Outcome};
use crate::telemetry::cardinality::cut;

/// From the request's headers to the decision. The reference calls it SERVER too.
const ORCHESTRATION: &str = "gateway.request_orchestration";
/// Ours: what a request waited for admission.
const QUEUED: &str = "flow_control_wait";
/// An endpoint's answer with this status or a higher one is an error of the exchange.
const FIRST_ERROR_STATUS: u16 = 500;

/// Makes spans that lie within an exchange.
pub(super) struct Within<'a> {
    tracer: &'a SdkTracer,
    received: Timestamp,
    begun: SystemTime,
}

impl Within<'_> {
    /// The moment by the calendar.
    fn calendar(&self, at: Timestamp) -> SystemTime {
        self.begun + at.since(self.received)
    }

    /// A span that has ended. What it is the parent of comes back.
    pub(super) fn span(
        &self,
        name: impl Into<Cow<'static, str>>,
        parent: &Context,
        (from, to): (Timestamp, Timestamp),
        attributes: Vec<KeyValue>,
    ) -> Context {
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal);
        self.built(builder, parent, (from, to), attributes)
    }

    fn built(
        &self,
        builder: SpanBuilder,
        parent: &Context,
        (from, to): (Timestamp, Timestamp),
        attributes: Vec<KeyValue>,
    ) -> Context {
        let builder = builder.with_start_time(self.calendar(from)).with_attributes(attributes);
        let mut span = self.tracer.build_with_context(builder, parent);
        let context = parent.with_remote_span_context(span.span_context().clone());
        span.end_with_timestamp(self.calendar(to));
        context
    }
}

/// Ends the span of an exchange, and makes those within it.
pub(super) fn end(tracer: &SdkTracer, active: &Active, outcome: &Outcome<'_>) {
    let times = outcome.times;
    let within = Within { tracer, received: times.received, begun: active.begun };
    orchestration(&within, &active.context, outcome);
    let root = active.context.span();
    root.set_attributes(of_exchange(outcome));
    for (name, at) in
        [("response.headers", times.response), ("response.first_byte", times.first_byte)]
    {
        if let Some(at) = at {
            root.add_event_with_timestamp(name, within.calendar(at), Vec::new());
        }
    }
    if let Some(status) = error(outcome) {
        root.set_status(status);
    }
    root.end_with_timestamp(within.calendar(times.ended));
}

/// What was decided, and how long that took.
fn orchestration(within: &Within<'_>, parent: &Context, outcome: &Outcome<'_>) {
    let times = outcome.times;
    let (Some(asked), Some(decided)) = (times.asked, times.decided) else { return };
    let request = outcome.request;
    let mut attributes = vec![
        KeyValue::new("target_model", text(&request.target_model)),
        KeyValue::new("request_prio", i64::from(request.priority)),
        KeyValue::new("llm_d.epp.fairness_id", text(request.fairness_id())),
    ];
    if let Some(decision) = outcome.decision {
        let cached: u64 = decision.beliefs.first().map_or(0, |belief| belief.tokens());
        attributes.push(KeyValue::new("llm_d.epp.predicted_cached_tokens", count(cached)));
        if let Some((blocks, total)) = decision.prefix_blocks {
            attributes.push(KeyValue::new("llm_d.epp.predicted_cached_blocks", i64::from(blocks)));
            attributes.push(KeyValue::new("llm_d.epp.prompt_blocks", i64::from(total)));
        }
        for chosen in &decision.profiles {
            if let Some(target) = chosen.target() {
                let key = format!("llm_d.epp.profile.{}.target_endpoint", chosen.profile);
                attributes.push(KeyValue::new(key, target.host_port.to_string()));
            }
        }
    }
    let builder = SpanBuilder::from_name(ORCHESTRATION).with_kind(SpanKind::Server);
    let refusal = outcome.refusal.filter(|_| outcome.ending == Ending::Refused);
    let builder = match refusal {
        None => builder,
        Some(refusal) => builder.with_events(vec![Event::new(
            "exception",
            within.calendar(decided),
            vec![
                KeyValue::new("exception.type", refusal.error.code.as_str()),
                KeyValue::new("exception.message", refusal.error.message.to_string()),
            ],
            0,
        )]),
    };
    let context = within.built(builder, parent, (asked, decided), attributes);
    if let Some(queued) = times.queued {
        within.span(QUEUED, &context, (asked, asked + queued), Vec::new());
    }
    let trace = match (outcome.decision, outcome.refusal) {
        (Some(decision), _) => decision.trace.as_ref(),
        (None, Some(refusal)) => refusal.trace.as_ref(),
        (None, None) => None,
    };
    if let (Some(trace), Some(took)) = (trace, times.scheduling) {
        let begun =
            Timestamp::from_nanos(decided.as_nanos().saturating_sub(crate::clock::nanos(took)));
        decision::spans(within, &context, request, &trace.explanation(), (begun, decided));
    }
}

/// What says what became of an exchange. Nothing of any prompt or answer.
fn of_exchange(outcome: &Outcome<'_>) -> Vec<KeyValue> {
    let request = outcome.request;
    let mut attributes = vec![
        KeyValue::new("gen_ai.request.id", text(&request.id)),
        KeyValue::new("gen_ai.request.model", text(&request.target_model)),
        KeyValue::new("llm_d.epp.ending", outcome.ending.as_str()),
        KeyValue::new("llm_d.epp.request.body_bytes", count(request.body_bytes as u64)),
    ];
    if request.incoming_model != request.target_model {
        attributes.push(KeyValue::new("llm_d.epp.incoming_model", text(&request.incoming_model)));
    }
    if let Some(endpoint) = outcome.endpoint {
        attributes.extend([
            KeyValue::new("llm_d.epp.target_endpoint", endpoint.id.to_string()),
            KeyValue::new("server.address", endpoint.spec.ip.to_string()),
            KeyValue::new("server.port", i64::from(endpoint.spec.port)),
        ]);
    }
    let response = outcome.response;
    if let Some(status) = response.status {
        if outcome.refusal.is_none() {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        attributes.push(KeyValue::new("llm_d.epp.response.streaming", response.streaming));
    }
    if let Some(usage) = &response.usage {
        attributes.push(KeyValue::new("gen_ai.usage.input_tokens", count(usage.prompt)));
        attributes.push(KeyValue::new("gen_ai.usage.output_tokens", count(usage.completion)));
        if let Some(cached) = usage.cached {
            attributes.push(KeyValue::new("gen_ai.usage.cache_read.input_tokens", count(cached)));
        }
    }
    if let Some(refusal) = outcome.refusal {
        attributes.push(KeyValue::new("error.type", refusal.error.code.as_str()));
        let status = i64::from(refusal.error.code.http_status());
        attributes.push(KeyValue::new("http.response.status_code", status));
        if let Some(reason) = refusal.error.drop_reason {
            attributes.push(KeyValue::new("llm_d.epp.dropped_reason", reason.as_str()));
        }
    }
    attributes
}

/// Whether the exchange failed for the one who asked: a client that goes away is no error.
fn error(outcome: &Outcome<'_>) -> Option<Status> {
    if let Some(refusal) = outcome.refusal {
        return Some(Status::error(refusal.error.message.to_string()));
    }
    let status = outcome.response.status?;
    (status >= FIRST_ERROR_STATUS).then(|| Status::error(format!("the endpoint answered {status}")))
}

/// What clients choose is cut to a bounded length.
pub(super) fn text(name: &str) -> String {
    cut(name).to_owned()
}

pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
