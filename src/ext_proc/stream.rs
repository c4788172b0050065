use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status, Streaming};

use super::conversation::Next;
use super::messages::Messages;
use super::wire::{ProcessingRequest, ProcessingResponse};
use crate::exchange::ExchangeContext;

/// How long to wait for the body of a request whose gateway did not say how it sends bodies.
/// One that sends nothing for so long waits for our answer to the headers.
const SILENCE: Duration = Duration::from_secs(2);

/// The replies of one exchange: polling it reads the gateway's messages, so there is no task, no
/// channel and no wake-up between a message and its answer, and dropping it (the gateway reset
/// the stream) ends the exchange and releases what it held.
pub struct ExchangeStream {
    inbound: Streaming<ProcessingRequest>,
    messages: Messages,
    silence: Option<Pin<Box<Sleep>>>,
    /// The gateway sends no more messages.
    half_closed: bool,
    ended: bool,
}

impl ExchangeStream {
    pub(super) fn new(
        context: Arc<ExchangeContext>,
        inbound: Streaming<ProcessingRequest>,
    ) -> Self {
        Self {
            inbound,
            messages: Messages::new(context),
            silence: None,
            half_closed: false,
            ended: false,
        }
    }

    /// Follows what the exchange wants next.
    fn turn(&mut self, next: Next) {
        match next {
            Next::Read | Next::Decide => self.silence = None,
            Next::ReadWithinSilence => {
                self.silence.get_or_insert_with(|| Box::pin(sleep(SILENCE)));
            }
            Next::End => self.ended = true,
        }
    }
}

impl Stream for ExchangeStream {
    type Item = Result<ProcessingResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(reply) = this.messages.next_reply() {
                return Poll::Ready(Some(Ok(reply)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if this.messages.is_deciding() {
                if let Poll::Ready(next) = this.messages.poll_decided(cx) {
                    this.turn(next);
                    continue;
                }
            } else if this.half_closed {
                return Poll::Ready(None);
            } else if let Poll::Ready(next) = this.messages.poll_evicted(cx) {
                this.turn(next);
                continue;
            }
            if this.half_closed {
                return Poll::Pending;
            }
            match Pin::new(&mut this.inbound).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    let next = this.messages.on_message(message);
                    this.turn(next);
                }
                // The gateway has said all it will; what is answered is answered, and what is
                // being decided will be.
                Poll::Ready(None) => this.half_closed = true,
                Poll::Ready(Some(Err(status))) => {
                    this.ended = true;
                    // A gateway that goes away cancels; there is nobody to tell.
                    if status.code() != Code::Cancelled {
                        return Poll::Ready(Some(Err(status)));
                    }
                }
                Poll::Pending => {
                    let Some(silence) = &mut this.silence else { return Poll::Pending };
                    ready!(silence.as_mut().poll(cx));
                    this.silence = None;
                    let next = this.messages.on_silence();
                    this.turn(next);
                }
            }
        }
    }
}
