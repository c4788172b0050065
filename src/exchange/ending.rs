//! The response half of an exchange, and its end.

use std::task::{Context, Poll};

use super::exchange::{Exchange, Routed, Stage};
use super::outcome::{BodySight, Ending, Outcome};
use super::response::ResponseHead;
use crate::api::{ModelRenamer, UsageRemover};
use crate::error::RequestError;
use crate::scheduling::{Directions, InferenceRequest, Refusal, RoutedRequest};

impl Exchange {
    /// The response's headers came. What plugins want to set beside them comes back.
    pub fn response_headers(&mut self, head: ResponseHead) -> Directions {
        let Stage::Routed(routed) = &self.stage else { return Directions::default() };
        let now = self.context.runtime.now();
        self.times.response.get_or_insert(now);
        self.response.begin(routed.api, head, self.context.counts_tokens);
        let mut directions = Directions::default();
        self.with_routed(|exchange, hook| {
            hook.response_headers(exchange, head.status, &mut directions);
        });
        if head.end {
            self.end(Ending::Complete);
        } else if head.unseen {
            self.context.response_bodies.goes_by();
            self.tell(|listener, so_far| listener.goes_by_unseen(so_far));
        }
        directions
    }

    /// Takes a piece of the response's body. Dynamic metadata that plugins want to set comes back.
    pub fn response_chunk(&mut self, piece: &[u8]) -> Directions {
        let mut directions = Directions::default();
        let Stage::Routed(routed) = &mut self.stage else { return directions };
        if self.response.seen.body == BodySight::Unseen {
            self.response.seen.body = BodySight::SeenAfterAll;
            self.context.response_bodies.is_sent_anyway();
        }
        let runtime = &self.context.runtime;
        let first = self.response.chunk(piece, &mut self.times, || runtime.now());
        if first {
            if let Some(decision) = &mut routed.decision {
                decision.answer_begins();
            }
            if let Some(stay) = &mut routed.stay {
                let at = self.times.first_byte.unwrap_or(self.times.received);
                stay.answer_begins(self.response.seen.streaming, at);
            }
            self.tell(|listener, so_far| listener.answer_begins(so_far));
        }
        self.with_routed(|exchange, hook| hook.response_chunk(exchange, piece, &mut directions));
        if let (Some(begun), false) = (self.response.reading_since(), piece.is_empty()) {
            self.times.reading += self.context.runtime.now().since(begun);
        }
        directions
    }

    /// The response's body is complete. Dynamic metadata that plugins want to set comes back.
    pub fn response_end(&mut self) -> Directions {
        let mut directions = Directions::default();
        if matches!(self.stage, Stage::Routed(_)) {
            self.response.finish();
            let usage = self.response.seen.usage;
            self.with_routed(|exchange, hook| {
                hook.response_end(exchange, usage.as_ref(), &mut directions);
            });
            self.end(Ending::Complete);
        }
        directions
    }

    /// Ready when the request has to end for the sake of another, with what the client gets; the
    /// exchange is over then.
    pub fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<RequestError> {
        let Stage::Routed(routed) = &mut self.stage else { return Poll::Pending };
        let Some(stay) = &mut routed.stay else { return Poll::Pending };
        let Poll::Ready(error) = stay.poll_evicted(cx) else { return Poll::Pending };
        let refusal = Refusal::from(error);
        self.response.read_usage();
        self.end_with(Ending::Evicted, Some(&refusal));
        Poll::Ready(refusal.error)
    }

    /// The request asked for a stream.
    pub fn wants_stream(&self) -> bool {
        matches!(&self.stage, Stage::Routed(routed) if routed.request.stream)
    }

    /// Whether the gateway is to send the response's body, where it asks; `events`: it is a
    /// stream of events. What has to be changed in it has to be sent, whoever reads it.
    pub fn wants_response_body(&self, events: bool) -> bool {
        let Stage::Routed(routed) = &self.stage else { return true };
        self.context.response_bodies.wants(events)
            || (routed.hides_usage && events)
            || self.renamer().is_some()
    }

