use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{Admission, Admitted, Arrival, Permit, Stay};
use crate::clock::Timestamp;
use crate::config::parse_duration;
use crate::endpoints::Endpoint;
use crate::error::{Code, DropReason, RequestError};
use crate::flow_control::{
    self, Clock, FlowController, Outcome, Rejection, Running, SaturationDetector, Sent, Served,
    Ticket,
};
use crate::headers;
use crate::scheduling::{Decision, InferenceRequest, TokenUsage};

/// Told what becomes of requests at the queue.
pub trait QueueListener: Debug + Send + Sync {
    /// A request was looked at in so long; `outcome` is `None` where it has to wait.
    fn asked(&self, request: &InferenceRequest, outcome: Option<Outcome>, took: Duration);

    /// A request that had to wait does no longer.
    fn left(&self, request: &InferenceRequest, outcome: Outcome, waited: Duration);
}

/// Admission with flow control: while the pool is saturated, requests wait in order.
#[derive(Clone)]
pub struct QueuedAdmission {
    pub controller: Arc<FlowController>,
    pub detector: Arc<dyn SaturationDetector>,
    pub listener: Arc<dyn QueueListener>,
    pub clock: Clock,
}

impl Debug for QueuedAdmission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueuedAdmission").field("controller", &self.controller).finish()
    }
}

impl Admission for QueuedAdmission {
    fn admit(&self, arrival: Arrival<'_>) -> Admitted {
        let Arrival { request, now, .. } = arrival;
        let tokens = match self.detector.counts_tokens() {
            true => request.prompt.token_count(),
            false => 0,
        };
        let asked = flow_control::Arrival {
            fairness_id: request.fairness_id(),
            priority: request.priority,
            bytes: request.body_bytes as u64,
            tokens,
            received_at: request.received_at,
            ttl: request.headers.get(headers::QUEUE_TTL).and_then(parse_duration),
            ttft_slo: ttft_slo(request),
        };
        let admission = self.controller.admit(&asked, now);
        let outcome = match &admission {
            flow_control::Admission::Go(_) => Some(Outcome::Dispatched),
            flow_control::Admission::Wait(_) => None,
            flow_control::Admission::Reject(rejection) => Some(rejection.outcome),
        };
        self.listener.asked(request, outcome, (self.clock)().since(now));
        match admission {
            flow_control::Admission::Go(permit) => {
                Admitted::Now(Some(Box::new(self.permit(permit, request))))
            }
            flow_control::Admission::Wait(ticket) => Admitted::Later(Box::pin(Waiting {
                ticket,
                request: request.clone(),
                admission: self.clone(),
                since: now,
                is_over: false,
            })),
            flow_control::Admission::Reject(rejection) => Admitted::Refused(refusal(rejection)),
        }
    }
}

impl QueuedAdmission {
    fn permit(&self, permit: flow_control::Permit, request: &Arc<InferenceRequest>) -> QueuePermit {
        // What nobody learns from is not counted.
        let learns = self.detector.observes().then(|| (self.detector.clone(), request.clone()));
        QueuePermit { permit, learns }
    }
}

/// When the first token is due, from the request's headers; what is no number of milliseconds
/// says nothing.
fn ttft_slo(request: &InferenceRequest) -> Option<Duration> {
    let text = request.headers.named(headers::SLO_TTFT)?;
    text.parse::<u32>().ok().map(|ms| Duration::from_millis(ms.into()))
}

/// What the client of a rejected request gets (llm-d-router main at ebab6879: 429 where there is
/// capacity that is contended, 503 where there is none).
fn refusal(rejection: Rejection) -> RequestError {
    let (code, reason, message) = match rejection.outcome {
        Outcome::EvictedTtl => (
            Code::ResourceExhausted,
            DropReason::TtlExpired,
            "the request waited for capacity for as long as it was allowed to",
        ),
        Outcome::EvictedNoEndpoints => (
            Code::ServiceUnavailable,
            DropReason::NoEndpoints,
            "no endpoint appeared while the request waited",
        ),
        Outcome::RejectedShuttingDown => {
            (Code::ServiceUnavailable, DropReason::ShuttingDown, "the endpoint picker shuts down")
        }
        Outcome::RejectedCapacity | Outcome::Dispatched | Outcome::EvictedCancelled => (
            Code::ResourceExhausted,
            DropReason::Saturated,
            "the pool is saturated and no more requests may wait",
        ),
    };
    RequestError::new(code, message).with_reason(reason).with_retry_after(rejection.retry_after)
}

