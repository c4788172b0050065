use serde::Serialize;

use super::{Code, RequestError};

/// How bodies of errors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    /// JSON as the API that was asked has its errors, so that client libraries show the reason.
    #[default]
    Json,
    /// Plain text, as the reference (llm-d-router main at ebab6879).
    Text,
}

/// What a client expects an error to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"error":{"message","type","param","code"}}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"}}`
    Anthropic,
    /// Text without a type: gateways make gRPC errors of it.
    Text,
}

/// The body of an error and what kind of text it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    pub text: String,
    /// `None`: the gateway's own.
    pub content_type: Option<&'static str>,
}

const JSON: &str = "application/json";

impl ErrorBody {
    pub fn new(error: &RequestError, shape: ErrorShape) -> Self {
        let json = match shape {
            ErrorShape::Text => None,
            ErrorShape::OpenAi => serde_json::to_string(&OpenAi::of(error)).ok(),
            ErrorShape::Anthropic => serde_json::to_string(&Anthropic::of(error)).ok(),
        };
        match json {
            Some(text) => Self { text, content_type: Some(JSON) },
            None => Self { text: error.to_string(), content_type: None },
        }
    }
}

/// An error as OpenAI's API has it. `code` is ours, as in the label `error_code` of metrics.
#[derive(Serialize)]
struct OpenAi<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Which parameter is wrong; never known.
    param: Option<&'a str>,
    code: &'static str,
}

impl<'a> OpenAi<'a> {
    fn of(error: &'a RequestError) -> Self {
        let RequestError { code, message, .. } = error;
        Self {
            error: OpenAiError {
                message,
                kind: open_ai_type(*code),
                param: None,
                code: code.as_str(),
            },
        }
    }
}

/// The types that OpenAI's API tells apart.
fn open_ai_type(code: Code) -> &'static str {
    match code {
        Code::Unauthorized => "authentication_error",
        Code::Forbidden => "permission_error",
        Code::NotFound => "not_found_error",
        Code::ResourceExhausted => "rate_limit_error",
        Code::Internal => "server_error",
        Code::ServiceUnavailable => "service_unavailable_error",
        Code::BadRequest
        | Code::PreconditionFailed
        | Code::PayloadTooLarge
        | Code::RequestTimeout
        | Code::HeadersTooLarge => "invalid_request_error",
    }
}

/// An error as Anthropic's API has it.
#[derive(Serialize)]
struct Anthropic<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: AnthropicError<'a>,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
}

impl<'a> Anthropic<'a> {
    fn of(error: &'a RequestError) -> Self {
        let RequestError { code, message, .. } = error;
        Self { kind: "error", error: AnthropicError { kind: anthropic_type(*code), message } }
    }
}

/// The types that Anthropic's API tells apart.
fn anthropic_type(code: Code) -> &'static str {
    match code {
        Code::Unauthorized => "authentication_error",
        Code::Forbidden => "permission_error",
        Code::NotFound => "not_found_error",
        Code::PayloadTooLarge => "request_too_large",
        Code::RequestTimeout => "timeout_error",
        Code::ResourceExhausted => "rate_limit_error",
        Code::Internal => "api_error",
        Code::ServiceUnavailable => "overloaded_error",
        Code::BadRequest | Code::PreconditionFailed | Code::HeadersTooLarge => {
            "invalid_request_error"
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::DropReason;
    use super::*;

    #[test]
    fn an_error_in_every_shape() {
        use Code::*;
        for (code, open_ai, anthropic) in [
            (BadRequest, "invalid_request_error", "invalid_request_error"),
            (Unauthorized, "authentication_error", "authentication_error"),
            (Forbidden, "permission_error", "permission_error"),
            (NotFound, "not_found_error", "not_found_error"),
            (PreconditionFailed, "invalid_request_error", "invalid_request_error"),
            (RequestTimeout, "invalid_request_error", "timeout_error"),
            (PayloadTooLarge, "invalid_request_error", "request_too_large"),
            (HeadersTooLarge, "invalid_request_error", "invalid_request_error"),
            (ResourceExhausted, "rate_limit_error", "rate_limit_error"),
            (Internal, "server_error", "api_error"),
            (ServiceUnavailable, "service_unavailable_error", "overloaded_error"),
        ] {
            let message = "a \"path\" \\ and\nlines";
            let error = RequestError::new(code, message);
            let json = |shape| {
                let body = ErrorBody::new(&error, shape);
                assert_eq!(body.content_type, Some("application/json"), "{code:?}");
                serde_json::from_str::<Value>(&body.text).unwrap()
            };
            let inner = json!({
                "message": message, "type": open_ai, "param": null, "code": code.as_str(),
            });
            assert_eq!(json(ErrorShape::OpenAi), json!({ "error": inner }), "{code:?}");
            let inner = json!({ "type": anthropic, "message": message });
            let expected = json!({ "type": "error", "error": inner });
            assert_eq!(json(ErrorShape::Anthropic), expected, "{code:?}");
            let text = format!("inference error: {} - {message}", code.as_str());
            let expected = ErrorBody { text, content_type: None };
            assert_eq!(ErrorBody::new(&error, ErrorShape::Text), expected);
        }
    }

    #[test]
    fn an_evicted_request_is_told_so_without_a_prefix() {
        let error = RequestError::new(Code::ResourceExhausted, "evicted by flow control")
            .with_reason(DropReason::Evicted);
        assert_eq!(ErrorBody::new(&error, ErrorShape::Text).text, "evicted by flow control");
        let json = ErrorBody::new(&error, ErrorShape::OpenAi).text;
        assert!(json.contains(r#""message":"evicted by flow control""#), "{json}");
    }
}
