//! One answer being generated, whatever API it was asked for through.

use std::sync::Arc;
use std::task::{Context, Poll};

use serde::Deserialize;
use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

use super::Worker;
use super::answer::{FinishReason, Length};
use super::driver::Answer;
use super::error::ApiError;
use super::sidecar::Prefilled;
use crate::sim::{EventKind, PrefillState, Prompt, RequestSpec, SubmitError};

/// How to answer, whatever the prompt.
#[derive(Debug, Default)]
pub(super) struct Job<'a> {
    /// The base model's name or an adapter's; the base model where the request names none.
    pub(super) model: Option<&'a str>,
    pub(super) limits: Limits,
    /// Keeps the prompt's blocks apart from those of other salts.
    pub(super) cache_salt: Option<&'a str>,
    pub(super) stream: bool,
    /// The request's `kv_transfer_params`.
    pub(super) transfer: Transfer,
    /// What the worker that computed the prompt said of it.
    pub(super) prefilled: Option<Prefilled>,
}

/// What a request says about the KV of its prompt, in the fields of vLLM's NIXL connector. The
/// others say where the KV is, which makes no difference here.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Transfer {
    /// Another worker has computed the prompt.
    do_remote_prefill: Option<bool>,
    /// Another worker is going to give the answer.
    do_remote_decode: Option<bool>,
}

impl Transfer {
    fn prefill(self) -> PrefillState {
        match self.do_remote_prefill {
            // The other worker had it before it answered.
            Some(true) => PrefillState::Remote { ready_at: 0 },
            _ => PrefillState::Local,
        }
    }
}

/// A prompt.
#[derive(Debug)]
pub(super) enum Input {
    Text(String),
    Tokens(Vec<u32>),
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
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) prompt: u32,
    pub(super) cached: u32,
    pub(super) completion: u32,
}

/// vLLM's default for the port on which the NIXL connector tells where blocks are.
const NIXL_PORT: u16 = 5600;

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Generation {
    /// The model's name as the request gave it.
    pub(super) model: String,
    worker: Arc<Worker>,
    answer: Answer,
    length: Length,
    usage: Usage,
    transfer: Transfer,
    prefilled: Option<Prefilled>,
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
    pub(super) async fn start(
        worker: Arc<Worker>,
        input: &Input,
        job: &Job<'_>,
    ) -> Result<Self, ApiError> {
        let (model, adapter) = worker.resolve_model(job.model)?;
        let salt = job.cache_salt.map_or(0, |salt| xxh64(salt.as_bytes(), 0));
        let seed = xxh64(&adapter.map_or(0, |a| a + 1).to_le_bytes(), salt);
        let block_size = worker.engine.block_size;
        let (mut prompt, text) = match input {
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
        let prefill = job.transfer.prefill();
        let spec = RequestSpec { prompt, output_tokens: length.tokens, adapter, prefill };
        let submitted = worker.handle.submit(spec, length.reason, job.stream).await;
        let answer = submitted.ok_or_else(ApiError::engine_gone)??;
        let usage = Usage { prompt: tokens, cached: 0, completion: 0 };
        let (transfer, prefilled) = (job.transfer, job.prefilled);
        Ok(Self { model, worker, answer, length, usage, transfer, prefilled })
    }

    /// The next token; `None` when the last one is through. `Err` if the engine went away.
    pub(super) async fn next(&mut self) -> Result<Option<Piece<'_>>, ApiError> {
        let event = self.answer.next().await;
        Ok(if self.count(event)? { Some(self.piece()) } else { None })
    }

    /// The engine's next event, for those who wait for several answers.
    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<EventKind>> {
        self.answer.poll_next(context)
    }

    /// True after the last event.
    pub(super) fn is_finished(&self) -> bool {
        self.answer.is_finished()
    }

    /// Takes an event into account; true where it brought a token.
    pub(super) fn count(&mut self, event: Option<EventKind>) -> Result<bool, ApiError> {
        match event {
            None => return Err(ApiError::engine_gone()),
            Some(EventKind::Finished(summary)) => {
                self.usage.completion = summary.output_tokens;
                return Ok(false);
            }
            Some(EventKind::FirstToken { cached_tokens }) => {
                self.usage.cached = self.cached(cached_tokens);
            }
            Some(EventKind::Token) => {}
        }
        self.usage.completion += 1;
        Ok(true)
    }

    /// The cached tokens to report where the engine found `here`. A sidecar puts in what the
    /// prefill worker found; vLLM itself counts all that it did not compute.
    fn cached(&self, here: u32) -> u32 {
        match (self.prefilled, self.transfer.prefill()) {
            (Some(there), _) => there.cached_tokens,
            (None, PrefillState::Remote { .. }) => self.usage.prompt.saturating_sub(1),
            (None, PrefillState::Local) => here,
        }
    }

    /// The token counted last.
    pub(super) fn piece(&self) -> Piece<'_> {
        let last = self.usage.completion == self.length.tokens;
        Piece {
            text: self.worker.text.token(self.usage.completion.saturating_sub(1)),
            finish: last.then_some(self.length.reason),
        }
    }

    /// What a decode worker needs to fetch the prompt's KV from here, in the fields of vLLM's
    /// NIXL connector. As there only a request that asked for it has them, and only where it
    /// ended at its limit.
    pub(super) fn kv_transfer_params(&self) -> Option<Value> {
        if self.transfer.do_remote_decode != Some(true)
            || self.length.reason != FinishReason::Length
        {
            return None;
        }
        // The blocks by their place in the prompt: nobody reads memory by them.
        let blocks: Vec<u32> =
            (0..self.usage.prompt.div_ceil(self.worker.engine.block_size)).collect();
        Some(json!({
            "do_remote_prefill": true,
            "do_remote_decode": false,
            "remote_block_ids": blocks,
            "remote_engine_id": self.worker.name,
            "remote_host": self.worker.host,
            "remote_port": NIXL_PORT,
            "tp_size": 1,
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
