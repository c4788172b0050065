//! The gRPC listeners, and what one client may ask of them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::transport::Server;

use super::{Connection, Incoming};

/// Bytes a client may send on one stream before we read them: many body chunks of a gateway.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes a client may send on all streams of a connection together.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// A gateway has one stream per request in progress, often all on one connection; hyper's own
/// limit is 200. A gateway that needs more opens another connection.
const MAX_STREAMS: u32 = 32_768;
/// The names and values of a request's headers together, bytes, and 32 for each. Those of a
/// gateway take a few hundred.
const MAX_HEADERS: u32 = 16 * 1024;
/// Streams that were reset before we looked at them. A connection reads 64 KiB at most before
/// the streams in them are looked at ([`Connection`]), and no stream is opened and reset in less
/// than 25 bytes: so no gateway gets here, however many of its clients leave at once.
const MAX_PENDING_RESETS: usize = 4_096;
/// How often a silent gateway is asked whether it is still there, and how long it may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves `services` to the connections of `incoming` until `stop` is ready; then no connection
/// and no stream is taken any more, and it returns when the last stream has ended.
///
/// # Errors
/// None that a client can bring about.
pub async fn serve_grpc(
    incoming: impl Stream<Item = io::Result<Connection>>,
    services: Routes,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        // Counted over a connection's whole life, not at one time.
        .http2_max_local_error_reset_streams(None)
        .add_routes(services)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}

/// The same, but when `move_on` is ready, every client is asked to leave its connection as soon
/// as its streams have ended, and to connect anew.
///
/// A gateway keeps a connection for as long as it holds, whatever it hears of our readiness; asked
/// only at `stop`, it would open streams until then, and whoever kills us soon after would cut
/// them.
///
/// # Errors
/// None that a client can bring about.
pub async fn serve_grpc_in_two_turns(
    incoming: Incoming,
    services: Routes,
    move_on: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let incoming = Turns(Arc::new(Mutex::new(incoming)));
    let (turn, over) = oneshot::channel();
    let first = serve_grpc(incoming.clone(), services.clone(), async {
        move_on.await;
        // Its receiver waits below.
        _ = turn.send(());
    });
    let second = async {
        _ = over.await;
        serve_grpc(incoming, services, stop).await
    };
    let (first, second) = tokio::join!(first, second);
    first.and(second)
}

/// The connections of one listener, for servers that take them one after the other: the second
/// begins when the first takes no more.
#[derive(Clone)]
struct Turns(Arc<Mutex<Incoming>>);

impl Stream for Turns {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.lock()).poll_next(cx)
    }
}
