//! Errors in the words and shapes of vLLM.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::sim::SubmitError;

/// A refused request.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    /// The field at fault, where one is.
    param: Option<&'static str>,
}

impl ApiError {
    pub(super) fn bad_request(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into(), param }
    }

    pub(super) fn bad_json(error: &serde_json::Error) -> Self {
        Self::bad_request(format!("the body is not a request of this API: {error}"), None)
    }

    pub(super) fn unknown_model(name: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: format!("The model `{name}` does not exist."),
            param: Some("model"),
        }
    }

    /// The worker was told to fail, see `fault.rs`.
    pub(super) fn told_to_fail(status: StatusCode) -> Self {
        Self { status, message: "the worker was told to fail".into(), param: None }
    }

    /// Another worker that had to do its part did not.
    pub(super) fn bad_gateway(message: String) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, message, param: None }
    }

    /// The engine's task is gone: the server is going down.
    pub(super) fn engine_gone() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: "the engine is gone".into(),
            param: None,
        }
    }

    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST => "BadRequestError",
            StatusCode::NOT_FOUND => "NotFoundError",
            _ => "InternalServerError",
        }
    }

    /// The error in the shape of Anthropic's API.
    pub(super) fn into_anthropic(self) -> Response {
        let kind = match self.status {
            StatusCode::BAD_REQUEST => "invalid_request_error",
            StatusCode::NOT_FOUND => "not_found_error",
            _ => "api_error",
        };
        let body = json!({"type": "error", "error": {"type": kind, "message": self.message}});
        (self.status, Json(body)).into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {
            "message": self.message,
            "type": self.kind(),
            "param": self.param,
            "code": self.status.as_u16(),
        }});
        (self.status, Json(body)).into_response()
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::EmptyPrompt => Self::bad_request("the prompt is empty", Some("prompt")),
            SubmitError::TooLong { tokens, max } => Self::bad_request(
                format!(
                    "This model's maximum context length is {max} tokens. However, your prompt \
                     has {tokens} tokens."
                ),
                Some("input_tokens"),
            ),
        }
    }
}
