use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status, Streaming};

use super::Shared;
use super::common::Next;
use super::exchange::Exchange;
use super::wire::{ProcessingRequest, ProcessingResponse};

/// How long to wait for the body of a request whose gateway did not say how it sends bodies.
/// One that sends nothing for so long waits for our answer to the headers.
const SILENCE: Duration = Duration::from_secs(2);

/// The replies of one exchange: polling it reads the gateway's messages, so there is no task, no
/// channel and no wake-up between a message and its answer, and dropping it (the gateway reset
/// the stream) ends the exchange and releases what it held.
pub struct ExchangeStream {
    inbound: Streaming<ProcessingRequest>,
    exchange: Exchange,
    silence: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl ExchangeStream {
    pub(super) fn new(shared: Arc<Shared>, inbound: Streaming<ProcessingRequest>) -> Self {
        Self { inbound, exchange: Exchange::new(shared), silence: None, ended: false }
    }

    /// Follows what the exchange wants next.
    fn turn(&mut self, next: Next) {
        match next {
            Next::Read => self.silence = None,
            Next::ReadOrSilence => {
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
            if let Some(reply) = this.exchange.next_reply() {
                return Poll::Ready(Some(Ok(reply)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match Pin::new(&mut this.inbound).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    let next = this.exchange.on_message(message);
                    this.turn(next);
                }
                // Half-closed: the gateway has said all it will; what is answered is answered.
                Poll::Ready(None) => this.ended = true,
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
                    let next = this.exchange.on_silence();
                    this.turn(next);
                }
            }
        }
    }
}
