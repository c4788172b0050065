//! Counting the calls of a gRPC service: how many there are, and how they end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use crate::telemetry::StreamMetrics;

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// Calls that are open, and how many there ever were. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct OpenCalls(Arc<CallCounts>);

#[derive(Debug, Default)]
struct CallCounts {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl OpenCalls {
    /// How many have begun so far.
    pub fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// How many are open now.
    pub fn open(&self) -> u64 {
        // Read in this order, so that a call that begins in between is not missing.
        let ended = self.0.ended.load(Ordering::Acquire);
        self.begun().saturating_sub(ended)
    }

    pub(super) fn begin(&self) -> BegunCall {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        BegunCall(self.clone())
    }
}

/// Counts as open until it is dropped.
#[derive(Debug)]
pub(super) struct BegunCall(OpenCalls);

impl Drop for BegunCall {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::Release);
    }
}

/// A gRPC service whose calls are counted, and by how they end where somebody wants to know.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    service: S,
    calls: OpenCalls,
    metrics: Option<Arc<StreamMetrics>>,
}

impl<S> Counted<S> {
    /// Counts the calls of `service` in `calls`, and in `metrics` if there are any.
    pub fn new(service: S, calls: OpenCalls, metrics: Option<Arc<StreamMetrics>>) -> Self {
        Self { service, calls, metrics }
    }
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request> for Counted<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let call = OpenCall::new(self.calls.begin(), self.metrics.clone());
        Answer { answer: self.service.call(request), call: Some(call) }
    }
}

pin_project! {
    /// The answer to a call, which goes on being counted until its body has ended.
    pub struct Answer<F> {
        #[pin]
        answer: F,
        // Gone with the answer.
        call: Option<OpenCall>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answer<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        let Some(mut call) = this.call.take() else { return Poll::Ready(Ok(response)) };
        // An answer that is all trailers has its status among the headers.
        if let Some(status) = Status::from_header_map(response.headers()) {
            call.code = status.code();
        }
        Poll::Ready(Ok(response.map(|body| Body::new(CountedBody { body, call }))))
    }
}

/// A call that has not ended. One that is dropped before its status was sent was cancelled: the
/// client reset the stream, or its connection is gone.
#[derive(Debug)]
struct OpenCall {
    metrics: Option<Arc<StreamMetrics>>,
    opened_at: Instant,
    code: Code,
    _begun: BegunCall,
}

impl OpenCall {
    fn new(begun: BegunCall, metrics: Option<Arc<StreamMetrics>>) -> Self {
        if let Some(metrics) = &metrics {
            metrics.opened();
        }
        Self { metrics, opened_at: Instant::now(), code: Code::Cancelled, _begun: begun }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if let Some(metrics) = &self.metrics {
            metrics.ended(self.code, self.opened_at.elapsed().as_secs_f64());
        }
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
