//! The messages we answer with.

use bytes::Bytes;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::headers;
use super::wire::{
    BodyMutation, CommonReply, CommonResponse, HeaderMutation, HttpStatus, ImmediateResponse,
    Mutation, Outgoing, ProcessingResponse, StreamedBodyResponse, TrailersResponse,
};
use crate::error::RequestError;
use crate::scheduling::Decision;

/// Largest body in one reply, bytes: below the limits that gateways set at 64 KiB, as in the
/// reference (llm-d-router main at ebab6879).
pub const MAX_BODY_REPLY: usize = 62_000;

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

pub fn common(
    header_mutation: Option<HeaderMutation>,
    body_mutation: Option<BodyMutation>,
    clear_route_cache: bool,
) -> CommonReply {
    CommonReply {
        response: Some(CommonResponse { header_mutation, body_mutation, clear_route_cache }),
    }
}

/// "Carry on", with nothing changed.
pub fn carry_on() -> CommonReply {
    common(None, None, false)
}

pub fn message(response: Outgoing) -> ProcessingResponse {
    ProcessingResponse { response: Some(response), dynamic_metadata: None }
}

fn body_reply(direction: Direction, reply: CommonReply) -> ProcessingResponse {
    message(match direction {
        Direction::Request => Outgoing::RequestBody(reply),
        Direction::Response => Outgoing::ResponseBody(reply),
    })
}

/// A full-duplex body as replies of at most [`MAX_BODY_REPLY`] bytes; at least one, even for an
/// empty body. The last one carries `end_of_stream`.
pub fn streamed_body(
    direction: Direction,
    mut body: Bytes,
    end_of_stream: bool,
    mut send: impl FnMut(ProcessingResponse),
) {
    loop {
        let piece = body.split_to(body.len().min(MAX_BODY_REPLY));
        let last = body.is_empty();
        let streamed = StreamedBodyResponse { body: piece, end_of_stream: last && end_of_stream };
        let mutation = BodyMutation { mutation: Some(Mutation::StreamedResponse(streamed)) };
        send(body_reply(direction, common(None, Some(mutation), false)));
        if last {
            return;
        }
    }
}

/// The answer to one body message of a mode that is not full duplex: the body as it is, or
/// replaced. `whole` says that the message held the whole body, whose headers still wait: then
/// its new length goes with it, which Envoy insists on.
pub fn whole_body(
    direction: Direction,
    replacement: Option<Bytes>,
    whole: bool,
) -> ProcessingResponse {
    let length = replacement.as_ref().filter(|_| whole).map(Bytes::len);
    let headers = length.map(|n| HeaderMutation {
        set_headers: vec![headers::set(headers::CONTENT_LENGTH, n.to_string())],
        remove_headers: Vec::new(),
    });
    let mutation = replacement.map(|b| BodyMutation { mutation: Some(Mutation::Body(b)) });
    body_reply(direction, common(headers, mutation, false))
}

/// The answer to a buffered request body: where it goes, and the body if it changed.
pub fn routed_body(headers: HeaderMutation, replacement: Option<Bytes>) -> ProcessingResponse {
    let mutation = replacement.map(|b| BodyMutation { mutation: Some(Mutation::Body(b)) });
    body_reply(Direction::Request, common(Some(headers), mutation, true))
}

pub fn trailers(direction: Direction) -> ProcessingResponse {
    message(match direction {
        Direction::Request => Outgoing::RequestTrailers(TrailersResponse {}),
        Direction::Response => Outgoing::ResponseTrailers(TrailersResponse {}),
    })
}

/// Ends the request with an error of ours.
pub fn immediate(error: &RequestError) -> ProcessingResponse {
    let headers = error.drop_reason.map(|reason| HeaderMutation {
        set_headers: vec![headers::set(headers::DROPPED_REASON, reason.as_str())],
        remove_headers: Vec::new(),
    });
    message(Outgoing::ImmediateResponse(ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(error.code.http_status()) }),
        headers,
        body: error.to_string().into(),
    }))
}

/// The header's value: the picked endpoints, `ip:port` joined by commas.
pub fn destination(decision: &Decision) -> Bytes {
    match decision.endpoints.as_slice() {
        [one] => Bytes::copy_from_slice(one.host_port.as_bytes()),
        several => {
            let all: Vec<&str> = several.iter().map(|e| &*e.host_port).collect();
            all.join(",").into()
        }
    }
}

/// The dynamic metadata form of the destination, and the scores where they are wanted:
/// `{"envoy.lb": {"x-gateway-destination-endpoint": "ip:port"}}`.
pub fn destination_metadata(destination: &Bytes, scores: &[(std::sync::Arc<str>, f64)]) -> Struct {
    let text = String::from_utf8_lossy(destination).into_owned();
    let mut lb = Struct::default();
    lb.fields.insert(headers::DESTINATION.to_owned(), value(Kind::StringValue(text)));
    if !scores.is_empty() {
        let fields =
            scores.iter().map(|(e, s)| (e.to_string(), value(Kind::NumberValue(*s)))).collect();
        let scores = value(Kind::StructValue(Struct { fields }));
        lb.fields.insert(headers::DESTINATION_SCORES.to_owned(), scores);
    }
    let mut metadata = Struct::default();
    metadata.fields.insert("envoy.lb".to_owned(), value(Kind::StructValue(lb)));
    metadata
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
