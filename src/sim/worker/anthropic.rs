//! `/v1/messages`, whole and streamed, and `/v1/messages/count_tokens`.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Worker;
use super::answer::FinishReason;
use super::chat::{Conversation, Message};
use super::error::ApiError;
use super::generation::{Generation, Input, Job, Limits, Transfer, Usage};
use super::openai::parse;
use super::sidecar::Prefilled;
use crate::sim::BYTES_PER_TOKEN;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    kv_transfer_params: Option<Transfer>,
}

impl Body<'_> {
    fn prompt(&self) -> String {
        Conversation::new(self.tools, self.system).with(&self.messages).into_prompt()
    }
}

pub(super) async fn messages(
    State(worker): State<Arc<Worker>>,
    prefilled: Option<Extension<Prefilled>>,
    body: Bytes,
) -> Response {
    let prefilled = prefilled.map(|Extension(prefilled)| prefilled);
    answer(worker, prefilled, &body).await.unwrap_or_else(ApiError::into_anthropic)
}

/// `/v1/messages/count_tokens`: how many tokens the prompt would have.
pub(super) async fn count_tokens(State(worker): State<Arc<Worker>>, body: Bytes) -> Response {
    let count = || {
        let body: Body = parse(&body)?;
        worker.resolve_model(Some(&body.model))?;
        Ok(Json(json!({"input_tokens": body.prompt().len().div_ceil(BYTES_PER_TOKEN)})))
    };
    count().map_or_else(ApiError::into_anthropic, IntoResponse::into_response)
}

async fn answer(
    worker: Arc<Worker>,
    prefilled: Option<Prefilled>,
    body: &[u8],
) -> Result<Response, ApiError> {
    let body: Body = parse(body)?;
    let stream = body.stream.unwrap_or_default();
    let Some(max_tokens) = body.max_tokens else {
        return Err(ApiError::bad_request("max_tokens is needed", Some("max_tokens")));
    };
    let job = Job {
        model: Some(&body.model),
        limits: Limits { max_tokens: Some(max_tokens), ..Limits::default() },
        cache_salt: None,
        stream,
        transfer: body.kv_transfer_params.unwrap_or_default(),
        prefilled,
    };
    let mut generation = Generation::start(worker, &Input::Text(body.prompt()), &job).await?;
    if stream {
        return Ok(streamed(generation));
    }
    let (text, reason) = generation.complete().await?;
    let mut message = message_json(&generation);
    message["content"] = json!([{"type": "text", "text": text}]);
    message["stop_reason"] = stop_reason(reason).into();
    if let Some(params) = generation.kv_transfer_params() {
        message["kv_transfer_params"] = params;
    }
    Ok(Json(message).into_response())
}

fn stop_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
    }
}

/// A message as far as it is known, without content.
fn message_json(generation: &Generation) -> Value {
    json!({
        "id": format!("msg_{}", uuid::Uuid::new_v4().simple()),
        "type": "message",
        "role": "assistant",
        "model": generation.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage_json(generation.usage()),
    })
}

/// Anthropic counts cached tokens beside the input tokens, not among them.
fn usage_json(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt.saturating_sub(usage.cached),
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion,
    })
}

fn streamed(mut generation: Generation) -> Response {
    let events = async_stream::stream! {
        let mut stop = FinishReason::Stop;
        let mut first = true;
        loop {
            let (text, finish) = match generation.next().await {
                Ok(Some(piece)) => (piece.text.to_owned(), piece.finish),
                Ok(None) => break,
                // The connection ends without message_stop, as where a server dies.
                Err(_) => return,
            };
            stop = finish.unwrap_or(stop);
            if std::mem::take(&mut first) {
                let message = message_json(&generation);
                yield event("message_start", json!({"message": message}));
                let block = json!({"type": "text", "text": ""});
                yield event("content_block_start", json!({"index": 0, "content_block": block}));
            }
            let delta = json!({"type": "text_delta", "text": text});
            yield event("content_block_delta", json!({"index": 0, "delta": delta}));
        }
        yield event("content_block_stop", json!({"index": 0}));
        let delta = json!({"stop_reason": stop_reason(stop), "stop_sequence": null});
        let usage = usage_json(generation.usage());
        yield event("message_delta", json!({"delta": delta, "usage": usage}));
        yield event("message_stop", json!({}));
    };
    Sse::new(events).into_response()
}

/// An event of this type; its data repeats the type.
fn event(kind: &'static str, mut data: Value) -> Result<Event, Infallible> {
    data["type"] = kind.into();
    Ok(Event::default().event(kind).data(data.to_string()))
}
