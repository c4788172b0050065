//! The gRPC listeners, and what one client may ask of them.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::turn::{InTurn, Spawner};
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
/// the streams in them are looked at ([`InTurn`]), and no stream is opened and reset in less
/// than 25 bytes: so no gateway gets here, however many of its clients leave at once.
const MAX_PENDING_RESETS: usize = 4_096;
/// How often a silent gateway is asked whether it is still there, and how long it may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What answers the calls of a listener.
pub trait GrpcServices:
    Service<
        http::Request<hyper::body::Incoming>,
        Response = http::Response<tonic::body::Body>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
}

impl<S> GrpcServices for S where
    S: Service<
            http::Request<hyper::body::Incoming>,
            Response = http::Response<tonic::body::Body>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static
{
}

/// Serves `services` to the connections of `incoming` until `stop` is ready; then no connection
/// and no stream is taken any more, and it returns when the last stream has ended.
pub async fn serve_grpc<S: GrpcServices>(
    incoming: Incoming,
    services: S,
    stop: impl Future<Output = ()>,
) {
    serve_grpc_in_two_turns(incoming, services, pending(), stop).await;
}

/// The same, but when `move_on` is ready, every client is asked to leave its connection as soon
/// as its streams have ended, and to connect anew.
///
/// A gateway keeps a connection for as long as it holds, whatever it hears of our readiness; asked
/// only at `stop`, it would open streams until then, and whoever kills us soon after would cut
/// them.
pub async fn serve_grpc_in_two_turns<S: GrpcServices>(
    mut incoming: Incoming,
    services: S,
    move_on: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
) {
    let mut server = Server::new(services);
    let (mut move_on, mut stop) = (pin!(move_on), pin!(stop));
    let mut has_moved_on = false;
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = &mut move_on, if !has_moved_on => {
                has_moved_on = true;
                server.ask_all_to_leave();
            }
            // The accepting task lives as long as we do, unless it panicked: then there will be
            // no more.
            next = incoming.next_connection() => match next {
                Some(connection) => server.take(connection),
                None => break stop.await,
            },
        }
    }
    drop(incoming);
    server.ask_all_to_leave();
    server.connections.close();
    server.connections.wait().await;
}

/// What the connections of one listener share.
struct Server<S> {
    services: S,
    spawner: Spawner,
    connections: TaskTracker,
    /// Tells the connections taken since the last time that they are to end.
    leave: CancellationToken,
}

impl<S: GrpcServices> Server<S> {
    fn new(services: S) -> Self {
        Self {
            services,
            spawner: Spawner::default(),
            connections: TaskTracker::new(),
            leave: CancellationToken::new(),
        }
    }

    fn take(&self, connection: Connection) {
        let serving = http2::Builder::new(self.spawner.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_header_list_size(MAX_HEADERS)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            // Counted over a connection's whole life, not at one time.
            .max_local_error_reset_streams(None)
            .serve_connection(
                TokioIo::new(InTurn::new(connection, &self.spawner)),
                TowerToHyperService::new(self.services.clone()),
            );
        let leave = self.leave.clone();
        self.connections.spawn(async move {
            let mut serving = pin!(serving);
            // How a connection ends is the client's affair: nothing to write home about.
            tokio::select! {
                _ = serving.as_mut() => return,
                () = leave.cancelled() => serving.as_mut().graceful_shutdown(),
            }
            _ = serving.await;
        });
    }

    /// Those that connect from now on are asked the next time.
    fn ask_all_to_leave(&mut self) {
        std::mem::take(&mut self.leave).cancel();
    }
}
