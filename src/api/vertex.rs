//! Vertex AI's gRPC methods that carry a JSON body of OpenAI's APIs in an `HttpBody`.
//!
//! Texts and rules are those of llm-d-router main at ebab6879, `vertexai-parser`. What is forwarded
//! is the message as it came, so its model stays what it is.

use bytes::Bytes;
use prost::Message;

use super::body::{Wanted, parse};
use super::chat::Chat;
use super::model::ModelPlace;
use super::openai::Responses;
use super::proto::HttpBody;
use super::request::{Api, ParsedRequest};
use super::vertex_method::VertexMethod;
use super::{grpc, surrogates};
use crate::error::RequestError;

/// Reads the message of `method`.
pub(super) fn read(
    method: VertexMethod,
    body: &Bytes,
    wanted: Wanted<'_>,
) -> Result<ParsedRequest, RequestError> {
    let name = method.message_name();
    let refused = |message: String| RequestError::bad_request(message);
    let message = grpc::message(body)
        .map_err(|why| refused(format!("invalid or unsupported gRPC payload: {why}")))?;
    let http_body = method
        .http_body(message)
        .map_err(|error| refused(format!("unmarshaling {name}: {error}")))?
        .ok_or_else(|| refused(format!("{name} has no HttpBody")))?;
    let json = http_body.data;
    let read = |json: &Bytes| {
        let api = Api::Vertex(method);
        if method.is_chat() {
            parse::<Chat<'_>>(api, json, wanted)
        } else {
            parse::<Responses<'_>>(api, json, wanted)
        }
    };
    let parsed = read(&json).or_else(|error| match surrogates::replace_lone(&json) {
        Some(patched) => read(&patched.into()),
        None => Err(error),
    });
    let parsed = parsed.map_err(|error| refused(format!("parsing {name}: {}", error.message)))?;
    Ok(ParsedRequest { model_required: false, model_place: ModelPlace::None, ..parsed })
}

/// The JSON, or the event stream, in one message of an answer.
pub(super) fn data(message: &[u8]) -> Option<Bytes> {
    HttpBody::decode(message).ok().map(|body| body.data)
}
