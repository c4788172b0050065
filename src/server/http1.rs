//! Serving HTTP/1 to clients that may be slow, silent or many.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Connection, Incoming};

/// The head of a request is there after this time; also how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Largest head of a request, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// A connection this old ends with the answer in progress, and has as long again to take it.
const LIFETIME: Duration = Duration::from_secs(60);
/// What an answer in progress has to be taken in when the server ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Serves `router` to the connections of `incoming` until `stop` is ready and the answers in
/// progress have been taken, or had time to be.
pub(super) async fn serve(mut incoming: Incoming, router: Router, stop: impl Future<Output = ()>) {
    let (connections, ending) = (TaskTracker::new(), CancellationToken::new());
    let mut stop = pin!(stop);
    loop {
        let connection = tokio::select! {
            () = &mut stop => break,
            // The accepting task lives as long as we do, unless it panicked: then there will be
            // no more.
            next = incoming.next_connection() => match next {
                Some(connection) => connection,
                None => break stop.await,
            },
        };
        connections.spawn(serve_one(connection, router.clone(), ending.clone()));
    }
    drop(incoming);
    ending.cancel();
    connections.close();
    connections.wait().await;
}

async fn serve_one(connection: Connection, router: Router, ending: CancellationToken) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router));
    let mut serving = pin!(serving);
    // How a connection ends is the client's affair: nothing to write home about.
    let time_left = tokio::select! {
        _ = serving.as_mut() => return,
        () = sleep(LIFETIME) => LIFETIME,
        () = ending.cancelled() => LAST_ANSWERS,
    };
    serving.as_mut().graceful_shutdown();
    _ = timeout(time_left, serving).await;
}
