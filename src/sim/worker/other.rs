//! Everything but generation: models, tokens, embeddings, health, metrics.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

use super::chat::{Conversation, Message};
use super::error::ApiError;
use super::generation::{Generation, Job, Limits};
use super::openai::{parse, prompt};
use super::{Worker, unix_time};
use crate::sim::BYTES_PER_TOKEN;

/// Numbers in an embedding; enough to be one, and few enough to be cheap.
const EMBEDDING_DIMENSIONS: u64 = 16;

pub(super) async fn health() -> StatusCode {
    StatusCode::OK
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": concat!("epp-sim-", env!("CARGO_PKG_VERSION"))}))
}

pub(super) async fn not_found() -> (StatusCode, Json<Value>) {
    (StatusCode::NOT_FOUND, Json(json!({"detail": "Not Found"})))
}

pub(super) async fn metrics(State(worker): State<Arc<Worker>>) -> Response {
    match worker.metrics.page() {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=1.0.0; charset=utf-8")], page)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

pub(super) async fn models(State(worker): State<Arc<Worker>>) -> Json<Value> {
    let created = unix_time();
    let base = worker.models.first();
    let card = |name: &String, parent: Option<&String>| {
        json!({
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": base,
            "parent": parent,
            "max_model_len": worker.engine.max_model_len,
            "permission": [],
        })
    };
    let models = worker.models.iter().map(|name| card(name, None));
    let loras = worker.loras.iter().map(|name| card(name, base));
    Json(json!({"object": "list", "data": models.chain(loras).collect::<Vec<_>>()}))
}

#[derive(Deserialize)]
struct TokenizeBody<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    prompt: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    messages: Option<Vec<Message<'a>>>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
}

/// Tokens of a text or a conversation: each is the four bytes it stands for, as a number.
pub(super) async fn tokenize(
    State(worker): State<Arc<Worker>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let body: TokenizeBody = parse(&body)?;
    worker.resolve_model(body.model.as_deref())?;
    let text = match (&body.prompt, &body.messages) {
        (Some(prompt), _) => prompt.to_string(),
        (None, Some(messages)) => Conversation::new(body.tools, None).with(messages).into_prompt(),
        (None, None) => {
            return Err(ApiError::bad_request("prompt or messages is needed", Some("prompt")));
        }
    };
    let id = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |id, &b| id << 8 | u32::from(b));
    let tokens: Vec<u32> = text.as_bytes().chunks(BYTES_PER_TOKEN).map(id).collect();
    Ok(Json(json!({
        "count": tokens.len(),
        "max_model_len": worker.engine.max_model_len,
        "tokens": tokens,
    })))
}

#[derive(Deserialize)]
struct EmbeddingsBody<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input: &'a RawValue,
}

/// An embedding takes the time of its prompt; equal inputs have equal embeddings.
pub(super) async fn embeddings(
    State(worker): State<Arc<Worker>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let body: EmbeddingsBody = parse(&body)?;
    let seed = xxh64(body.input.get().as_bytes(), 0);
    let job = Job {
        model: body.model.as_deref(),
        input: prompt(body.input, "input")?,
        limits: Limits { max_tokens: Some(1), ..Limits::default() },
        cache_salt: None,
        stream: false,
    };
    let mut generation = Generation::start(worker, job).await?;
    generation.complete().await?;
    let component = |i: u64| xxh64(&i.to_le_bytes(), seed) as f64 / u64::MAX as f64 - 0.5;
    let embedding: Vec<f64> = (0..EMBEDDING_DIMENSIONS).map(component).collect();
    let tokens = generation.usage().prompt;
    Ok(Json(json!({
        "id": format!("embd-{}", uuid::Uuid::new_v4().simple()),
        "object": "list",
        "created": unix_time(),
        "model": generation.model,
        "data": [{"index": 0, "object": "embedding", "embedding": embedding}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
    })))
}
