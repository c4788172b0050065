use std::any::Any;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::ChunkIntervals;
use crate::clock::Timestamp;
use crate::endpoints::Endpoint;
use crate::scheduling::{AnswerSoFar, Decision, InferenceRequest, Refusal, TokenUsage};

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was refused: the client got our error.
    Refused,
    /// The response came to its end.
    Complete,
    /// The gateway finishes the response alone, as it was told to.
    GatewayAlone,
    /// The gateway ended the stream before the request was decided: its client went away.
    CutBeforeDecision,
    /// The stream ended before the response's headers came: the client went away, or the endpoint
    /// could not be reached.
    CutBeforeResponse,
    /// The stream ended within the response.
    CutInResponse,
    /// The stream ended after the response's headers, and its body went by unseen: whether it came
    /// to its end the gateway does not tell.
    Unobserved,
    /// We ended it for the sake of another, of higher priority.
    Evicted,
}

impl Ending {
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::Complete,
        Self::GatewayAlone,
        Self::CutBeforeDecision,
        Self::CutBeforeResponse,
        Self::CutInResponse,
        Self::Unobserved,
        Self::Evicted,
    ];

    /// The ending in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Complete => "complete",
            Self::GatewayAlone => "gateway-alone",
            Self::CutBeforeDecision => "cut-before-decision",
            Self::CutBeforeResponse => "cut-before-response",
            Self::CutInResponse => "cut-in-response",
            Self::Unobserved => "unobserved",
            Self::Evicted => "evicted",
        }
    }
}

/// When things happened. What did not happen has no time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The request's headers came.
    pub received: Timestamp,
    /// All that will be known of the request was known: it could be decided.
    pub asked: Option<Timestamp>,
    /// The request was routed or refused.
    pub decided: Option<Timestamp>,
    /// What it waited in the queue before that, where there is one and it had to.
    pub queued: Option<Duration>,
    /// What the scheduler took.
    pub scheduling: Option<Duration>,
    /// The response's headers came.
    pub response: Option<Timestamp>,
    /// The first byte of the response's body came.
    pub first_byte: Option<Timestamp>,
    /// What reading the pieces of a streamed response took us.
    pub reading: Duration,
    pub ended: Timestamp,
}

impl Times {
    /// From the request's headers to the first byte of the response's body.
    pub fn ttft(&self) -> Option<Duration> {
        self.first_byte.map(|at| at.since(self.received))
    }

    /// Our own time on a response: on its pieces where it is streamed, else from its headers to its
    /// end, as the reference counts it.
    pub fn response_work(&self, streaming: bool) -> Option<Duration> {
        let response = self.response?;
        Some(if streaming { self.reading } else { self.ended.since(response) })
    }

    /// From the request's headers to the end.
    pub fn duration(&self) -> Duration {
        self.ended.since(self.received)
    }
}

/// Whether a response's body comes by here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodySight {
    /// It does, or there is none.
    #[default]
    Seen,
    /// The gateway keeps it to itself.
    Unseen,
    /// It was not to be sent, and came all the same.
    SeenAfterAll,
}

/// What was seen of the response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Its HTTP status, where the gateway tells.
    pub status: Option<u16>,
    /// Its body came as a stream of events.
    pub streaming: bool,
    /// Whether its body comes by here.
    pub body: BodySight,
    /// Bytes of its body so far.
    pub bytes: u64,
    /// What the endpoint reported so far.
    pub usage: Option<TokenUsage>,
    /// Its tokens so far by our own count, where some plugin has them counted.
    pub counted: u64,
    pub intervals: ChunkIntervals,
    /// `ip:port` of the endpoint that served, where the gateway tells.
    pub served_by: Option<String>,
}

impl Response {
    /// What of it plugins are shown.
    pub fn so_far(&self) -> AnswerSoFar {
        let Self { status, bytes, usage, counted, .. } = *self;
        AnswerSoFar { status, bytes, usage, counted }
    }
}

/// What listeners keep of an exchange from one call to the next, told apart by its type. There is
/// room for three: the metrics, since what was counted up when a request was routed has to be
/// counted down under the same labels, whatever its name has come to mean since; and the record
/// of the decision, which is completed when the exchange ends; and the span of a request that is
/// traced.
#[derive(Debug, Default)]
pub struct Kept([OnceLock<Arc<dyn Any + Send + Sync>>; 3]);

impl Kept {
    /// What is kept of this type, made by `make` where nothing is yet.
    pub fn get_or_make<T: Send + Sync + 'static>(&self, make: impl Fn() -> Arc<T>) -> Arc<T> {
        for place in &self.0 {
            if let Ok(kept) = place.get_or_init(|| make()).clone().downcast() {
                return kept;
            }
        }
        make()
    }

    /// What is kept of this type, if anything is.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.iter().filter_map(OnceLock::get).find_map(|kept| kept.clone().downcast().ok())
    }
}

/// Everything that is known of an exchange when it has ended.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// Of a request that was refused before it was read, what is known by then.
    pub request: &'a InferenceRequest,
    /// The request had a body that was read: it counts as an inference request.
    pub has_body: bool,
    /// The endpoint that the request was sent to.
    pub endpoint: Option<&'a Arc<Endpoint>>,
    /// How that was chosen; `None` where any would do.
    pub decision: Option<&'a Decision>,
    /// What the client got from us instead of an answer.
    pub refusal: Option<&'a Refusal>,
    /// Name of the object by whose rule the model's name was changed.
    pub rewritten_by: Option<&'a str>,
    pub times: Times,
    pub response: &'a Response,
    pub ending: Ending,
    pub kept: &'a Kept,
}

/// Told of exchanges. What it does takes time from requests, so it should be quick.
pub trait OutcomeListener: Debug + Send + Sync {
    /// A request was routed; its response is still to come.
    fn routed(&self, so_far: &Outcome<'_>) {
        let _ = so_far;
    }

    /// The first byte of a response's body came.
    fn answer_begins(&self, so_far: &Outcome<'_>) {
        let _ = so_far;
    }

    /// The headers of a response came whose body will not: nothing else is heard of it until its
    /// end.
    fn goes_by_unseen(&self, so_far: &Outcome<'_>) {
        let _ = so_far;
    }

    /// An exchange has ended: called exactly once for each.
    fn ended(&self, outcome: &Outcome<'_>);
}
