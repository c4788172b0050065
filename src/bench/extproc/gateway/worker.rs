use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};

use super::super::messages;
use super::super::workload::Workload;

/// A worker that answers as soon as it has the request, at the pace it is told.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) address: SocketAddr,
    // Its end is the thread's.
    _runtime: tokio::runtime::Runtime,
}

struct Answer {
    content_type: &'static str,
    pieces: Vec<Bytes>,
    interval: Duration,
}

impl Worker {
    /// # Errors
    /// Where it cannot listen, with a text for the user.
    pub(super) fn start(workload: &Workload) -> Result<Self, String> {
        // Beside the clients', so that neither waits for the other.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start a runtime: {e}"))?;
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .map_err(|e| format!("cannot listen: {e}"))?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let (content_type, pieces) = messages::answer(workload);
        let pieces = pieces.into_iter().map(Bytes::from).collect();
        let answer = Arc::new(Answer { content_type, pieces, interval: workload.event_interval });
        runtime.spawn(serve(listener, answer));
        Ok(Self { address, _runtime: runtime })
    }
}

async fn serve(listener: TcpListener, answer: Arc<Answer>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without it pieces would wait for each other; a connection is as good without.
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, answer.clone()));
            // Fails where Envoy closes it.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Pieces = std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

async fn respond(
    request: Request<Incoming>,
    answer: Arc<Answer>,
) -> Result<Response<StreamBody<Pieces>>, hyper::Error> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let mut response = Response::new(StreamBody::new(pieces(answer.clone())));
    let content_type = http::HeaderValue::from_static(answer.content_type);
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    Ok(response)
}

fn pieces(answer: Arc<Answer>) -> Pieces {
    Box::pin(stream! {
        let mut next = Instant::now();
        for piece in &answer.pieces {
            if !answer.interval.is_zero() {
                sleep_until(next).await;
                next += answer.interval;
            }
            yield Ok(Frame::data(piece.clone()));
        }
    })
}
