//! Any bytes as a request body of any API: read or refused, never a panic; and what is read does
//! not depend on whether the prompt is wanted, nor on the model's name.
#![no_main]

use bytes::Bytes;
use epp::api::{ParserKind, Parsers};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 11] = [
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
    "/other",
];

fuzz_target!(|input: (u8, &[u8])| {
    let (which, body) = input;
    let path = PATHS[usize::from(which) % PATHS.len()];
    let parsers = Parsers::new(vec![
        ParserKind::OpenAi,
        ParserKind::Anthropic,
        ParserKind::VllmHttp,
        ParserKind::SglangHttp,
        ParserKind::Passthrough,
    ]);
    let body = Bytes::copy_from_slice(body);
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

    let renamed = parsed.with_model(&body, "another \"model\"", usize::MAX).expect("no limit");
    let again = parsers.parse(path, renamed.clone(), true, &hints).expect("a splice leaves a good body");
    if parsed.model_required {
        assert_eq!(again.model.as_deref(), Some("another \"model\""));
    } else {
        assert_eq!(renamed, body);
    }
    assert_eq!(again.prompt.token_count(), parsed.prompt.token_count());
});
