//! The request half of an exchange: headers are held until the body is known, then answered
//! together with it.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::body_mode::BodyMode;
use super::conversation::{Conversation, Next};
use super::header_mutation::{self, bodyless_mutation, request_mutation};
use super::reply_messages::{self as reply, Direction};
use super::wire::{HeaderMutation, HttpBody, HttpHeaders, Outgoing, ProcessingResponse};
use crate::error::RequestError;
use crate::exchange::{BodyKnown, Forward};

/// Where the request stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing came yet; a stream may also begin with the response.
    #[default]
    Start,
    /// Headers came; the body is being collected.
    Collecting,
    /// All that will be known is known; the decision has to wait.
    Deciding(Answer),
    /// The headers were answered after a silence: the first body message shows the mode.
    Guessing,
    /// Full duplex, answered before the body: it is sent back as it comes.
    Echoing,
    /// The request was answered; more of its body is acknowledged where the mode wants it.
    Answered,
}

/// What is to be answered once the request is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Headers and body; the body ends the stream, unless trailers do.
    Body { end_of_stream: bool, trailers_too: bool },
    /// The headers alone: the body goes by unseen. Then goes on in this way.
    Headers { guess: bool },
    /// The headers of a request without a body.
    NoBody,
}

#[derive(Default)]
pub(super) struct RequestHalf {
    phase: Phase,
}

impl RequestHalf {
    pub(super) fn on_headers(
        &mut self,
        conversation: &mut Conversation,
        message: HttpHeaders,
    ) -> Next {
        match self.phase {
            // In parts, or after the body.
            Phase::Start | Phase::Collecting => self.phase = Phase::Collecting,
            _ => return self.wait_on(),
        }
        let list = message.headers.map(|m| m.headers).unwrap_or_default();
        let added = conversation.exchange.add_headers(list.into_iter().map(|header| {
            let value = header_mutation::value_of(&header).clone();
            (header.key, value)
        }));
        if let Err(error) = added {
            self.phase = Phase::Answered;
            return conversation.send_error(&error);
        }
        if message.end_of_stream {
            return self.decide(conversation, BodyKnown::None, Answer::NoBody);
        }
        match (conversation.modes.request, conversation.modes.known) {
            (BodyMode::FullDuplex, true) => Next::ReadBody,
            (BodyMode::FullDuplex, false) => Next::ReadWithinSilence,
            (BodyMode::Buffered, _) => {
                // The body comes only once the headers are answered; what is to be changed in
                // them goes into the answer to the body.
                conversation.send(reply::message(Outgoing::RequestHeaders(reply::carry_on())));
                Next::ReadBody
            }
            // The headers leave before the body is seen: pick without knowing it.
            (BodyMode::Streamed | BodyMode::Unsent, _) => {
                self.decide(conversation, BodyKnown::Unseen, Answer::Headers { guess: false })
            }
        }
    }

    pub(super) fn on_body(&mut self, conversation: &mut Conversation, message: HttpBody) -> Next {
        if self.phase == Phase::Guessing {
            self.guess(conversation, &message);
        }
        match self.phase {
            Phase::Echoing => {
                if message.end_of_stream {
                    self.phase = Phase::Answered;
                }
                let HttpBody { body, end_of_stream } = message;
                reply::streamed_body(Direction::Request, body, end_of_stream, |m| {
                    conversation.send(m);
                });
                Next::Read
            }
            // Without headers the gateway has none for us.
            Phase::Start | Phase::Collecting => {
                self.phase = Phase::Collecting;
                if let Err(error) = conversation.exchange.add_body(message.body) {
                    self.phase = Phase::Answered;
                    return conversation.send_error(&error);
                }
                // A buffered body is whole even where trailers follow.
                if message.end_of_stream || conversation.modes.request == BodyMode::Buffered {
                    let answer = Answer::Body { end_of_stream: true, trailers_too: false };
                    self.decide(conversation, BodyKnown::Whole, answer)
                } else {
                    Next::ReadBody
                }
            }
            // Already complete. In full duplex this is the end of stream that Envoy 1.35 and
            // later may send twice; in the other modes every message wants its answer.
            Phase::Deciding(_) | Phase::Guessing | Phase::Answered => {
                if conversation.modes.request != BodyMode::FullDuplex {
                    conversation.send(reply::whole_body(Direction::Request, None, false));
                }
                self.wait_on()
            }
        }
    }

    /// Trailers end the body too, where no message said so.
    pub(super) fn on_trailers(&mut self, conversation: &mut Conversation) -> Next {
        match &mut self.phase {
            // Nothing came that could be answered before them.
            Phase::Start if conversation.modes.request == BodyMode::FullDuplex => Next::Read,
            Phase::Collecting => {
                let answer = Answer::Body { end_of_stream: false, trailers_too: true };
                self.decide(conversation, BodyKnown::Whole, answer)
            }
            // They are answered after what they follow.
            Phase::Deciding(Answer::Body { trailers_too, .. }) => {
                *trailers_too = true;
                Next::Decide
            }
            _ => {
                conversation.send(reply::trailers(Direction::Request));
                self.wait_on()
            }
        }
    }

