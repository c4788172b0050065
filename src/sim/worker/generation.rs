//! One answer being generated, whatever API it was asked for through.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::Worker;
use super::answer::{FinishReason, Length};
use super::driver::Answer;
use super::error::ApiError;
use crate::sim::{EventKind, Prompt, RequestSpec, SubmitError};

/// What to generate.
#[derive(Debug, Default)]
pub(super) struct Job<'a> {
    /// The base model's name or an adapter's; the base model where the request names none.
    pub(super) model: Option<&'a str>,
    pub(super) input: Input,
    pub(super) limits: Limits,
    /// Keeps the prompt's blocks apart from those of other salts.
    pub(super) cache_salt: Option<&'a str>,
    pub(super) stream: bool,
}

#[derive(Debug)]
pub(super) enum Input {
    Text(String),
    Tokens(Vec<u32>),
}

impl Default for Input {
    fn default() -> Self {
        Input::Text(String::new())
    }
}

/// Bounds of the answer's length, as they stood in the request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) max_tokens: Option<i64>,
    pub(super) min_tokens: Option<i64>,
    pub(super) ignore_eos: bool,
}

impl Limits {
    /// The bounds in tokens: at most, at least. `room` is what the model's length leaves.
    fn resolve(self, prompt: u32, room: u32) -> Result<(u32, u32), ApiError> {
        let limit = match self.max_tokens {
            None => room,
            Some(max) if max < 1 => {
                let message = format!("max_tokens must be at least 1, got {max}.");
                return Err(ApiError::bad_request(message, Some("max_tokens")));
            }
            Some(max) if max > i64::from(room) => {
                let message = format!(
                    "This model's maximum context length is {} tokens. However, you requested \
                     {max} output tokens and your prompt has {prompt} tokens.",
                    prompt + room
                );
                return Err(ApiError::bad_request(message, Some("max_tokens")));
            }
            Some(max) => u32::try_from(max).unwrap_or(room),
        };
        let at_least = match self.min_tokens {
            _ if self.ignore_eos => limit,
            None => 0,
            Some(min) => u32::try_from(min.max(0)).unwrap_or(limit),
        };
        Ok((limit, at_least))
    }
}

/// Tokens of a request, as in `usage`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) prompt: u32,
    pub(super) cached: u32,
    pub(super) completion: u32,
}

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Generation {
    /// The model's name as the request gave it.
    pub(super) model: String,
    worker: Arc<Worker>,
    answer: Answer,
    length: Length,
    usage: Usage,
}

/// A token of an answer.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// On the last token: why it is the last.
    pub(super) finish: Option<FinishReason>,
}

impl Generation {
    /// Submits the job to the worker's engine.
    pub(super) async fn start(worker: Arc<Worker>, job: Job<'_>) -> Result<Self, ApiError> {
        let (model, adapter) = worker.resolve_model(job.model)?;
        let salt = job.cache_salt.map_or(0, |salt| xxh64(salt.as_bytes(), 0));
        let seed = xxh64(&adapter.map_or(0, |a| a + 1).to_le_bytes(), salt);
        let block_size = worker.engine.block_size;
        let (mut prompt, text) = match &job.input {
            Input::Tokens(ids) => (Prompt::from_token_ids(ids, seed, block_size), None),
            Input::Text(text) => {
                (Prompt::from_text(text.as_bytes(), b"", seed, block_size), Some(text))
            }
        };
        let (tokens, max) = (prompt.len_tokens, worker.engine.max_model_len);
        if tokens >= max {
            return Err(SubmitError::TooLong { tokens, max }.into());
        }
        let (limit, at_least) = job.limits.resolve(tokens, max - tokens)?;
        let length = worker.text.length(limit, at_least);
        if let Some(text) = text {
            // The next turn of the conversation quotes the answer: name its blocks as well.
            let answer = worker.text.text(length.tokens);
            prompt = Prompt::from_text(text.as_bytes(), answer.as_bytes(), seed, block_size);
        }
        let spec = RequestSpec { prompt, output_tokens: length.tokens, adapter };
        let submitted = worker.handle.submit(spec, length.reason, job.stream).await;
        let answer = submitted.ok_or_else(ApiError::engine_gone)??;
        let usage = Usage { prompt: tokens, cached: 0, completion: 0 };
        Ok(Self { model, worker, answer, length, usage })
    }

    /// The next token; `None` when the last one is through. `Err` if the engine went away.
    pub(super) async fn next(&mut self) -> Result<Option<Piece<'_>>, ApiError> {
        match self.answer.next().await {
            None => return Err(ApiError::engine_gone()),
            Some(EventKind::Finished(summary)) => {
                self.usage.completion = summary.output_tokens;
                return Ok(None);
            }
            Some(EventKind::FirstToken { cached_tokens }) => self.usage.cached = cached_tokens,
            Some(EventKind::Token) => {}
        }
        let index = self.usage.completion;
        self.usage.completion += 1;
        let last = self.usage.completion == self.length.tokens;
        Ok(Some(Piece {
            text: self.worker.text.token(index),
            finish: last.then_some(self.length.reason),
        }))
    }

    /// Waits for the whole answer.
    pub(super) async fn complete(&mut self) -> Result<(String, FinishReason), ApiError> {
        while self.next().await?.is_some() {}
        Ok((self.worker.text.text(self.usage.completion), self.length.reason))
    }

    /// The tokens counted so far; final after the last token.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }
}
