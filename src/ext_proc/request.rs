//! The request half of an exchange: headers are held until the body is known, then answered
//! together with it.

use bytes::Bytes;

use super::collected::Collected;
use super::common::{BodyMode, Common, Next};
use super::reply::{self, Direction};
use super::routed::Routed;
use super::wire::{HttpBody, HttpHeaders, Outgoing};
use super::{headers, routed};
use crate::clock;
use crate::error::{Code, RequestError};

/// Where the request stands.
#[derive(Default)]
enum Phase {
    /// Nothing came yet; a stream may also begin with the response.
    #[default]
    Start,
    /// Headers came; the body is being collected.
    Collecting(Collected),
    /// The headers were answered after a silence: the first body message shows the mode.
    Guessing,
    /// Full duplex, answered before the body: it is sent back as it comes.
    Echoing,
    /// The request was answered; more of its body is acknowledged where the mode wants it.
    Answered,
}

#[derive(Default)]
pub(super) struct RequestSide {
    phase: Phase,
    routed: Option<Routed>,
}

impl RequestSide {
    /// What the response side needs to know of the request.
    pub fn routed(&mut self) -> Option<&mut Routed> {
        self.routed.as_mut()
    }

    pub fn on_headers(&mut self, common: &mut Common, message: HttpHeaders) -> Next {
        let mut collected = match std::mem::take(&mut self.phase) {
            Phase::Start => Collected::new(clock::now()),
            // The body came first, or the headers come in parts.
            Phase::Collecting(collected) => collected,
            answered => {
                self.phase = answered;
                return Next::Read;
            }
        };
        collected.add_headers(message.headers);
        if message.end_of_stream {
            return self.answer_without_body(common, &collected);
        }
        match (common.modes.request, common.modes.known) {
            (BodyMode::FullDuplex, true) => {
                self.phase = Phase::Collecting(collected);
                Next::Read
            }
            (BodyMode::FullDuplex, false) => {
                self.phase = Phase::Collecting(collected);
                Next::ReadOrSilence
            }
            (BodyMode::Buffered, _) => {
                // The body comes only once the headers are answered; what is to be changed in
                // them goes into the answer to the body.
                common.send(reply::message(Outgoing::RequestHeaders(reply::carry_on())));
                self.phase = Phase::Collecting(collected);
                Next::Read
            }
            // The headers leave before the body is seen: pick without knowing it.
            (BodyMode::PassThrough, _) => self.answer_headers_alone(common, collected),
        }
    }

    pub fn on_body(&mut self, common: &mut Common, message: HttpBody) -> Next {
        if matches!(self.phase, Phase::Guessing) {
            self.guess(common, &message);
        }
        if matches!(self.phase, Phase::Echoing) {
            if message.end_of_stream {
                self.phase = Phase::Answered;
            }
            let HttpBody { body, end_of_stream } = message;
            reply::streamed_body(Direction::Request, body, end_of_stream, |m| common.send(m));
            return Next::Read;
        }
        if matches!(self.phase, Phase::Start) {
            // No headers came, so the gateway has none for us.
            self.phase = Phase::Collecting(Collected::new(clock::now()));
        }
        let Phase::Collecting(collected) = &mut self.phase else {
            // Already answered. In full duplex this is the end of stream that Envoy 1.35 and
            // later may send twice; in the other modes every message wants its answer.
            if common.modes.request != BodyMode::FullDuplex {
                common.send(reply::whole_body(Direction::Request, None, false));
            }
            return Next::Read;
        };
        let limit = common.shared.max_request_body;
        if collected.add_body(message.body) > limit {
            return common.refuse(&RequestError::new(
                Code::PayloadTooLarge,
                format!("request body is larger than the limit of {limit} bytes"),
            ));
        }
        // A buffered body is whole even where trailers follow.
        if message.end_of_stream || common.modes.request == BodyMode::Buffered {
            self.answer(common, true)
        } else {
            Next::Read
        }
    }

