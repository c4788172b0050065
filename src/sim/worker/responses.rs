//! `/v1/responses`, whole and streamed.

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

use super::answer::FinishReason;
use super::chat::{Conversation, Message};
use super::error::ApiError;
use super::generation::{Generation, Input, Job, Limits, Transfer, Usage};
use super::openai::parse;
use super::sidecar::Prefilled;
use super::{Worker, unix_time};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(borrow, default)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(default)]
    max_output_tokens: Option<i64>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    kv_transfer_params: Option<Transfer>,
}

pub(super) async fn responses(
    State(worker): State<Arc<Worker>>,
    prefilled: Option<Extension<Prefilled>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let body: Body = parse(&body)?;
    let stream = body.stream.unwrap_or_default();
    let job = Job {
        model: body.model.as_deref(),
        limits: Limits { max_tokens: body.max_output_tokens, ..Limits::default() },
        cache_salt: None,
        stream,
        transfer: body.kv_transfer_params.unwrap_or_default(),
        prefilled: prefilled.map(|Extension(prefilled)| prefilled),
    };
    let input = Input::Text(prompt(&body)?);
    let mut generation = Generation::start(worker, &input, &job).await?;
    let response = ResponseObject::new(&generation);
    if stream {
        return Ok(streamed(generation, response));
    }
    let (text, reason) = generation.complete().await?;
    let mut ended = response.ended(&text, reason, generation.usage());
    if let Some(params) = generation.kv_transfer_params() {
        ended["kv_transfer_params"] = params;
    }
    Ok(Json(ended).into_response())
}

/// The input is a text, which is a user's message, or a list of messages and other items; items
/// that are no messages (calls and their results) go into the prompt as they stand.
fn prompt(body: &Body<'_>) -> Result<String, ApiError> {
    let mut conversation = Conversation::new(body.tools, body.instructions);
    let input = body.input.get();
    if let Ok(text) = serde_json::from_str::<Cow<str>>(input) {
        conversation.turn("user", &text);
        return Ok(conversation.into_prompt());
    }
    let items: Vec<&RawValue> = parse(input.as_bytes())?;
    for item in items {
        match serde_json::from_str::<Message>(item.get()) {
            Ok(message) => conversation.message(&message),
            Err(_) => conversation.turn("item", item.get()),
        }
    }
    Ok(conversation.into_prompt())
}

/// What stays the same in a response from its start to its end.
struct ResponseObject {
    id: String,
    message_id: String,
    created: u64,
    model: String,
}

impl ResponseObject {
    fn new(generation: &Generation) -> Self {
        Self {
            id: format!("resp_{}", uuid::Uuid::new_v4().simple()),
            message_id: format!("msg_{}", uuid::Uuid::new_v4().simple()),
            created: unix_time(),
            model: generation.model.clone(),
        }
    }

    fn json(&self, status: &str) -> Value {
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.model,
            "output": [],
            "incomplete_details": null,
            "parallel_tool_calls": true,
            "tool_choice": "auto",
            "tools": [],
            "usage": null,
        })
    }

    fn message(&self, status: &str, parts: &[Value]) -> Value {
        json!({
            "id": self.message_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": parts,
        })
    }

    fn ended(&self, text: &str, reason: FinishReason, usage: Usage) -> Value {
        let status = status(reason);
        let mut response = self.json(status);
        response["output"] = json!([self.message(status, &[text_part(text)])]);
        if reason == FinishReason::Length {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response["usage"] = json!({
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt + usage.completion,
        });
        response
    }
}

fn status(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "completed",
        FinishReason::Length => "incomplete",
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn streamed(mut generation: Generation, response: ResponseObject) -> Response {
    let events = async_stream::stream! {
        let mut events = Numbered::default();
        let (mut text, mut reason) = (String::new(), FinishReason::Stop);
        // Where all that follows belongs: the first part of the first item.
        let place = json!({"item_id": response.message_id, "output_index": 0, "content_index": 0});
        yield events.next("response.created", json!({"response": response.json("in_progress")}));
        let item = response.message("in_progress", &[]);
        yield events.next("response.output_item.added", json!({"output_index": 0, "item": item}));
        let part = json!({"part": text_part("")});
        yield events.next("response.content_part.added", merged(&place, part));
        loop {
            let delta = match generation.next().await {
                Ok(Some(piece)) => {
                    reason = piece.finish.unwrap_or(reason);
                    text.push_str(piece.text);
                    json!({"delta": piece.text, "logprobs": []})
                }
                Ok(None) => break,
                // The connection ends without response.completed, as where a server dies.
                Err(_) => return,
            };
            yield events.next("response.output_text.delta", merged(&place, delta));
        }
        let done = json!({"text": text, "logprobs": []});
        yield events.next("response.output_text.done", merged(&place, done));
        let part = json!({"part": text_part(&text)});
        yield events.next("response.content_part.done", merged(&place, part));
        let item = response.message(status(reason), &[text_part(&text)]);
        yield events.next("response.output_item.done", json!({"output_index": 0, "item": item}));
        let last = match reason {
            FinishReason::Stop => "response.completed",
            FinishReason::Length => "response.incomplete",
        };
        let ended = response.ended(&text, reason, generation.usage());
        yield events.next(last, json!({"response": ended}));
    };
    Sse::new(events).into_response()
}

/// `fields` and those of `place`.
fn merged(place: &Value, mut fields: Value) -> Value {
    if let (Some(fields), Some(place)) = (fields.as_object_mut(), place.as_object()) {
        fields.extend(place.clone());
    }
    fields
}

/// Events carry their type and a number that counts up.
#[derive(Default)]
struct Numbered(u64);

impl Numbered {
    fn next(&mut self, kind: &'static str, mut data: Value) -> Result<Event, Infallible> {
        data["type"] = kind.into();
        data["sequence_number"] = self.0.into();
        self.0 += 1;
        Ok(Event::default().event(kind).data(data.to_string()))
    }
}