/// A request in the queue.
struct Waiting {
    ticket: Ticket,
    request: Arc<InferenceRequest>,
    admission: QueuedAdmission,
    since: Timestamp,
    is_over: bool,
}

impl Waiting {
    fn left(&mut self, outcome: Outcome) {
        self.is_over = true;
        let waited = (self.admission.clock)().since(self.since);
        self.admission.listener.left(&self.request, outcome, waited);
    }
}

impl Future for Waiting {
    type Output = Result<Box<dyn Permit>, RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.ticket).poll(cx));
        this.left(
            result.as_ref().map_or_else(|rejection| rejection.outcome, |_| Outcome::Dispatched),
        );
        Poll::Ready(match result {
            Ok(permit) => Ok(Box::new(this.admission.permit(permit, &this.request))),
            Err(rejection) => Err(refusal(rejection)),
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_over {
            self.left(Outcome::EvictedCancelled);
        }
    }
}

/// Who learns from a request, and the request.
type Learns = Option<(Arc<dyn SaturationDetector>, Arc<InferenceRequest>)>;

struct QueuePermit {
    permit: flow_control::Permit,
    learns: Learns,
}

impl Permit for QueuePermit {
    fn reserved(self: Box<Self>, decision: &Decision, now: Timestamp) -> Box<dyn Stay> {
        let targets = decision.profiles.iter().filter_map(|p| p.target()).map(|e| &**e);
        let Self { permit, learns } = *self;
        // Before the permit is settled: what is neither pending nor seen to be sent would be
        // taken for room.
        let lesson = learns.and_then(|(detector, request)| {
            let target: &Arc<Endpoint> = decision.target()?;
            let detector = detector.in_force().unwrap_or(detector);
            let in_flight = target.in_flight.requests();
            let tokens = uncached_tokens(&request, decision);
            let waits_at = request.stream.then(|| target.clone());
            if let Some(endpoint) = &waits_at {
                detector.sent(endpoint);
            }
            Some(Lesson { detector, sent_at: now, in_flight, tokens, waits_at })
        });
        let running = permit.reserved(targets);
        Box::new(QueueStay { running, lesson })
    }
}

/// Tokens of the prompt that are not believed to be cached on the target.
fn uncached_tokens(request: &InferenceRequest, decision: &Decision) -> i64 {
    let tokens = request.prompt.token_count();
    let uncached = match decision.prefix_blocks {
        Some((cached, all)) if all > 0 => {
            tokens * u64::from(all.saturating_sub(cached)) / u64::from(all)
        }
        _ => tokens,
    };
    i64::try_from(uncached).unwrap_or(i64::MAX)
}

/// What is to be learned when the answer begins.
struct Lesson {
    detector: Arc<dyn SaturationDetector>,
    sent_at: Timestamp,
    in_flight: i64,
    tokens: i64,
    /// The endpoint that the detector was told of, where the answer is to come as a stream.
    waits_at: Option<Arc<Endpoint>>,
}

impl Drop for Lesson {
    fn drop(&mut self) {
        if let Some(endpoint) = &self.waits_at {
            self.detector.answered(endpoint);
        }
    }
}

struct QueueStay {
    running: Running,
    lesson: Option<Lesson>,
}

impl Stay for QueueStay {
    fn answer_begins(&mut self, streaming: bool, now: Timestamp) {
        let Some(lesson) = self.lesson.take() else { return };
        if streaming {
            let Lesson { sent_at, in_flight, tokens, .. } = lesson;
            lesson.detector.observe(Sent { ttft: now.since(sent_at), in_flight, tokens }, now);
        }
    }

    fn used(&mut self, usage: &TokenUsage) {
        let TokenUsage { prompt, completion, .. } = *usage;
        self.running.set_served(Served { prompt_tokens: prompt, completion_tokens: completion });
    }

    fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<RequestError> {
        self.running.poll_evicted(cx).map(|()| {
            RequestError::new(Code::ResourceExhausted, "request evicted by flow control")
                .with_reason(DropReason::Evicted)
        })
    }
}