    /// Trailers end the body too, where no message said so.
    pub fn on_trailers(&mut self, common: &mut Common) -> Next {
        let next = match self.phase {
            // Nothing came that could be answered before them.
            Phase::Start if common.modes.request == BodyMode::FullDuplex => return Next::Read,
            Phase::Collecting(_) => self.answer(common, false),
            _ => Next::Read,
        };
        if next == Next::Read {
            common.send(reply::trailers(Direction::Request));
        }
        next
    }

    pub fn on_silence(&mut self, common: &mut Common) -> Next {
        match std::mem::take(&mut self.phase) {
            Phase::Collecting(collected) if collected.has_no_body() => {
                // Whatever the mode is, an answer that names an endpoint is a right one.
                let next = self.answer_headers_alone(common, collected);
                if next == Next::Read {
                    self.phase = Phase::Guessing;
                }
                next
            }
            other => {
                self.phase = other;
                Next::Read
            }
        }
    }

    /// A gateway that buffers sends the whole body as one message that ends the stream; one in
    /// full duplex (a slow upload made it look silent) sends pieces.
    fn guess(&mut self, common: &mut Common, first: &HttpBody) {
        if first.end_of_stream {
            common.modes.request = BodyMode::Buffered;
            common.modes.response = BodyMode::PassThrough;
            self.phase = Phase::Answered;
        } else {
            self.phase = Phase::Echoing;
        }
    }

    /// A request without a body, such as `GET /v1/models`: any allowed endpoint will do.
    fn answer_without_body(&mut self, common: &mut Common, collected: &Collected) -> Next {
        self.phase = Phase::Answered;
        let endpoint = match common.shared.director.any_endpoint(common.subset.as_ref()) {
            Ok(endpoint) => endpoint,
            Err(error) => return common.refuse(&error),
        };
        let destination = Bytes::copy_from_slice(endpoint.host_port.as_bytes());
        let mut message = reply::message(Outgoing::RequestHeaders(reply::common(
            Some(headers::bodyless_mutation(
                destination.clone(),
                &collected.headers,
                collected.generated_id,
            )),
            None,
            true,
        )));
        message.dynamic_metadata = Some(reply::destination_metadata(&destination, &[]));
        common.send(message);
        Next::Read
    }

    /// Picks without a body and answers the headers with the pick.
    fn answer_headers_alone(&mut self, common: &mut Common, collected: Collected) -> Next {
        self.phase = Phase::Answered;
        let outcome = match routed::route_unseen(common, &collected) {
            Ok(outcome) => outcome,
            Err(error) => return common.refuse(&error),
        };
        let mut message = reply::message(Outgoing::RequestHeaders(reply::common(
            Some(headers::request_mutation(
                outcome.destination.clone(),
                None,
                &collected.headers,
                collected.generated_id,
            )),
            None,
            true,
        )));
        message.dynamic_metadata = Some(outcome.metadata);
        common.send(message);
        self.routed = Some(outcome.routed);
        Next::Read
    }

    /// The body is complete: routes the request and answers headers and body.
    fn answer(&mut self, common: &mut Common, end_of_stream: bool) -> Next {
        let Phase::Collecting(mut collected) = std::mem::replace(&mut self.phase, Phase::Answered)
        else {
            return Next::Read;
        };
        let body = collected.body();
        let outcome = match routed::route(common, &collected, body) {
            Ok(outcome) => outcome,
            Err(error) => return common.refuse(&error),
        };
        let routed::Outcome { destination, metadata, body, body_changed, routed, skip_response } =
            outcome;
        let length = (!body.is_empty()).then_some(body.len());
        let duplex = common.modes.request == BodyMode::FullDuplex;
        let mutation = headers::request_mutation(
            destination,
            length.filter(|_| duplex || body_changed),
            &collected.headers,
            collected.generated_id,
        );
        if duplex {
            let mut message =
                reply::message(Outgoing::RequestHeaders(reply::common(Some(mutation), None, true)));
            message.dynamic_metadata = Some(metadata);
            common.send(message);
            reply::streamed_body(Direction::Request, body, end_of_stream, |m| common.send(m));
        } else {
            let replacement = body_changed.then_some(body);
            let mut message = reply::routed_body(mutation, replacement);
            message.dynamic_metadata = Some(metadata);
            common.send(message);
        }
        self.routed = Some(routed);
        if skip_response { Next::End } else { Next::Read }
    }
}
