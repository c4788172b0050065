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

use super::batch::Batch;
use super::chat::{Conversation, Message};
use super::error::ApiError;
use super::fault::MetricsFault;
use super::generation::{Input, Job, Limits};
use super::openai::{parse, prompts};
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
    match worker.faults.now().metrics {
        Some(MetricsFault::Missing) => return not_found().await.into_response(),
        Some(MetricsFault::Hang) => return std::future::pending().await,
        Some(MetricsFault::Idle | MetricsFault::Frozen) | None => {}
    }
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

/// An embedding for each input. It takes the time of its prompt; equal inputs have equal ones.
pub(super) async fn embeddings(
    State(worker): State<Arc<Worker>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let body: EmbeddingsBody = parse(&body)?;
    let job = Job {
        model: body.model.as_deref(),
        limits: Limits { max_tokens: Some(1), ..Limits::default() },
        ..Job::default()
    };
    let inputs = prompts(body.input, "input")?;
    let seeds: Vec<u64> = inputs.iter().map(seed).collect();
    let mut batch = Batch::start(&worker, inputs, None, &job).await?;
    batch.complete().await?;
    let data: Vec<Value> = seeds
        .into_iter()
        .enumerate()
        .map(|(i, seed)| json!({"index": i, "object": "embedding", "embedding": embedding(seed)}))
        .collect();
    let tokens = batch.usage().prompt;
    Ok(Json(json!({
        "id": format!("embd-{}", uuid::Uuid::new_v4().simple()),
        "object": "list",
        "created": unix_time(),
        "model": batch.model(),
        "data": data,
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
    })))
}

/// What an embedding depends on.
fn seed(input: &Input) -> u64 {
    match input {
        Input::Text(text) => xxh64(text.as_bytes(), 0),
        Input::Tokens(ids) => ids.iter().fold(1, |seed, id| xxh64(&id.to_le_bytes(), seed)),
    }
}

fn embedding(seed: u64) -> Vec<f64> {
    let component = |i: u64| xxh64(&i.to_le_bytes(), seed) as f64 / u64::MAX as f64 - 0.5;
    (0..EMBEDDING_DIMENSIONS).map(component).collect()
}

/// `POST /reset_prefix_cache`: as in vLLM the status is 200 even where requests hold blocks and
/// nothing was reset; here the body says which.
pub(super) async fn reset_prefix_cache(State(worker): State<Arc<Worker>>) -> Json<Value> {
    Json(json!({"reset": worker.handle.reset_prefix_cache().await}))
}
