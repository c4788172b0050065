//! The API families from the outside: what a body gives, and what a bad one is told.

mod generate;
mod grpc;
mod messages;
mod model;
mod openai;
mod prompts;
mod recorded;
mod responses;
mod robustness;
mod tally;
mod usage_request;

use bytes::Bytes;

use super::{ParsedRequest, ParserKind, Parsers, VideoHints};
use crate::error::{Code, RequestError};
use crate::scheduling::{Piece, Prompt};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";
const RESPONSES: &str = "/v1/responses";
const CONVERSATIONS: &str = "/v1/conversations";
const IMAGES: &str = "/v1/images/generations";
const MESSAGES: &str = "/v1/messages";
const VLLM: &str = "/inference/v1/generate";
const SGLANG: &str = "/generate";

const JSON_PATHS: [&str; 9] =
    [CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, CONVERSATIONS, IMAGES, MESSAGES, VLLM, SGLANG];

fn parse_with(path: &str, body: &[u8], want_prompt: bool) -> Result<ParsedRequest, RequestError> {
    let parsers = Parsers::new(vec![
        ParserKind::OpenAi,
        ParserKind::Anthropic,
        ParserKind::VllmHttp,
        ParserKind::SglangHttp,
    ]);
    parsers.parse(path, Bytes::copy_from_slice(body), want_prompt, &VideoHints::default())
}

fn parse(path: &str, body: &str) -> ParsedRequest {
    parse_with(path, body.as_bytes(), true).unwrap_or_else(|e| panic!("{path} {body:.200}: {e}"))
}

/// The text of the 400 that a body gets; whether a prompt is wanted makes no difference.
fn refusal(path: &str, body: &str) -> String {
    let refused = |want_prompt| match parse_with(path, body.as_bytes(), want_prompt) {
        Err(RequestError { code: Code::BadRequest, message, drop_reason: None, .. }) => message,
        Err(other) => panic!("{path} {body:.200}: {other:?}"),
        Ok(_) => panic!("{path} accepts {body:.200}"),
    };
    let message = refused(true);
    assert_eq!(message, refused(false));
    message.into_owned()
}

/// Prompts as text: pieces joined, a media item as `<token x count>`.
fn texts(prompt: &Prompt) -> Vec<String> {
    let text = |piece| match piece {
        Piece::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Piece::Fill { token, count } => format!("<{token:08x} x {count}>"),
    };
    prompt.prompts().map(|pieces| pieces.map(text).collect()).collect()
}

/// The one prompt of a body.
fn prompt(path: &str, body: &str) -> String {
    let prompts = texts(&parse(path, body).prompt);
    match &prompts[..] {
        [] => String::new(),
        [prompt] => prompt.clone(),
        several => panic!("{path} {body:.200}: {several:?}"),
    }
}

/// The token ids of a body that gives them.
fn token_ids(path: &str, body: &str) -> Vec<u32> {
    let parsed = parse(path, body);
    let bytes: Vec<u8> = parsed
        .prompt
        .prompts()
        .flatten()
        .flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.to_vec(),
            Piece::Fill { .. } => panic!("{path} {body:.200}: media"),
        })
        .collect();
    let (ids, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    ids.iter().map(|id| u32::from_le_bytes(*id)).collect()
}
