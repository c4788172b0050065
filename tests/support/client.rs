//! A gateway of our own: speaks ext_proc message by message, with `envoy-types`.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, CommonResponse, HeaderMutation, HttpBody, HttpHeaders, HttpTrailers,
    ProcessingRequest, ProcessingResponse, ProtocolConfiguration, body_mutation,
};
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::PATIENCE;

pub const DUPLEX: i32 = 4;
pub const BUFFERED: i32 = 2;
pub const STREAMED: i32 = 1;

/// A connection to a picker.
#[derive(Clone)]
pub struct Gateway(ExternalProcessorClient<Channel>);

impl Gateway {
    pub async fn connect(port: u16) -> Self {
        let channel = Channel::from_shared(format!("http://127.0.0.1:{port}"))
            .unwrap()
            .connect_timeout(PATIENCE)
            .connect()
            .await
            .expect("the picker accepts connections");
        Self::over(channel)
    }

    pub fn over(channel: Channel) -> Self {
        Self(ExternalProcessorClient::new(channel).max_decoding_message_size(64 << 20))
    }

    /// Begins an exchange.
    pub async fn open(&self) -> Exchange {
        let (send, queue) = mpsc::channel(64);
        let mut client = self.0.clone();
        let replies = tokio::spawn(async move {
            let replies = client.process(ReceiverStream::new(queue)).await;
            replies.map(tonic::Response::into_inner)
        });
        Exchange { send: Some(send), opening: Some(replies), replies: None }
    }

    /// Sends one POST in full duplex and returns all replies to the request half.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Replies {
        let mut exchange = self.open().await;
        exchange.send(post_headers(path, headers, DUPLEX)).await;
        exchange.send(request_body(body, false)).await;
        exchange.send(request_body(b"", true)).await;
        let replies = exchange.request_replies().await;
        Replies { replies, exchange }
    }
}

/// The replies to a request, and the exchange to go on with.
pub struct Replies {
    pub replies: Vec<ProcessingResponse>,
    pub exchange: Exchange,
}

impl Replies {
    /// The picked endpoint; panics with the error the picker sent instead.
    pub fn destination(&self) -> String {
        let headers = set_headers(&self.replies[0]);
        let found = headers.iter().find(|(k, _)| k == "x-gateway-destination-endpoint");
        found.unwrap_or_else(|| panic!("no destination in {:?}", self.replies)).1.clone()
    }

    /// Status and body of the error the picker sent.
    pub fn error(&self) -> (i32, String, Vec<(String, String)>) {
        match &self.replies[0].response {
            Some(Response::ImmediateResponse(r)) => (
                r.status.as_ref().map_or(0, |s| s.code),
                String::from_utf8(r.body.clone()).unwrap(),
                r.headers.as_ref().map(pairs).unwrap_or_default(),
            ),
            other => panic!("expected an error, got {other:?}"),
        }
    }

    /// Status and body of the error the picker sent as JSON.
    pub fn json_error(&self) -> (i32, serde_json::Value, Vec<(String, String)>) {
        let (code, text, headers) = self.error();
        let body = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        (code, body, headers)
    }

    /// The body sent back, whole.
    pub fn body(&self) -> Vec<u8> {
        self.replies.iter().flat_map(|r| streamed(r).map(|(b, _)| b).unwrap_or_default()).collect()
    }
}

/// One exchange, message by message.
pub struct Exchange {
    send: Option<mpsc::Sender<ProcessingRequest>>,
    opening: Option<tokio::task::JoinHandle<Result<tonic::Streaming<ProcessingResponse>, Status>>>,
    replies: Option<tonic::Streaming<ProcessingResponse>>,
}

impl Exchange {
    pub async fn send(&mut self, message: ProcessingRequest) {
        // A picker that ended the stream does not read on; the replies show it.
        let _ = self.send.as_ref().expect("not half-closed").send(message).await;
    }

    /// Says that no more messages will come.
    pub fn half_close(&mut self) {
        self.send = None;
    }

    /// The next reply; `None` at the end of the stream, `Err` where it ends with a status.
    pub async fn next(&mut self) -> Result<Option<ProcessingResponse>, Status> {
        self.within(PATIENCE).await.expect("a reply or the end of the stream in time")
    }

    /// The next reply, if one comes within `limit`.
    pub async fn within(
        &mut self,
        limit: Duration,
    ) -> Option<Result<Option<ProcessingResponse>, Status>> {
        timeout(limit, async {
            if let Some(opening) = &mut self.opening {
                let opened = opening.await.expect("the opening task does not panic");
                self.opening = None;
                match opened {
                    Ok(stream) => self.replies = Some(stream),
                    Err(status) => return Err(status),
                }
            }
            match &mut self.replies {
                Some(replies) => replies.message().await,
                None => Ok(None),
            }
        })
        .await
        .ok()
    }

    /// Replies up to the end of the request body, or to an error.
    pub async fn request_replies(&mut self) -> Vec<ProcessingResponse> {
        let mut replies = Vec::new();
        loop {
            let Some(reply) = self.next().await.expect("no status") else { return replies };
            let last = matches!(reply.response, Some(Response::ImmediateResponse(_)))
                || streamed(&reply).is_some_and(|(_, end)| end);
            replies.push(reply);
            if last {
                return replies;
            }
        }
    }

    /// All replies until the stream ends.
    pub async fn rest(&mut self) -> Vec<ProcessingResponse> {
        let mut replies = Vec::new();
        while let Some(reply) = self.next().await.expect("no status") {
            replies.push(reply);
        }
        replies
    }
}

