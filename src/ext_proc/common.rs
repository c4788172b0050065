//! What both sides of an exchange share.

use std::collections::VecDeque;
use std::sync::Arc;

use super::subset;
use super::wire::{BodySendMode, Metadata, ProcessingResponse, ProtocolConfiguration};
use super::{Shared, reply};
use crate::director::Subset;
use crate::error::RequestError;

/// What the exchange does after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Waits for the next message.
    Read,
    /// Waits for the next message, but not for ever: a gateway that says nothing may wait for us.
    ReadOrSilence,
    /// Is over: once the replies are sent, the stream ends with OK.
    End,
}

/// How the gateway sends one direction's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyMode {
    /// We own the body: it is sent back piece by piece.
    FullDuplex,
    /// One message with all of it, after the headers were answered; one reply.
    Buffered,
    /// Each message is answered for itself, with no say in the headers any more (`STREAMED`), or
    /// there are no messages (`NONE`).
    PassThrough,
}

impl BodyMode {
    fn of(mode: i32) -> Self {
        match BodySendMode::try_from(mode) {
            Ok(BodySendMode::Buffered | BodySendMode::BufferedPartial) => Self::Buffered,
            Ok(BodySendMode::Streamed | BodySendMode::None) => Self::PassThrough,
            _ => Self::FullDuplex,
        }
    }
}

/// Both directions' modes, and whether the gateway said them or we assume them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Modes {
    pub request: BodyMode,
    pub response: BodyMode,
    pub known: bool,
}

impl Modes {
    /// What the gateway says.
    pub fn said(config: &ProtocolConfiguration) -> Self {
        Self {
            request: BodyMode::of(config.request_body_mode),
            response: BodyMode::of(config.response_body_mode),
            known: true,
        }
    }

    /// What a gateway that says nothing is taken for.
    fn assumed() -> Self {
        Self { request: BodyMode::FullDuplex, response: BodyMode::FullDuplex, known: false }
    }
}

/// What both sides of an exchange write to and read from.
pub(super) struct Common {
    pub shared: Arc<Shared>,
    pub modes: Modes,
    /// What the gateway's latest metadata allows.
    pub subset: Option<Subset>,
    /// The endpoint that served, where the gateway tells.
    pub served: Option<String>,
    replies: VecDeque<ProcessingResponse>,
}

impl Common {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            modes: Modes::assumed(),
            subset: None,
            served: None,
            replies: VecDeque::new(),
        }
    }

    pub fn next_reply(&mut self) -> Option<ProcessingResponse> {
        self.replies.pop_front()
    }

    pub fn send(&mut self, reply: ProcessingResponse) {
        self.replies.push_back(reply);
    }

    /// Ends the exchange with an error.
    pub fn refuse(&mut self, error: &RequestError) -> Next {
        self.send(reply::immediate(error));
        Next::End
    }

    /// Remembers what a message's metadata says. The last message that says something counts:
    /// the reference reads the body message's, its lighter sibling the headers message's.
    pub fn note(&mut self, metadata: &Metadata) {
        if let Some(subset) = subset::subset_of(metadata) {
            self.subset = Some(subset);
        }
        if let Some(served) = subset::served_of(metadata) {
            self.served = Some(served.to_owned());
        }
    }
}
