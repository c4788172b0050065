//! `epp-bench floor`: a picker that decides nothing.
//!
//! It speaks the protocol and sends every body back, as any picker must, but reads no body and
//! always names the same worker. What it costs is what the gRPC server costs; what a real
//! picker costs beyond it is the picking. The listener is the one `epp` has.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use async_stream::try_stream;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::body_mutation::Mutation;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as In;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Out;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, HttpBody,
    ProcessingRequest, ProcessingResponse, ProtocolConfiguration, StreamedBodyResponse,
    TrailersResponse,
};
use tokio_stream::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::server::{
    Dispatch, Incoming, ListenerOptions, ServingKey, TlsPolicy, serve_grpc, server_config,
};

/// A picker that decides nothing, to measure others against.
#[derive(Clone, Debug, clap::Args)]
pub struct FloorArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9102", value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// The worker every request is sent to.
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "IP:PORT")]
    pub endpoint: String,
    /// Serve TLS, with a certificate of its own making.
    #[arg(long)]
    pub tls: bool,
}

/// Serves until the process is told to end.
///
/// # Errors
/// Where it cannot listen, with a text for the user.
pub fn run(args: &FloorArgs) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen)
            .await
            .map_err(|e| format!("cannot listen on {}: {e}", args.listen))?;
        let tls = args.tls.then(tls).transpose()?;
        let incoming =
            Incoming::start(listener, tls, ListenerOptions::EXT_PROC).map_err(|e| e.to_string())?;
        println!("listening on {}", incoming.local_addr());
        serve_grpc(incoming, services(&args.endpoint), interrupted()).await;
        Ok(())
    })
}

/// The floor's service, which sends every request to `endpoint`.
fn services(endpoint: &str) -> Dispatch<ExternalProcessorServer<Floor>> {
    let floor = Floor { endpoint: endpoint.as_bytes().to_vec() };
    // As much as any picker is asked to take.
    let service = ExternalProcessorServer::new(floor).max_decoding_message_size(64 << 20);
    Dispatch::new(service, Routes::default())
}

fn tls() -> Result<Arc<rustls::ServerConfig>, String> {
    let key = Arc::new(ServingKey::self_signed().map_err(|e| e.to_string())?);
    let config =
        server_config(&TlsPolicy::default(), key, None, &[b"h2"]).map_err(|e| e.to_string())?;
    Ok(Arc::new(config))
}

async fn interrupted() {
    // Without a handler the signal ends the process as well, only less politely.
    let _ = tokio::signal::ctrl_c().await;
}

/// The service.
#[derive(Clone, Debug)]
struct Floor {
    endpoint: Vec<u8>,
}

type Replies = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalProcessor for Floor {
    type ProcessStream = Replies;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let mut messages = request.into_inner();
        let endpoint = self.endpoint.clone();
        let replies = try_stream! {
            // A full-duplex picker must not answer the headers before it has the body.
            let mut body = Vec::new();
            let mut modes = Modes::default();
            while let Some(message) = messages.next().await {
                let message = message?;
                if let Some(config) = &message.protocol_config {
                    modes = Modes::of(config);
                }
                let Some(message) = message.request else { continue };
                match message {
                    In::RequestHeaders(headers) => {
                        if headers.end_of_stream {
                            yield reply(Out::RequestHeaders(picked(&endpoint)));
                        } else if !modes.request_is_ours {
                            // Then the body comes when the headers are answered.
                            yield reply(Out::RequestHeaders(HeadersResponse::default()));
                        }
                    }
                    In::RequestBody(_) if !modes.request_is_ours => {
                        let response = picked(&endpoint).response;
                        yield reply(Out::RequestBody(BodyResponse { response }));
                    }
                    In::RequestBody(piece) => {
                        let end = piece.end_of_stream;
                        body.push(piece);
                        if end {
                            yield reply(Out::RequestHeaders(picked(&endpoint)));
                            for piece in body.drain(..) {
                                yield reply(Out::RequestBody(echo(piece)));
                            }
                        }
                    }
                    In::ResponseHeaders(_) => {
                        yield reply(Out::ResponseHeaders(HeadersResponse::default()));
                    }
                    In::ResponseBody(_) if !modes.response_is_ours => {
                        yield reply(Out::ResponseBody(BodyResponse::default()));
                    }
                    In::ResponseBody(piece) => yield reply(Out::ResponseBody(echo(piece))),
                    In::RequestTrailers(_) => {
                        yield reply(Out::RequestTrailers(TrailersResponse::default()));
                    }
                    In::ResponseTrailers(_) => {
                        yield reply(Out::ResponseTrailers(TrailersResponse::default()));
                    }
                }
            }
        };
        Ok(Response::new(Box::pin(replies)))
    }
}

/// Which bodies are handed over, and have to be sent back.
#[derive(Clone, Copy, Debug)]
struct Modes {
    request_is_ours: bool,
    response_is_ours: bool,
}

impl Default for Modes {
    fn default() -> Self {
        Self { request_is_ours: true, response_is_ours: true }
    }
}

impl Modes {
    fn of(config: &ProtocolConfiguration) -> Self {
        let is_ours = |mode| mode == BodySendMode::FullDuplexStreamed as i32;
        Self {
            request_is_ours: is_ours(config.request_body_mode),
            response_is_ours: is_ours(config.response_body_mode),
        }
    }
}

fn reply(response: Out) -> ProcessingResponse {
    ProcessingResponse { response: Some(response), ..Default::default() }
}

fn picked(endpoint: &[u8]) -> HeadersResponse {
    let header = HeaderValue {
        key: "x-gateway-destination-endpoint".into(),
        raw_value: endpoint.to_vec(),
        ..Default::default()
    };
    let set = HeaderValueOption { header: Some(header), ..Default::default() };
    let mutation = HeaderMutation { set_headers: vec![set], ..Default::default() };
    let common = CommonResponse {
        header_mutation: Some(mutation),
        clear_route_cache: true,
        ..Default::default()
    };
    HeadersResponse { response: Some(common) }
}

fn echo(piece: HttpBody) -> BodyResponse {
    let streamed = StreamedBodyResponse {
        body: piece.body,
        end_of_stream: piece.end_of_stream,
        ..Default::default()
    };
    let mutation = BodyMutation { mutation: Some(Mutation::StreamedResponse(streamed)) };
    let common = CommonResponse { body_mutation: Some(mutation), ..Default::default() };
    BodyResponse { response: Some(common) }
}
