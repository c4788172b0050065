//! The messages we answer with.

use bytes::Bytes;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::header_mutation::{CONTENT_LENGTH, set};
use super::wire::{
    BodyMutation, CommonReply, CommonResponse, HeaderMutation, HttpStatus, ImmediateResponse,
    Mutation, Outgoing, ProcessingResponse, StreamedBodyResponse, TrailersResponse,
};
use crate::error::{ErrorBody, RequestError};
use crate::headers::{CONTENT_TYPE, DESTINATION, DESTINATION_SCORES, DROPPED_REASON, RETRY_AFTER};
use crate::scheduling::{Directions, MetadataEntry, MetadataValue};

/// Largest body in one reply, bytes: below the limits that gateways set at 64 KiB, as in the
/// reference (llm-d-router main at ebab6879).
pub const MAX_BODY_REPLY: usize = 62_000;

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

pub(super) fn common(
    header_mutation: Option<HeaderMutation>,
    body_mutation: Option<BodyMutation>,
    clear_route_cache: bool,
) -> CommonReply {
    CommonReply {
        response: Some(CommonResponse { header_mutation, body_mutation, clear_route_cache }),
    }
}

/// "Carry on", with nothing changed.
pub(super) fn carry_on() -> CommonReply {
    common(None, None, false)
}

pub(super) fn message(response: Outgoing) -> ProcessingResponse {
    ProcessingResponse { response: Some(response), dynamic_metadata: None, mode_override: None }
}

fn body_reply(direction: Direction, reply: CommonReply) -> ProcessingResponse {
    message(match direction {
        Direction::Request => Outgoing::RequestBody(reply),
        Direction::Response => Outgoing::ResponseBody(reply),
    })
}

/// A full-duplex body as replies of at most [`MAX_BODY_REPLY`] bytes; at least one, even for an
/// empty body. The last one carries `end_of_stream`.
pub(super) fn streamed_body(
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
pub(super) fn whole_body(
    direction: Direction,
    replacement: Option<Bytes>,
    whole: bool,
) -> ProcessingResponse {
    let length = replacement.as_ref().filter(|_| whole).map(Bytes::len);
    let headers = length.map(|n| HeaderMutation {
        set_headers: vec![set(CONTENT_LENGTH, n.to_string())],
        remove_headers: Vec::new(),
    });
    let mutation = replacement.map(|b| BodyMutation { mutation: Some(Mutation::Body(b)) });
    body_reply(direction, common(headers, mutation, false))
}

/// The answer to a buffered request body: where it goes, and the body if it changed.
pub(super) fn routed_body(
    headers: HeaderMutation,
    replacement: Option<Bytes>,
) -> ProcessingResponse {
    let mutation = replacement.map(|b| BodyMutation { mutation: Some(Mutation::Body(b)) });
    body_reply(Direction::Request, common(Some(headers), mutation, true))
}

pub(super) fn trailers(direction: Direction) -> ProcessingResponse {
    message(match direction {
        Direction::Request => Outgoing::RequestTrailers(TrailersResponse {}),
        Direction::Response => Outgoing::ResponseTrailers(TrailersResponse {}),
    })
}

/// Ends the request with an error of ours.
pub(super) fn immediate(error: &RequestError, body: ErrorBody) -> ProcessingResponse {
    let content_type = body.content_type.map(|name| set(CONTENT_TYPE, name));
    let reason = error.drop_reason.map(|reason| set(DROPPED_REASON, reason.as_str()));
    let retry_after = error.retry_after.map(|time| set(RETRY_AFTER, time.as_secs().to_string()));
    let more = error.headers.iter().map(|(name, value)| set(*name, value.clone()));
    let set_headers: Vec<_> =
        content_type.into_iter().chain(reason).chain(retry_after).chain(more).collect();
    let headers = (!set_headers.is_empty())
        .then(|| HeaderMutation { set_headers, remove_headers: Vec::new() });
    message(Outgoing::ImmediateResponse(ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(error.code.http_status()) }),
        headers,
        body: body.text.into(),
    }))
}

/// The dynamic metadata of a routed request: the destination, the scores where they are wanted,
/// and what plugins set. `{"envoy.lb": {"x-gateway-destination-endpoint": "ip:port"}}`.
pub(super) fn destination_metadata(
    destination: &Bytes,
    scores: &[(std::sync::Arc<str>, f64)],
    directions: &Directions,
) -> Struct {
    let text = String::from_utf8_lossy(destination).into_owned();
    let mut lb = Struct::default();
    lb.fields.insert(DESTINATION.to_owned(), value(Kind::StringValue(text)));
    if !scores.is_empty() {
        let fields =
            scores.iter().map(|(e, s)| (e.to_string(), value(Kind::NumberValue(*s)))).collect();
        let scores = value(Kind::StructValue(Struct { fields }));
        lb.fields.insert(DESTINATION_SCORES.to_owned(), scores);
    }
    let mut metadata = Struct::default();
    metadata.fields.insert("envoy.lb".to_owned(), value(Kind::StructValue(lb)));
    add_metadata(&mut metadata, directions);
    metadata
}

/// The dynamic metadata that plugins set; `None` where they set none.
pub(super) fn metadata(directions: &Directions) -> Option<Struct> {
    let mut metadata = Struct::default();
    add_metadata(&mut metadata, directions);
    (!metadata.fields.is_empty()).then_some(metadata)
}

fn add_metadata(metadata: &mut Struct, directions: &Directions) {
    for MetadataEntry { namespace, key, value: entry } in directions.metadata() {
        let entry = value(match entry {
            MetadataValue::Text(text) => Kind::StringValue(text.clone()),
            MetadataValue::Number(number) => Kind::NumberValue(*number),
            MetadataValue::Flag(flag) => Kind::BoolValue(*flag),
        });
        let of_namespace = metadata.fields.entry(namespace.clone()).or_default();
        match &mut of_namespace.kind {
            Some(Kind::StructValue(fields)) => drop(fields.fields.insert(key.clone(), entry)),
            kind => {
                let fields = [(key.clone(), entry)].into();
                *kind = Some(Kind::StructValue(Struct { fields }));
            }
        }
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
