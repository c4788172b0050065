use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use crate::telemetry::StreamMetrics;

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// A gRPC service whose calls are counted, where somebody wants them to be.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    service: S,
    metrics: Option<Arc<StreamMetrics>>,
}

impl<S> Counted<S> {
    /// Without metrics calls pass as they are.
    pub fn new(service: S, metrics: Option<Arc<StreamMetrics>>) -> Self {
        Self { service, metrics }
    }
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request> for Counted<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let call = self.metrics.clone().map(OpenCall::new);
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let Some(mut call) = call else { return Ok(response) };
            // An answer that is all trailers has its status among the headers.
            if let Some(status) = Status::from_header_map(response.headers()) {
                call.code = status.code();
            }
            Ok(response.map(|body| Body::new(CountedBody { body, call })))
        })
    }
}

/// A call that has not ended. One that is dropped before its status was sent was cancelled: the
/// client reset the stream, or its connection is gone.
#[derive(Debug)]
struct OpenCall {
    metrics: Arc<StreamMetrics>,
    opened_at: Instant,
    code: Code,
}

impl OpenCall {
    fn new(metrics: Arc<StreamMetrics>) -> Self {
        metrics.opened();
        Self { metrics, opened_at: Instant::now(), code: Code::Cancelled }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.metrics.ended(self.code, self.opened_at.elapsed().as_secs_f64());
    }
}

struct CountedBody {
    body: Body,
    call: OpenCall,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(status) = frame.trailers_ref().and_then(Status::from_header_map)
        {
            self.call.code = status.code();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