    pub(super) fn on_silence(&mut self, conversation: &mut Conversation) -> Next {
        if self.phase != Phase::Collecting {
            return Next::Read;
        }
        if conversation.modes.known || !conversation.exchange.has_no_body() {
            self.phase = Phase::Answered;
            let error = conversation.exchange.give_up();
            return conversation.send_error(&error);
        }
        // Whatever the mode is, an answer that names an endpoint is a right one.
        self.decide(conversation, BodyKnown::Unseen, Answer::Headers { guess: true })
    }

    pub(super) fn poll_decided(
        &mut self,
        conversation: &mut Conversation,
        cx: &mut Context<'_>,
    ) -> Poll<Next> {
        let Phase::Deciding(answer) = self.phase else { return Poll::Pending };
        let decided = conversation.exchange.poll_decided(cx);
        decided.map(|decided| self.answer(conversation, answer, decided))
    }

    /// What the stream waits for after a message that changes nothing.
    fn wait_on(&self) -> Next {
        if matches!(self.phase, Phase::Deciding(_)) { Next::Decide } else { Next::Read }
    }

    /// A gateway that buffers sends the whole body as one message that ends the stream; one in
    /// full duplex (a slow upload made it look silent) sends pieces.
    fn guess(&mut self, conversation: &mut Conversation, first: &HttpBody) {
        if first.end_of_stream {
            conversation.modes.request = BodyMode::Buffered;
            conversation.modes.response = BodyMode::Streamed;
            self.phase = Phase::Answered;
        } else {
            self.phase = Phase::Echoing;
        }
    }

    fn decide(&mut self, conversation: &mut Conversation, body: BodyKnown, answer: Answer) -> Next {
        match conversation.exchange.decide(body) {
            Poll::Ready(decided) => self.answer(conversation, answer, decided),
            Poll::Pending => {
                self.phase = Phase::Deciding(answer);
                Next::Decide
            }
        }
    }

    fn answer(
        &mut self,
        conversation: &mut Conversation,
        answer: Answer,
        decided: Result<Forward, RequestError>,
    ) -> Next {
        self.phase = Phase::Answered;
        let forward = match decided {
            Ok(forward) => forward,
            Err(error) => return conversation.send_error(&error),
        };
        let skip_response = forward.skip_response;
        match answer {
            Answer::NoBody => answer_no_body(conversation, forward),
            Answer::Headers { guess } => {
                answer_headers(conversation, forward);
                if guess {
                    self.phase = Phase::Guessing;
                }
            }
            Answer::Body { end_of_stream, trailers_too } => {
                answer_body(conversation, forward, end_of_stream && !trailers_too);
                if trailers_too {
                    conversation.send(reply::trailers(Direction::Request));
                }
            }
        }
        if skip_response { Next::End } else { Next::Read }
    }
}

/// A request without a body, such as `GET /v1/models`.
fn answer_no_body(conversation: &mut Conversation, forward: Forward) {
    let exchange = &conversation.exchange;
    let headers = exchange.request_headers();
    let mutation = bodyless_mutation(forward.destination.clone(), headers, exchange.trace_parent());
    let message = headers_reply(mutation);
    send_routed(conversation, message, &forward.destination);
}

/// Answers the headers with the pick; the body was not seen.
fn answer_headers(conversation: &mut Conversation, forward: Forward) {
    let mutation = mutation(conversation, forward.destination.clone(), None);
    send_routed(conversation, headers_reply(mutation), &forward.destination);
}

/// Answers headers and body.
fn answer_body(conversation: &mut Conversation, forward: Forward, end_of_stream: bool) {
    let Forward { destination, body, body_changed, .. } = forward;
    let length = (!body.is_empty()).then_some(body.len());
    let duplex = conversation.modes.request == BodyMode::FullDuplex;
    let length = length.filter(|_| duplex || body_changed);
    let mutation = mutation(conversation, destination.clone(), length);
    if duplex {
        send_routed(conversation, headers_reply(mutation), &destination);
        reply::streamed_body(Direction::Request, body, end_of_stream, |m| conversation.send(m));
    } else {
        let message = reply::routed_body(mutation, body_changed.then_some(body));
        send_routed(conversation, message, &destination);
    }
}

fn mutation(
    conversation: &Conversation,
    destination: Bytes,
    length: Option<usize>,
) -> HeaderMutation {
    let exchange = &conversation.exchange;
    request_mutation(destination, length, exchange.request_headers(), exchange.directions())
}

fn headers_reply(mutation: HeaderMutation) -> ProcessingResponse {
    reply::message(Outgoing::RequestHeaders(reply::common(Some(mutation), None, true)))
}

/// Sends a message that says where the request goes, with the metadata that says it too.
fn send_routed(
    conversation: &mut Conversation,
    mut message: ProcessingResponse,
    destination: &Bytes,
) {
    let exchange = &conversation.exchange;
    let scores = exchange.decision().map(|d| d.scores.as_slice()).unwrap_or_default();
    let metadata = reply::destination_metadata(destination, scores, exchange.directions());
    message.dynamic_metadata = Some(metadata);
    conversation.send(message);
}
