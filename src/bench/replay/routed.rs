//! What a request holds and whom its fate is told, from the pick to its end.

use std::sync::Arc;
use std::task::{Context, Waker};

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::endpoints::Reservation;
use crate::exchange::{Ending, Kept, Outcome, OutcomeListener, Response, Stay, Times};
use crate::scheduling::{
    Decision, Directions, InferenceRequest, ResponseHook, RoutedRequest, TokenUsage,
};
use crate::sim::Nanos;

/// What a request holds until it ends.
#[derive(Debug)]
pub(super) enum Held {
    Routed(Box<Routed>),
    Reservations(SmallVec<[Reservation; 2]>),
}

/// How a request ended, as the gateway would see it.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Complete(TokenUsage),
    /// The whole answer is an error of this status, the endpoint's or the gateway's own where the
    /// endpoint could not be reached.
    Error(u16),
    /// The client went away before anything came.
    GivenUp,
    /// The connection broke within the answer.
    Cut,
    /// The router ended it for the sake of another.
    Evicted,
}

impl Held {
    /// The answer begins.
    pub(super) fn answer_begins(&mut self, now: Nanos) {
        match self {
            Held::Routed(routed) => routed.answer_begins(Timestamp::from_nanos(now)),
            Held::Reservations(all) => all.iter_mut().for_each(Reservation::answer_begins),
        }
    }

    /// True where the router wants the request to end; else the waker is woken when it does.
    pub(super) fn is_evicted(&mut self, waker: &Waker) -> bool {
        let Held::Routed(routed) = self else { return false };
        let Some(stay) = &mut routed.stay.0 else { return false };
        stay.poll_evicted(&mut Context::from_waker(waker)).is_ready()
    }

    /// The request ends: all it holds is let go of, and those who want to know are told.
    pub(super) fn end(self, now: Nanos, end: End) {
        if let Held::Routed(routed) = self {
            routed.end(Timestamp::from_nanos(now), end);
        }
    }
}

/// Those who are told of requests: plugins of one configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Audience {
    pub listeners: Arc<[Arc<dyn OutcomeListener>]>,
    pub hooks: Arc<[Arc<dyn ResponseHook>]>,
}

/// A request that a pipeline has routed. It goes through the same calls as behind a gateway, but
/// for the pieces of the answer after the first: an engine's tokens are not looked at one by one.
#[derive(Debug)]
pub(super) struct Routed {
    decision: Decision,
    /// Without its prompt.
    request: InferenceRequest,
    audience: Audience,
    times: Times,
    response: Response,
    kept: Kept,
    stay: Place,
}

/// A request's place in the pool, where places are kept.
struct Place(Option<Box<dyn Stay>>);

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.0.is_some()).finish()
    }
}

impl Routed {
    pub(super) fn new(
        decision: Decision,
        request: InferenceRequest,
        stay: Option<Box<dyn Stay>>,
        audience: Audience,
        now: Timestamp,
    ) -> Self {
        let received = request.received_at;
        let queued = Some(now.since(received)).filter(|waited| !waited.is_zero());
        let times = Times { received, decided: Some(now), queued, ended: now, ..Times::default() };
        let routed = Self {
            decision,
            request,
            audience,
            times,
            response: Response::default(),
            kept: Kept::default(),
            stay: Place(stay),
        };
        routed.tell(Ending::CutBeforeResponse, |listener, so_far| listener.routed(so_far));
        routed
    }

    fn answer_begins(&mut self, now: Timestamp) {
        self.headers(now, 200);
        self.times.first_byte = Some(now);
        self.response.streaming = true;
        self.decision.answer_begins();
        if let Some(stay) = &mut self.stay.0 {
            stay.answer_begins(true, now);
        }
        self.tell(Ending::CutInResponse, |listener, so_far| listener.answer_begins(so_far));
        self.with_hooks(now, |hook, exchange| {
            hook.response_chunk(exchange, b"", &mut Directions::default())
        });
    }

    fn headers(&mut self, now: Timestamp, status: u16) {
        self.times.response = Some(now);
        self.response.status = Some(status);
        self.response.served_by = self.decision.target().map(|e| e.host_port.to_string());
        let mut directions = Directions::default();
        self.with_hooks(now, |hook, exchange| {
            hook.response_headers(exchange, Some(status), &mut directions);
        });
    }

    fn end(mut self, now: Timestamp, end: End) {
        self.times.ended = now;
        let ending = match end {
            End::Complete(usage) => {
                self.response.usage = Some(usage);
                let mut directions = Directions::default();
                self.with_hooks(now, |hook, exchange| {
                    hook.response_end(exchange, Some(&usage), &mut directions);
                });
                Ending::Complete
            }
            End::Error(status) => {
                self.headers(now, status);
                Ending::Complete
            }
            End::GivenUp => Ending::CutBeforeResponse,
            End::Cut => Ending::CutInResponse,
            End::Evicted => Ending::Evicted,
        };
        self.decision.release();
        if let (Some(mut stay), Some(usage)) = (self.stay.0.take(), &self.response.usage) {
            stay.used(usage);
        }
        self.tell(ending, |listener, outcome| listener.ended(outcome));
    }

    fn tell(&self, ending: Ending, f: impl Fn(&dyn OutcomeListener, &Outcome<'_>)) {
        let outcome = Outcome {
            request: &self.request,
            has_body: true,
            endpoint: self.decision.target(),
            decision: Some(&self.decision),
            refusal: None,
            rewritten_by: None,
            times: self.times,
            response: &self.response,
            ending,
            kept: &self.kept,
        };
        self.audience.listeners.iter().for_each(|listener| f(&**listener, &outcome));
    }

    fn with_hooks(&self, now: Timestamp, mut f: impl FnMut(&dyn ResponseHook, &RoutedRequest<'_>)) {
        let exchange = RoutedRequest {
            request: &self.request,
            decision: &self.decision,
            served_by: self.response.served_by.as_deref(),
            answer: self.response.so_far(),
            now,
        };
        self.audience.hooks.iter().for_each(|hook| f(&**hook, &exchange));
    }
}