    /// Maps the model's name back in the response, where it was changed on the way in.
    pub fn renamer(&self) -> Option<ModelRenamer> {
        let Stage::Routed(routed) = &self.stage else { return None };
        let InferenceRequest { incoming_model, target_model, .. } = &*routed.request;
        let changed = !routed.api.is_grpc()
            && incoming_model != target_model
            && !incoming_model.is_empty()
            && !target_model.is_empty();
        changed.then(|| ModelRenamer::new(target_model, incoming_model))
    }

    /// Takes the counts out of a stream whose client did not ask for them.
    pub fn usage_remover(&self) -> Option<UsageRemover> {
        let Stage::Routed(routed) = &self.stage else { return None };
        (routed.hides_usage && self.response.events).then(UsageRemover::default)
    }

    /// Calls `f` with every response hook.
    fn with_routed(
        &self,
        mut f: impl FnMut(&RoutedRequest<'_>, &dyn crate::scheduling::ResponseHook),
    ) {
        let Stage::Routed(routed) = &self.stage else { return };
        if self.context.response_hooks.is_empty() {
            return;
        }
        let Some(decision) = &routed.decision else { return };
        let exchange = RoutedRequest {
            request: &routed.request,
            decision,
            served_by: self.response.seen.served_by.as_deref(),
            answer: self.response.seen.so_far(),
            now: self.context.runtime.now(),
        };
        self.context.response_hooks.iter().for_each(|hook| f(&exchange, &**hook));
    }

    /// Tells listeners of a request that was routed, as far as it has come.
    pub(super) fn tell(&self, f: impl Fn(&dyn super::OutcomeListener, &Outcome<'_>)) {
        let Stage::Routed(routed) = &self.stage else { return };
        let outcome = self.outcome(routed, Ending::CutInResponse);
        self.context.listeners.iter().for_each(|listener| f(&**listener, &outcome));
    }

    fn outcome<'a>(&'a self, routed: &'a Routed, ending: Ending) -> Outcome<'a> {
        Outcome {
            request: &routed.request,
            has_body: routed.has_body,
            endpoint: Some(&routed.endpoint),
            decision: routed.decision.as_ref(),
            refusal: None,
            rewritten_by: routed.rewritten_by.as_deref(),
            times: self.times,
            response: &self.response.seen,
            ending,
            kept: &self.kept,
        }
    }

    /// Ends an exchange whose request was routed: what it holds is released before anybody is
    /// told, since the endpoint is done with it whatever the gateway still does.
    pub(super) fn end(&mut self, ending: Ending) {
        self.end_with(ending, None);
    }

    fn end_with(&mut self, ending: Ending, refusal: Option<&Refusal>) {
        self.times.ended = self.context.runtime.now();
        let Stage::Routed(mut routed) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        if let Some(decision) = &mut routed.decision {
            decision.release();
        }
        if let Some(mut stay) = routed.stay.take()
            && let Some(usage) = &self.response.seen.usage
        {
            stay.used(usage);
        }
        let outcome = Outcome { refusal, ..self.outcome(&routed, ending) };
        self.context.listeners.iter().for_each(|listener| listener.ended(&outcome));
        if refusal.is_some() {
            self.stage = Stage::Refused(routed.request);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.let_body_go();
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over | Stage::Refused(_) => {}
            Stage::Routed(routed) => {
                self.stage = Stage::Routed(routed);
                self.response.read_usage();
                self.end(match (self.times.response, self.response.seen.body) {
                    (None, _) => Ending::CutBeforeResponse,
                    (Some(_), BodySight::Unseen) => Ending::Unobserved,
                    (Some(_), _) => Ending::CutInResponse,
                });
            }
            Stage::Deciding(subject, _) => self.cut(&subject.request),
            Stage::Receiving => {
                let request = self.unread();
                self.cut(&request);
            }
        }
    }
}

impl Exchange {
    /// Tells that the exchange was cut before its request was decided.
    fn cut(&mut self, request: &InferenceRequest) {
        self.times.ended = self.context.runtime.now();
        let outcome = Outcome {
            request,
            has_body: !self.pending.has_no_body(),
            endpoint: None,
            decision: None,
            refusal: None,
            rewritten_by: None,
            times: self.times,
            response: &self.response.seen,
            ending: Ending::CutBeforeDecision,
            kept: &self.kept,
        };
        self.context.listeners.iter().for_each(|listener| listener.ended(&outcome));
    }
}
