//! The gRPC service, on tonic: what `tonic-build` would generate for
//! `envoy.service.ext_proc.v3.ExternalProcessor`, for the messages of [`super::wire`].

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderValue;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::{Status, Streaming};
use tonic_prost::ProstDecoder;
use tower::Service;

use super::ExchangeStream;
use super::grpc_encoder::GrpcEncoder;
use super::wire::ProcessingRequest;
use crate::exchange::CurrentContext;

/// The service's full name, also the name that health checks ask for.
pub const SERVICE_NAME: &str = "envoy.service.ext_proc.v3.ExternalProcessor";
const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// Serves the ext_proc API; cheap to clone.
#[derive(Clone, Debug)]
pub struct ExternalProcessorServer {
    context: Arc<CurrentContext>,
    max_decoding_message_size: usize,
    max_encoding_message_size: Option<usize>,
}

impl ExternalProcessorServer {
    /// Messages larger than the limits, bytes, end the stream with `RESOURCE_EXHAUSTED`.
    pub fn new(
        context: Arc<CurrentContext>,
        max_decoding_message_size: usize,
        max_encoding_message_size: Option<usize>,
    ) -> Self {
        Self { context, max_decoding_message_size, max_encoding_message_size }
    }
}

impl NamedService for ExternalProcessorServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for ExternalProcessorServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PROCESS {
            let status = Status::unimplemented("the only method is Process");
            return ready(Ok(status.into_http()));
        }
        let encoding = match encoding_of(&request) {
            Ok(encoding) => encoding,
            Err(status) => return ready(Ok(status.into_http())),
        };
        let messages = Streaming::new_request(
            ProstDecoder::<ProcessingRequest>::default(),
            request.into_body(),
            encoding,
            Some(self.max_decoding_message_size),
        );
        let stream = ExchangeStream::new(self.context.get(), messages);
        let body = Body::new(GrpcEncoder::new(stream, self.max_encoding_message_size));
        let mut response = http::Response::new(body);
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        ready(Ok(response))
    }
}

/// How the gateway compresses its messages.
fn encoding_of(request: &http::Request<Body>) -> Result<Option<CompressionEncoding>, Status> {
    match request.headers().get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(None),
        Some(b"gzip") => Ok(Some(CompressionEncoding::Gzip)),
        Some(_) => {
            let mut status = Status::unimplemented("messages are taken as identity or gzip");
            let accepted = MetadataValue::from_static("identity,gzip");
            status.metadata_mut().insert("grpc-accept-encoding", accepted);
            Err(status)
        }
    }
}
