use std::future::Future;
use std::time::Duration;

use tonic::service::Routes;
use tonic::transport::Server;

use super::Incoming;

/// Bytes a client may send on one stream before we read them: many body chunks of a gateway.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes a client may send on all streams of a connection together.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// A gateway has one stream per request in progress, often all on one connection; hyper's own
/// limit is 200.
const MAX_STREAMS: u32 = 1_000_000;
/// Streams the client reset that we have not looked at yet. A gateway whose clients leave
/// together resets thousands at once; more than the limit would cost it the connection, and with
/// it every request in progress.
const MAX_PENDING_RESETS: usize = 65_536;
/// How often a silent gateway is asked whether it is still there, and how long it may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves `services` to the connections of `incoming` until `stop` is ready; then no connection
/// and no stream is taken any more, and it returns when the last stream has ended.
///
/// # Errors
/// None that a client can bring about.
pub async fn serve_grpc(
    incoming: Incoming,
    services: Routes,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        // Counted over a connection's whole life, not at one time.
        .http2_max_local_error_reset_streams(None)
        .add_routes(services)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}
