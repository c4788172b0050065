//! The state machine of one HTTP exchange.

use std::sync::Arc;

use super::Shared;
use super::common::{Common, Modes, Next};
use super::request::RequestSide;
use super::response::ResponseSide;
use super::wire::{Incoming, ProcessingRequest, ProcessingResponse};

pub(super) struct Exchange {
    common: Common,
    request: RequestSide,
    response: ResponseSide,
}

impl Exchange {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            common: Common::new(shared),
            request: RequestSide::default(),
            response: ResponseSide::default(),
        }
    }

    pub fn next_reply(&mut self) -> Option<ProcessingResponse> {
        self.common.next_reply()
    }

    /// Takes one message; replies become available with [`Exchange::next_reply`].
    pub fn on_message(&mut self, message: ProcessingRequest) -> Next {
        let common = &mut self.common;
        if let Some(config) = message.protocol_config {
            common.modes = Modes::said(&config);
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
