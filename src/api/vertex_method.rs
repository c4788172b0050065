use bytes::Bytes;
use prost::{DecodeError, Message};

use super::proto::HttpBody;
use super::proto::vertex::{ChatCompletionsRequest, RawPredictRequest, StreamRawPredictRequest};

/// A method that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VertexMethod {
    ChatCompletions,
    RawPredict,
    StreamRawPredict,
}

impl VertexMethod {
    pub(super) const fn message_name(self) -> &'static str {
        match self {
            VertexMethod::ChatCompletions => "ChatCompletionsRequest",
            VertexMethod::RawPredict => "RawPredictRequest",
            VertexMethod::StreamRawPredict => "StreamRawPredictRequest",
        }
    }

    pub(super) fn http_body(self, message: Bytes) -> Result<Option<HttpBody>, DecodeError> {
        Ok(match self {
            VertexMethod::ChatCompletions => ChatCompletionsRequest::decode(message)?.http_body,
            VertexMethod::RawPredict => RawPredictRequest::decode(message)?.http_body,
            VertexMethod::StreamRawPredict => StreamRawPredictRequest::decode(message)?.http_body,
        })
    }

    /// What the JSON is: a chat, or a request of the Responses API.
    pub(super) const fn is_chat(self) -> bool {
        matches!(self, VertexMethod::ChatCompletions)
    }
}
