//! The response half of a conversation: bytes go on as they come, and the exchange sees them.

use bytes::{Bytes, BytesMut};

use super::body_mode::BodyMode;
use super::conversation::{Conversation, Next};
use super::header_mutation::{response_mutation, value_of};
use super::reply_messages::{self as reply, Direction};
use super::wire::{HttpBody, HttpHeaders, Outgoing};
use crate::api::{ModelRenamer, UsageRemover};
use crate::exchange::ResponseHead;

/// A response that is not a stream is held until it is complete, as the reference does; beyond
/// this many bytes it is passed on as it comes, so that memory stays bounded.
const MAX_HELD: usize = 8 << 20;

#[derive(Default)]
enum Phase {
    /// No response yet.
    #[default]
    Start,
    Body(Box<Body>),
    /// The end of the body was seen.
    Ended,
}

struct Body {
    /// Pieces are answered one by one.
    streaming: bool,
    held: BytesMut,
    renamer: Option<ModelRenamer>,
    remover: Option<UsageRemover>,
}

#[derive(Default)]
pub(super) struct ResponseHalf {
    phase: Phase,
}

impl ResponseHalf {
    pub(super) fn on_headers(
        &mut self,
        conversation: &mut Conversation,
        message: HttpHeaders,
    ) -> Next {
        let list = message.headers.map(|m| m.headers).unwrap_or_default();
        let of = |name: &str| {
            let found = list.iter().find(|h| h.key.eq_ignore_ascii_case(name.as_bytes()));
            found.and_then(|h| std::str::from_utf8(value_of(h)).ok()).unwrap_or_default()
        };
        let exchange = &mut conversation.exchange;
        let events = of("content-type").contains("text/event-stream");
        let streaming =
            events || exchange.wants_stream() || conversation.modes.response.passes_by();
        // The reference looks for `status`, which no gateway sends.
        let status = of(":status").parse().ok();
        let renamer = exchange.renamer();
        // Where the headers end the response, what comes all the same is answered, not counted.
        let end = message.end_of_stream;
        let sent = conversation.modes.response != BodyMode::Unsent;
        let turned_off = (sent && !end && !exchange.wants_response_body(events))
            .then(|| conversation.modes.without_response_body())
            .flatten();
        let unseen = !end && (!sent || turned_off.is_some());
        let head = ResponseHead { status, events, streaming, end, unseen };
        let directions = exchange.response_headers(head);
        let remover = exchange.usage_remover();
        let editing = renamer.is_some() || remover.is_some();
        let held = BytesMut::new();
        self.phase = Phase::Body(Box::new(Body { streaming, held, renamer, remover }));
        let mut mutation = response_mutation(&list, &directions);
        if editing && conversation.modes.response == BodyMode::Streamed {
            // The length of what is still to come is not known any more.
            mutation.remove_headers.push(Bytes::from_static(b"content-length"));
        }
        let reply = reply::common(Some(mutation), None, false);
        let mut message = reply::message(Outgoing::ResponseHeaders(reply));
        message.dynamic_metadata = reply::metadata(&directions);
        message.mode_override = turned_off;
        conversation.send(message);
        Next::Read
    }

    pub(super) fn on_body(&mut self, conversation: &mut Conversation, message: HttpBody) -> Next {
        let mode = conversation.modes.response;
        let duplex = mode == BodyMode::FullDuplex;
        let Phase::Body(body) = &mut self.phase else {
            // A second end of stream, or a body without headers.
            if !duplex {
                conversation.send(reply::whole_body(Direction::Response, None, false));
            }
            return Next::Read;
        };
        let end = message.end_of_stream || mode == BodyMode::Buffered;
        let mut directions = conversation.exchange.response_chunk(&message.body);
        if end {
            directions = conversation.exchange.response_end();
        }
        let mut metadata = reply::metadata(&directions);
        if duplex && !body.streaming {
            body.held.extend_from_slice(&message.body);
            if body.held.len() > MAX_HELD {
                body.streaming = true;
            } else if !end {
                return Next::Read;
            }
        }
        if duplex {
            let piece = match body.held.is_empty() {
                true => message.body,
                false => body.held.split().freeze(),
            };
            let piece = body.edit(piece, end);
            reply::streamed_body(Direction::Response, piece, end, |mut m| {
                m.dynamic_metadata = metadata.take();
                conversation.send(m);
            });
        } else {
            let before = message.body.clone();
            let piece = body.edit(message.body, end);
            let changed = piece != before;
            let whole = mode == BodyMode::Buffered;
            let mut message =
                reply::whole_body(Direction::Response, changed.then_some(piece), whole);
            message.dynamic_metadata = metadata;
            conversation.send(message);
        }
        if end {
            self.phase = Phase::Ended;
        }
        Next::Read
    }

    pub(super) fn on_trailers(&mut self, conversation: &mut Conversation) -> Next {
        let mut metadata = None;
        let mut headers_came = !matches!(self.phase, Phase::Start);
        if let Phase::Body(mut body) = std::mem::take(&mut self.phase) {
            let directions = conversation.exchange.response_end();
            metadata = reply::metadata(&directions);
            let held = body.held.split().freeze();
            let rest = body.edit(held, true);
            if conversation.modes.response == BodyMode::FullDuplex
                && (!body.streaming || !rest.is_empty())
            {
                reply::streamed_body(Direction::Response, rest, false, |m| conversation.send(m));
            }
            headers_came = true;
        }
        if headers_came {
            self.phase = Phase::Ended;
        }
        if headers_came || conversation.modes.response != BodyMode::FullDuplex {
            let mut message = reply::trailers(Direction::Response);
            message.dynamic_metadata = metadata;
            conversation.send(message);
        }
        Next::Read
    }
}

impl Body {
    /// What leaves in place of `piece`.
    fn edit(&mut self, piece: Bytes, end: bool) -> Bytes {
        let piece = match &mut self.remover {
            Some(remover) => remover.remove(piece, end),
            None => piece,
        };
        match &mut self.renamer {
            Some(renamer) => renamer.rename(piece, end),
            None => piece,
        }
    }
}
