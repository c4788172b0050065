use super::parsers::ParserKind;
use crate::error::{ErrorFormat, ErrorShape};

/// How who sent a request to `path` (its query does not count) is told of errors. Which parsers
/// are configured does not matter: whoever asks Anthropic's API reads its errors.
pub fn error_shape(path: &str, content_type: Option<&str>, format: ErrorFormat) -> ErrorShape {
    let path = path.split('?').next().unwrap_or_default().trim();
    let path = path.strip_suffix('/').unwrap_or(path);
    let speaks_grpc = content_type.is_some_and(is_grpc) || ParserKind::is_grpc_method(path);
    if format == ErrorFormat::Text || speaks_grpc {
        ErrorShape::Text
    } else if path.ends_with("/messages") || path.ends_with("/messages/count_tokens") {
        ErrorShape::Anthropic
    } else {
        ErrorShape::OpenAi
    }
}

/// `application/grpc`, with or without an encoding after it.
fn is_grpc(content_type: &str) -> bool {
    const GRPC: &str = "application/grpc";
    let start = content_type.trim_start().get(..GRPC.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_look_as_the_api_that_was_asked_has_them() {
        let json = Some("application/json");
        for (path, content_type, expected) in [
            ("/v1/chat/completions", json, ErrorShape::OpenAi),
            ("/v1/embeddings", None, ErrorShape::OpenAi),
            ("/v1/models", None, ErrorShape::OpenAi),
            ("/unknown", Some("\u{e9}"), ErrorShape::OpenAi),
            ("", None, ErrorShape::OpenAi),
            ("/v1/messages", json, ErrorShape::Anthropic),
            ("/anthropic/v1/messages/?beta=true", json, ErrorShape::Anthropic),
            ("/v1/messages/count_tokens", json, ErrorShape::Anthropic),
            ("/v1/messages/batches", json, ErrorShape::OpenAi),
            ("/v1/chat?to=/v1/messages", json, ErrorShape::OpenAi),
            ("/vllm.grpc.engine.VllmEngine/Generate", None, ErrorShape::Text),
            ("/google.cloud.aiplatform.v1.PredictionService/RawPredict", None, ErrorShape::Text),
            ("/any.Service/Method", Some("application/grpc"), ErrorShape::Text),
            ("/any.Service/Method", Some(" Application/gRPC+proto"), ErrorShape::Text),
            ("/v1/messages", Some("application/grpc"), ErrorShape::Text),
        ] {
            let got = error_shape(path, content_type, ErrorFormat::Json);
            assert_eq!(got, expected, "{path} {content_type:?}");
            let got = error_shape(path, content_type, ErrorFormat::Text);
            assert_eq!(got, ErrorShape::Text, "{path} {content_type:?} as text");
        }
    }
}
