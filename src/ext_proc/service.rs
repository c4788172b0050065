//! The gRPC service, on tonic: what `tonic-build` would generate for
//! `envoy.service.ext_proc.v3.ExternalProcessor`, for the messages of [`super::wire`].

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

use super::wire::{ProcessingRequest, ProcessingResponse};
use super::{ExchangeStream, Shared};

/// The service's full name, also the name that health checks ask for.
pub const SERVICE_NAME: &str = "envoy.service.ext_proc.v3.ExternalProcessor";
const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// Serves the ext_proc API; cheap to clone.
#[derive(Clone, Debug)]
pub struct ExternalProcessorServer {
    shared: Arc<Shared>,
    max_decoding_message_size: usize,
    max_encoding_message_size: Option<usize>,
}

impl ExternalProcessorServer {
    /// Messages larger than the limits, bytes, end the stream with `RESOURCE_EXHAUSTED`.
    pub fn new(
        shared: Arc<Shared>,
        max_decoding_message_size: usize,
        max_encoding_message_size: Option<usize>,
    ) -> Self {
        Self { shared, max_decoding_message_size, max_encoding_message_size }
    }
}

impl NamedService for ExternalProcessorServer {
    const NAME: &'static str = SERVICE_NAME;
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<http::Request<Body>> for ExternalProcessorServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PROCESS {
            let status = Status::unimplemented("the only method is Process");
            return Box::pin(async move { Ok(status.into_http()) });
        }
        let service = Process(self.shared.clone());
        let decoding = self.max_decoding_message_size;
        let encoding = self.max_encoding_message_size;
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default())
                .accept_compressed(CompressionEncoding::Gzip)
                .apply_max_message_size_config(Some(decoding), encoding);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

struct Process(Arc<Shared>);

impl StreamingService<ProcessingRequest> for Process {
    type Response = ProcessingResponse;
    type ResponseStream = ExchangeStream;
    type Future = std::future::Ready<Result<Response<ExchangeStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<ProcessingRequest>>) -> Self::Future {
        let stream = ExchangeStream::new(self.0.clone(), request.into_inner());
        std::future::ready(Ok(Response::new(stream)))
    }
}
