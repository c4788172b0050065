use std::sync::Arc;
use std::task::{Context, Poll};

use super::body_mode::{BodyMode, BodyModes};
use super::conversation::{Conversation, Next};
use super::request_half::RequestHalf;
use super::response_half::ResponseHalf;
use super::wire::{Incoming, ProcessingRequest, ProcessingResponse};
use crate::exchange::ExchangeContext;

/// Takes a gateway's messages about one exchange, and has the replies to them.
pub(super) struct Messages {
    conversation: Conversation,
    request: RequestHalf,
    response: ResponseHalf,
}

impl Messages {
    pub(super) fn new(context: Arc<ExchangeContext>) -> Self {
        Self {
            conversation: Conversation::new(context),
            request: RequestHalf::default(),
            response: ResponseHalf::default(),
        }
    }

    pub(super) fn next_reply(&mut self) -> Option<ProcessingResponse> {
        self.conversation.next_reply()
    }

    /// Takes one message; replies become available with [`Messages::next_reply`].
    pub(super) fn on_message(&mut self, message: ProcessingRequest) -> Next {
        let conversation = &mut self.conversation;
        if let Some(config) = message.protocol_config {
            conversation.modes = BodyModes::said(&config);
            if conversation.modes.response == BodyMode::Unsent {
                conversation.exchange.sees_no_response_body();
            }
        }
        if let Some(metadata) = &message.metadata_context {
            conversation.note_metadata(metadata);
        }
        match message.request {
            Some(Incoming::RequestHeaders(h)) => self.request.on_headers(conversation, h),
            Some(Incoming::RequestBody(b)) => self.request.on_body(conversation, b),
            Some(Incoming::RequestTrailers(_)) => self.request.on_trailers(conversation),
            Some(Incoming::ResponseHeaders(h)) => self.response.on_headers(conversation, h),
            Some(Incoming::ResponseBody(b)) => self.response.on_body(conversation, b),
            Some(Incoming::ResponseTrailers(_)) => self.response.on_trailers(conversation),
            // A message of a kind we do not know needs no answer we could give.
            None => Next::Read,
        }
    }

    /// The gateway sent headers, did not say how it sends bodies, and now sends nothing: it must
    /// be one that waits for the headers to be answered first.
    pub(super) fn on_silence(&mut self) -> Next {
        self.request.on_silence(&mut self.conversation)
    }

    /// Goes on with a decision that has to wait.
    pub(super) fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.request.poll_decided(&mut self.conversation, cx)
    }

    /// Ready when the request has to end for the sake of another.
    pub(super) fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let evicted = self.conversation.exchange.poll_evicted(cx);
        evicted.map(|error| self.conversation.send_error(&error))
    }

    /// True while a decision has to wait.
    pub(super) fn is_deciding(&self) -> bool {
        self.conversation.exchange.is_deciding()
    }
}
