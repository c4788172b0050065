use std::collections::VecDeque;
use std::sync::Arc;

use super::body_mode::BodyModes;
use super::gateway_metadata;
use super::reply_messages as reply;
use super::wire::{Metadata, ProcessingResponse};
use crate::error::RequestError;
use crate::exchange::{Exchange, ExchangeContext};

/// What the stream does after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Waits for the next message.
    Read,
    /// Waits for the next message, but not for ever: a gateway that says nothing may wait for us.
    ReadWithinSilence,
    /// Waits for more of a body, but not for ever.
    ReadBody,
    /// Waits for the decision, and for the next message meanwhile.
    Decide,
    /// Is over: once the replies are sent, the stream ends with OK.
    End,
}

/// What both halves of a conversation with a gateway share: the exchange that it is about, how
/// bodies are sent, and the replies that wait to be sent.
pub(super) struct Conversation {
    pub exchange: Exchange,
    pub modes: BodyModes,
    replies: VecDeque<ProcessingResponse>,
}

impl Conversation {
    pub(super) fn new(context: Arc<ExchangeContext>) -> Self {
        Self {
            exchange: Exchange::new(context),
            modes: BodyModes::assumed(),
            replies: VecDeque::new(),
        }
    }

    pub(super) fn next_reply(&mut self) -> Option<ProcessingResponse> {
        self.replies.pop_front()
    }

    pub(super) fn send(&mut self, reply: ProcessingResponse) {
        self.replies.push_back(reply);
    }

    /// Answers with an error, which ends the stream.
    pub(super) fn send_error(&mut self, error: &RequestError) -> Next {
        let body = self.exchange.error_body(error);
        self.send(reply::immediate(error, body));
        Next::End
    }

    /// Takes over what a message's metadata says. The last message that says something counts:
    /// the reference reads the body message's, its lighter sibling the headers message's.
    pub(super) fn note_metadata(&mut self, metadata: &Metadata) {
        if let Some(subset) = gateway_metadata::subset_of(metadata) {
            self.exchange.allow(subset);
        }
        if let Some(endpoint) = gateway_metadata::served_by(metadata) {
            self.exchange.served_by(endpoint);
        }
    }
}