fn header_list(headers: &[(&str, &str)]) -> core::HeaderMap {
    core::HeaderMap {
        headers: headers
            .iter()
            .map(|(k, v)| core::HeaderValue {
                key: (*k).into(),
                raw_value: v.as_bytes().to_vec(),
                ..Default::default()
            })
            .collect(),
    }
}

pub fn message(request: Request) -> ProcessingRequest {
    ProcessingRequest { request: Some(request), ..Default::default() }
}

pub fn request_headers(headers: &[(&str, &str)], end_of_stream: bool) -> ProcessingRequest {
    message(Request::RequestHeaders(HttpHeaders {
        headers: Some(header_list(headers)),
        end_of_stream,
        ..Default::default()
    }))
}

/// Headers of a POST, and what mode the gateway sends bodies in.
pub fn post_headers(path: &str, more: &[(&str, &str)], mode: i32) -> ProcessingRequest {
    let mut headers = vec![
        (":method", "POST"),
        (":path", path),
        (":authority", "llm.example"),
        ("content-type", "application/json"),
        ("x-request-id", "req-1"),
    ];
    headers.extend_from_slice(more);
    with_mode(request_headers(&headers, false), mode)
}

pub fn with_mode(mut message: ProcessingRequest, mode: i32) -> ProcessingRequest {
    message.protocol_config = Some(ProtocolConfiguration {
        request_body_mode: mode,
        response_body_mode: mode,
        ..Default::default()
    });
    message
}

/// Adds the gateway's hint which endpoints are allowed.
pub fn with_subset(mut message: ProcessingRequest, value: Kind) -> ProcessingRequest {
    let fields =
        [("x-gateway-destination-endpoint-subset".to_owned(), Value { kind: Some(value) })];
    let hint = Struct { fields: fields.into() };
    let metadata = core::Metadata {
        filter_metadata: [("envoy.lb.subset_hint".to_owned(), hint)].into(),
        ..Default::default()
    };
    message.metadata_context = Some(metadata);
    message
}

pub fn list_of(items: &[&str]) -> Kind {
    let values =
        items.iter().map(|s| Value { kind: Some(Kind::StringValue((*s).into())) }).collect();
    Kind::ListValue(ListValue { values })
}

pub fn request_body(body: &[u8], end_of_stream: bool) -> ProcessingRequest {
    let body = HttpBody { body: body.to_vec(), end_of_stream, ..Default::default() };
    message(Request::RequestBody(body))
}

pub fn request_trailers() -> ProcessingRequest {
    let trailers = HttpTrailers { trailers: Some(header_list(&[("x-t", "1")])) };
    message(Request::RequestTrailers(trailers))
}

pub fn response_headers(headers: &[(&str, &str)], end_of_stream: bool) -> ProcessingRequest {
    message(Request::ResponseHeaders(HttpHeaders {
        headers: Some(header_list(headers)),
        end_of_stream,
        ..Default::default()
    }))
}

pub fn response_body(body: &[u8], end_of_stream: bool) -> ProcessingRequest {
    let body = HttpBody { body: body.to_vec(), end_of_stream, ..Default::default() };
    message(Request::ResponseBody(body))
}

pub fn response_trailers() -> ProcessingRequest {
    let trailers = HttpTrailers { trailers: Some(header_list(&[("x-t", "1")])) };
    message(Request::ResponseTrailers(trailers))
}

fn pairs(mutation: &HeaderMutation) -> Vec<(String, String)> {
    let header = |h: &core::HeaderValueOption| {
        let h = h.header.clone().unwrap_or_default();
        (h.key, String::from_utf8_lossy(&h.raw_value).into_owned())
    };
    mutation.set_headers.iter().map(header).collect()
}

/// The common part of a headers or body reply.
pub fn common(reply: &ProcessingResponse) -> Option<&CommonResponse> {
    match reply.response.as_ref()? {
        Response::RequestHeaders(r) | Response::ResponseHeaders(r) => r.response.as_ref(),
        Response::RequestBody(r) | Response::ResponseBody(r) => r.response.as_ref(),
        _ => None,
    }
}

/// Headers a reply sets, in order.
pub fn set_headers(reply: &ProcessingResponse) -> Vec<(String, String)> {
    common(reply).and_then(|c| c.header_mutation.as_ref()).map(pairs).unwrap_or_default()
}

/// Headers a reply removes.
pub fn removed_headers(reply: &ProcessingResponse) -> Vec<String> {
    let mutation = common(reply).and_then(|c| c.header_mutation.clone());
    mutation.map(|m| m.remove_headers).unwrap_or_default()
}

/// Body and end-of-stream of a full-duplex body reply.
pub fn streamed(reply: &ProcessingResponse) -> Option<(Vec<u8>, bool)> {
    let (Response::RequestBody(BodyResponse { response })
    | Response::ResponseBody(BodyResponse { response })) = reply.response.as_ref()?
    else {
        return None;
    };
    match response.as_ref()?.body_mutation.as_ref()?.mutation.as_ref()? {
        body_mutation::Mutation::StreamedResponse(s) => Some((s.body.clone(), s.end_of_stream)),
        _ => None,
    }
}

/// A string of the dynamic metadata `envoy.lb`.
pub fn lb_metadata(reply: &ProcessingResponse, key: &str) -> Option<Value> {
    match reply.dynamic_metadata.as_ref()?.fields.get("envoy.lb")?.kind.as_ref()? {
        Kind::StructValue(lb) => lb.fields.get(key).cloned(),
        _ => None,
    }
}
