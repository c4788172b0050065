//! Any bytes as a request body of any API: read or refused, never a panic; and what is read does
//! not depend on whether the prompt is wanted, nor on the model's name. Half of the inputs are put
//! into a gRPC frame, which random bytes seldom are.
#![no_main]

use bytes::Bytes;
use epp::api::{ParserKind, Parsers, VideoHints};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 16] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/conversations",
    "/v1/images/generations",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/inference/v1/generate",
    "/generate",
    "/vllm.grpc.engine.VllmEngine/Generate",
    "/vllm.grpc.engine.VllmEngine/Embed",
    "/PredictionService/ChatCompletions",
    "/PredictionService/RawPredict",
    "/PredictionService/StreamRawPredict",
    "/other",
];

/// `data` as the `HttpBody` of a Vertex message.
fn http_body(data: &[u8]) -> Vec<u8> {
    let field = |number: u8, value: &[u8]| {
        let mut field = vec![number << 3 | 2];
        let mut length = value.len();
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend_from_slice(value);
        field
    };
    field(2, &field(2, data))
}

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (which, framed, body) = input;
    let path = PATHS[usize::from(which) % PATHS.len()];
    let parsers = Parsers::new(vec![
        ParserKind::OpenAi,
        ParserKind::Anthropic,
        ParserKind::VllmHttp,
        ParserKind::SglangHttp,
        ParserKind::VllmGrpc,
        ParserKind::VertexAi,
        ParserKind::Passthrough,
    ]);
    let body = if framed {
        let message = if path.contains("Prediction") { http_body(body) } else { body.to_vec() };
        let length = (message.len() as u32).to_be_bytes();
        Bytes::from([&[0], &length[..], &message].concat())
    } else {
        Bytes::copy_from_slice(body)
    };
    let hints = VideoHints::default();
    let parsed = match parsers.parse(path, body.clone(), true, &hints) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert_eq!(parsers.parse(path, body, false, &hints).err(), Some(error));
            return;
        }
    };
    let bare = parsers.parse(path, body.clone(), false, &hints).expect("the same checks");
    assert_eq!(
        (&parsed.model, parsed.stream, parsed.max_output_tokens, &parsed.cache_salt),
        (&bare.model, bare.stream, bare.max_output_tokens, &bare.cache_salt)
    );
    assert!(bare.prompt.is_empty() && bare.media.is_empty());

    let renamed = parsed.with_model(&body, "another \"model\"", usize::MAX).expect("no limit");
    let again = parsers.parse(path, renamed.clone(), true, &hints).expect("still a good body");
    if parsed.model_required {
        assert_eq!(again.model.as_deref(), Some("another \"model\""));
    } else {
        assert_eq!(renamed, body);
    }
    assert_eq!(again.prompt.token_count(), parsed.prompt.token_count());
    assert_eq!(again.media, parsed.media);
});
