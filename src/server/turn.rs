//! Reading no more of a connection than there are hands for: first the calls that it has opened
//! already.
//!
//! A client that opens streams and resets them at once (CVE-2023-44487) is held up by nothing that
//! counts open streams: none of its streams is open for long. But each becomes a task, and tasks
//! that are spawned in great numbers get their turn late, after the connection has been read on.
//! So a connection gives way after some bytes, and is not read while too many tasks wait.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio::time::{Sleep, sleep};

/// Bytes read that cost a task one unit of its budget, of which tokio gives it 128 each time it
/// runs: after 64 KiB the other tasks have their turn.
const BYTES_PER_UNIT: usize = 512;
/// Calls of a listener's connections that have not run yet, from which on none of them is read.
/// They take the machine some ten milliseconds, so it never idles for [`PAUSE`] in between; what
/// one connection reads at a time comes on top, 2,600 calls of the shortest kind.
const MOST_WAITING: usize = 1_024;
/// When it is looked again whether they have run.
const PAUSE: Duration = Duration::from_millis(1);

/// Spawns the calls of a listener's connections. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Spawner(WaitingCalls);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        let waiting = Some(self.0.one_more());
        tokio::spawn(Call { waiting, call });
    }
}

/// How many calls have been spawned and have not run yet.
#[derive(Clone, Debug, Default)]
struct WaitingCalls(Arc<AtomicUsize>);

impl WaitingCalls {
    fn are_too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MOST_WAITING
    }

    fn one_more(&self) -> WaitingCall {
        self.0.fetch_add(1, Ordering::Relaxed);
        WaitingCall(self.clone())
    }
}

/// Counts until it is dropped.
#[derive(Debug)]
struct WaitingCall(WaitingCalls);

impl Drop for WaitingCall {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// A call that waits until it is polled for the first time.
    struct Call<F> {
        waiting: Option<WaitingCall>,
        #[pin]
        call: F,
    }
}

impl<F: Future> Future for Call<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        drop(this.waiting.take());
        this.call.poll(cx)
    }
}

/// A connection that is read only while the calls that connections have opened are keeping up,
/// and written when those that are ready have said what they have to say.
#[derive(Debug)]
pub(super) struct InTurn<C> {
    connection: C,
    calls: WaitingCalls,
    pause: Option<Pin<Box<Sleep>>>,
    /// The others had their turn since something was there to be written.
    gave_way: bool,
}

impl<C> InTurn<C> {
    /// `connection`, whose calls are spawned by `spawner`.
    pub(super) fn new(connection: C, spawner: &Spawner) -> Self {
        Self { connection, calls: spawner.0.clone(), pause: None, gave_way: false }
    }

    /// Lets the calls that are ready run before anything is written. A call that has answered
    /// wakes its connection, which tokio runs next, before the other calls: each answer would be
    /// a write of its own. A task that wakes itself has its turn after them.
    fn give_way(&mut self, cx: &Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.gave_way, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for InTurn<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.calls.are_too_many() {
            let pause = this.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        this.pause = None;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.connection).poll_read(cx, buf))?;
        for _ in 0..(buf.filled().len() - before) / BYTES_PER_UNIT {
            match coop::poll_proceed(cx) {
                Poll::Ready(unit) => unit.made_progress(),
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for InTurn<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.give_way(cx));
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.give_way(cx));
        Pin::new(&mut self.connection).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gave_way = false;
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;

    /// Both run on one thread: no call runs before the test waits for something.
    #[tokio::test]
    async fn a_connection_is_read_when_the_calls_have_run() {
        let spawner = Spawner::default();
        let (mut client, server) = duplex(64);
        let mut server = InTurn::new(server, &spawner);
        client.write_all(b"ab").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'a', "nothing is waited for");

        let held: Vec<_> = (0..=MOST_WAITING).map(|_| spawner.0.one_more()).collect();
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(30));
        assert!(timeout(short, server.read_u8()).await.is_err(), "too many wait");
        drop(held);
        assert_eq!(timeout(long, server.read_u8()).await.unwrap().unwrap(), b'b');
    }

    #[tokio::test]
    async fn calls_that_are_ready_speak_before_anything_is_written() {
        let (mut client, server) = duplex(64);
        let mut server = InTurn::new(server, &Spawner::default());
        for n in 1..=2 {
            let said = AtomicUsize::new(0);
            let writing = async {
                server.write_all(b"a").await.unwrap();
                let before = said.load(Ordering::Relaxed);
                server.flush().await.unwrap();
                before
            };
            let call = async { said.store(n, Ordering::Relaxed) };
            let (before, ()) = tokio::join!(writing, call);
            assert_eq!(before, n, "each time anew");
            assert_eq!(client.read_u8().await.unwrap(), b'a');
        }
    }

    #[tokio::test]
    async fn a_call_waits_until_it_runs_not_until_it_ends() {
        let spawner = Spawner::default();
        let end = Arc::new(Semaphore::new(0));
        for _ in 0..3 {
            let end = end.clone();
            spawner.execute(async move { drop(end.acquire().await) });
        }
        assert_eq!(spawner.0.0.load(Ordering::Relaxed), 3);
        while spawner.0.0.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&end), 4, "they have begun, none has ended");
        end.close();
    }
}
