//! An accepted connection, and how long its client may take to begin.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Duration, Sleep, sleep};
use tokio_rustls::server::TlsStream;

/// An accepted connection, with TLS or without.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    opening: Option<Opening>,
    _counted: CountedConnection,
}

#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A client that has still to show that it speaks the protocol.
#[derive(Debug)]
struct Opening {
    /// Bytes that are to come.
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Connection {
    /// The client has `time` to send the first `bytes` bytes; reading fails after that.
    pub(super) fn new(
        transport: Transport,
        bytes: usize,
        time: Duration,
        counted: CountedConnection,
    ) -> Self {
        let opening = Opening { missing: bytes, deadline: Box::pin(sleep(time)) };
        Self { transport, opening: (bytes > 0).then_some(opening), _counted: counted }
    }

    fn transport(self: Pin<&mut Self>) -> &mut Transport {
        &mut self.get_mut().transport
    }
}

/// Calls a method of whichever stream it is.
macro_rules! either {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport {
            Transport::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Transport::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = either!(&mut this.transport, stream => stream.poll_read(cx, buf));
        if read.is_pending()
            && let Some(opening) = &mut this.opening
        {
            ready!(opening.deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        ready!(read)?;
        if let Some(opening) = &mut this.opening {
            let bytes = buf.filled().len() - before;
            opening.missing = opening.missing.saturating_sub(bytes);
            if opening.missing == 0 {
                this.opening = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.transport(), stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.transport(), stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.transport(), stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.transport(), stream => stream.poll_shutdown(cx))
    }
}

/// How many connections of a listener are open. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Arc<AtomicUsize>);

impl OpenConnections {
    /// Connections that are open now, those in their TLS handshake included.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, unless there are `most` already.
    pub(super) fn take(&self, most: usize) -> Option<CountedConnection> {
        let add = |open: usize| (open < most).then_some(open + 1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.is_ok().then(|| CountedConnection(self.clone()))
    }
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(super) struct CountedConnection(OpenConnections);

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_allowed_and_those_that_go_make_room() {
        let open = OpenConnections::default();
        let first = open.take(2);
        let second = open.clone().take(2);
        assert!(first.is_some() && second.is_some() && open.take(2).is_none());
        drop(first);
        assert_eq!(open.count(), 1);
        assert!(open.take(2).is_some());
    }
}
