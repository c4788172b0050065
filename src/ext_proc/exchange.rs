//! The state machine of one HTTP exchange.

use std::collections::VecDeque;
use std::sync::Arc;

use super::request::RequestSide;
use super::response::ResponseSide;
use super::subset;
use super::wire::{
    BodySendMode, Incoming, Metadata, ProcessingRequest, ProcessingResponse, ProtocolConfiguration,
};
use super::{Shared, reply};
use crate::director::Subset;
use crate::error::RequestError;

/// What the exchange does after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Waits for the next message.
    Read,
    /// Waits for the next message, but not for ever: see [`Exchange::on_silence`].
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
    pub fn send(&mut self, reply: ProcessingResponse) {
        self.replies.push_back(reply);
    }

    /// Ends the exchange with an error.
    pub fn refuse(&mut self, error: &RequestError) -> Next {
        self.send(reply::immediate(error));
        Next::End
    }
}

pub(super) struct Exchange {
    common: Common,
    request: RequestSide,
    response: ResponseSide,
}

impl Exchange {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            common: Common {
                shared,
                modes: Modes {
                    request: BodyMode::FullDuplex,
                    response: BodyMode::FullDuplex,
                    known: false,
                },
                subset: None,
                served: None,
                replies: VecDeque::new(),
            },
            request: RequestSide::default(),
            response: ResponseSide::default(),
        }
    }

    pub fn next_reply(&mut self) -> Option<ProcessingResponse> {
        self.common.replies.pop_front()
    }

    /// Takes one message; replies become available with [`Exchange::next_reply`].
    pub fn on_message(&mut self, message: ProcessingRequest) -> Next {
        let common = &mut self.common;
        if let Some(config) = message.protocol_config {
            common.modes = modes_of(&config);
        }
        if let Some(metadata) = &message.metadata_context {
            common.note(metadata);
        }
        match message.request {
            Some(Incoming::RequestHeaders(h)) => self.request.on_headers(common, h),
            Some(Incoming::RequestBody(b)) => self.request.on_body(common, b),
            Some(Incoming::RequestTrailers(_)) => self.request.on_trailers(common),
            Some(Incoming::ResponseHeaders(h)) => {
                self.response.on_headers(common, self.request.routed(), h)
            }
            Some(Incoming::ResponseBody(b)) => {
                self.response.on_body(common, self.request.routed(), b)
            }
            Some(Incoming::ResponseTrailers(_)) => {
                self.response.on_trailers(common, self.request.routed())
            }
            // A message of a kind we do not know needs no answer we could give.
            None => Next::Read,
        }
    }

    /// The gateway sent headers, did not say how it sends bodies, and now sends nothing: it must
    /// be one that waits for the headers to be answered first.
    pub fn on_silence(&mut self) -> Next {
        self.request.on_silence(&mut self.common)
    }
}

impl Common {
    /// Remembers what a message's metadata says. The last message that says something counts:
    /// the reference reads the body message's, its lighter sibling the headers message's.
    fn note(&mut self, metadata: &Metadata) {
        if let Some(subset) = subset::subset_of(metadata) {
            self.subset = Some(subset);
        }
        if let Some(served) = subset::served_of(metadata) {
            self.served = Some(served.to_owned());
        }
    }
}

fn modes_of(config: &ProtocolConfiguration) -> Modes {
    Modes {
        request: BodyMode::of(config.request_body_mode),
        response: BodyMode::of(config.response_body_mode),
        known: true,
    }
}
