//! `/v1/chat/completions` and `/v1/completions`, whole and streamed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::FinishReason;
use super::batch::Batch;
use super::chat::{Conversation, Message};
use super::error::ApiError;
use super::generation::{Input, Job, Limits, Transfer, Usage};
use super::sidecar::Prefilled;
use super::{Worker, unix_time};

/// OpenAI's default for `/v1/completions`; chats have none.
const COMPLETION_MAX_TOKENS: i64 = 16;

#[derive(Deserialize)]
struct Common<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
    #[serde(default)]
    min_tokens: Option<i64>,
    #[serde(default)]
    ignore_eos: Option<bool>,
    #[serde(default)]
    n: Option<i64>,
    #[serde(borrow, default)]
    cache_salt: Option<Cow<'a, str>>,
    #[serde(default)]
    kv_transfer_params: Option<Transfer>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct ChatBody<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CompletionBody<'a> {
    #[serde(borrow)]
    prompt: &'a RawValue,
}

/// The two APIs differ in the shape of what they return.
#[derive(Clone, Copy)]
enum Api {
    Chat,
    Completions,
}

pub(super) async fn chat(
    State(worker): State<Arc<Worker>>,
    prefilled: Option<Extension<Prefilled>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let common: Common = parse(&body)?;
    let chat: ChatBody = parse(&body)?;
    let conversation = Conversation::new(chat.tools, None).with(&chat.messages);
    let inputs = vec![Input::Text(conversation.into_prompt())];
    let max_tokens = common.max_completion_tokens.or(common.max_tokens);
    answer(Api::Chat, worker, common, inputs, max_tokens, prefilled).await
}

pub(super) async fn completions(
    State(worker): State<Arc<Worker>>,
    prefilled: Option<Extension<Prefilled>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let common: Common = parse(&body)?;
    let completion: CompletionBody = parse(&body)?;
    let inputs = prompts(completion.prompt, "prompt")?;
    let max_tokens = common.max_tokens.or(Some(COMPLETION_MAX_TOKENS));
    answer(Api::Completions, worker, common, inputs, max_tokens, prefilled).await
}

pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_json(&error))
}

/// The prompts of a field in any of the API's forms: text, token ids, or a list of either.
pub(super) fn prompts(value: &RawValue, param: &'static str) -> Result<Vec<Input>, ApiError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Forms {
        Text(String),
        Texts(Vec<String>),
        Tokens(Vec<u32>),
        TokenLists(Vec<Vec<u32>>),
    }
    let forms = serde_json::from_str(value.get()).map_err(|_| {
        let message = format!("{param} must be a text, a list of token ids, or a list of either");
        ApiError::bad_request(message, Some(param))
    })?;
    let prompts: Vec<Input> = match forms {
        Forms::Text(text) => vec![Input::Text(text)],
        Forms::Texts(texts) => texts.into_iter().map(Input::Text).collect(),
        Forms::Tokens(tokens) if tokens.is_empty() => Vec::new(),
        Forms::Tokens(tokens) => vec![Input::Tokens(tokens)],
        Forms::TokenLists(lists) => lists.into_iter().map(Input::Tokens).collect(),
    };
    if prompts.is_empty() {
        return Err(ApiError::bad_request(format!("{param} is empty"), Some(param)));
    }
    Ok(prompts)
}

async fn answer(
    api: Api,
    worker: Arc<Worker>,
    common: Common<'_>,
    inputs: Vec<Input>,
    max_tokens: Option<i64>,
    prefilled: Option<Extension<Prefilled>>,
) -> Result<Response, ApiError> {
    let stream = common.stream.unwrap_or_default();
    let job = Job {
        model: common.model.as_deref(),
        limits: Limits {
            max_tokens,
            min_tokens: common.min_tokens,
            ignore_eos: common.ignore_eos.unwrap_or_default(),
        },
        cache_salt: common.cache_salt.as_deref(),
        stream,
        transfer: common.kv_transfer_params.unwrap_or_default(),
        prefilled: prefilled.map(|Extension(prefilled)| prefilled),
    };
    let batch = Batch::start(&worker, inputs, common.n, &job).await?;
    if stream {
        let with_usage = common.stream_options.and_then(|o| o.include_usage).unwrap_or_default();
        Ok(streamed(api, batch, with_usage))
    } else {
        whole(api, batch).await
    }
}

async fn whole(api: Api, mut batch: Batch) -> Result<Response, ApiError> {
    let answers = batch.complete().await?;
    let choice = |(index, (text, reason)): (usize, (String, FinishReason))| {
        let mut choice = json!({
            "index": index,
            "logprobs": null,
            "finish_reason": reason.as_str(),
            "stop_reason": null,
        });
        match api {
            Api::Chat => {
                choice["message"] = json!({
                    "role": "assistant", "content": text, "refusal": null, "tool_calls": [],
                });
            }
            Api::Completions => choice["text"] = text.into(),
        }
        choice
    };
    let choices: Vec<Value> = answers.into_iter().enumerate().map(choice).collect();
    let object = match api {
        Api::Chat => "chat.completion",
        Api::Completions => "text_completion",
    };
    let body = json!({
        "id": api.new_id(),
        "object": object,
        "created": unix_time(),
        "model": batch.model(),
        "choices": choices,
        "usage": usage_json(batch.usage()),
        "kv_transfer_params": batch.kv_transfer_params(),
    });
    Ok(Json(body).into_response())
}

impl Api {
    fn new_id(self) -> String {
        let prefix = match self {
            Api::Chat => "chatcmpl",
            Api::Completions => "cmpl",
        };
        format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    #[serde(flatten)]
    content: Content<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Content<'a> {
    Delta(Delta<'a>),
    Text(&'a str),
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    content: &'a str,
}

fn streamed(api: Api, mut batch: Batch, with_usage: bool) -> Response {
    let (id, created) = (api.new_id(), unix_time());
    let model = batch.model().to_owned();
    let chunk = move |choices: &[Choice], usage: Option<Usage>| {
        let object = match api {
            Api::Chat => "chat.completion.chunk",
            Api::Completions => "text_completion",
        };
        let usage = usage.map(usage_json);
        let chunk = Chunk { id: &id, object, created, model: &model, choices, usage };
        // None of its parts can fail to be written.
        Event::default().data(serde_json::to_string(&chunk).unwrap_or_default())
    };
    let events = async_stream::stream! {
        // Answers whose role was sent.
        let mut begun = HashSet::new();
        loop {
            let (index, piece) = match batch.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                // The connection ends without [DONE], as where a server dies.
                Err(_) => return,
            };
            if matches!(api, Api::Chat) && begun.insert(index) {
                let role = Delta { role: Some("assistant"), content: "" };
                yield Ok(chunk(&[choice(index, Content::Delta(role), None)], None));
            }
            let content = match api {
                Api::Chat => Content::Delta(Delta { role: None, content: piece.text }),
                Api::Completions => Content::Text(piece.text),
            };
            let finish = piece.finish.map(|reason| reason.as_str());
            let event = chunk(&[choice(index, content, finish)], None);
            yield Ok::<_, Infallible>(event);
        }
        if with_usage {
            yield Ok(chunk(&[], Some(batch.usage())));
        }
        yield Ok(Event::default().data("[DONE]"));
    };
    Sse::new(events).into_response()
}

fn choice<'a>(
    index: usize,
    content: Content<'a>,
    finish_reason: Option<&'static str>,
) -> Choice<'a> {
    Choice { index, content, logprobs: None, finish_reason }
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    })
}
