//! The answers of one request: one for each of its prompts, or several.

use std::sync::Arc;
use std::task::Poll;

use super::Worker;
use super::answer::FinishReason;
use super::error::ApiError;
use super::generation::{Generation, Input, Job, Piece, Usage};

/// Most answers to a prompt, as in OpenAI's API.
const MAX_ANSWERS: i64 = 128;

/// Answers on their way, in the order of `choices`: all of the first prompt, then all of the
/// second, and so on. Dropping it cancels them.
#[derive(Debug)]
pub(super) struct Batch {
    members: Vec<Generation>,
    /// Answers to each prompt.
    per_prompt: usize,
    /// Where the next look for a token begins, so that none has to wait for another.
    turn: usize,
    /// Members that have not ended.
    left: usize,
}

impl Batch {
    /// Submits `n` answers to each of `inputs`, all of them as `job` says.
    pub(super) async fn start(
        worker: &Arc<Worker>,
        inputs: Vec<Input>,
        n: Option<i64>,
        job: &Job<'_>,
    ) -> Result<Self, ApiError> {
        let n = n.unwrap_or(1);
        if !(1..=MAX_ANSWERS).contains(&n) {
            let message = format!("n must be from 1 to {MAX_ANSWERS}, got {n}.");
            return Err(ApiError::bad_request(message, Some("n")));
        }
        let per_prompt = usize::try_from(n).unwrap_or(1);
        let mut members = Vec::with_capacity(inputs.len() * per_prompt);
        for input in inputs {
            for _ in 0..per_prompt {
                members.push(Generation::start(worker.clone(), &input, job).await?);
            }
        }
        let left = members.len();
        Ok(Self { members, per_prompt, turn: 0, left })
    }

    /// The model's name as the request gave it.
    pub(super) fn model(&self) -> &str {
        self.members.first().map_or("", |member| &member.model)
    }

    /// The next token of any of the answers with the place of its answer; `None` after all of
    /// them. `Err` if the engine went away.
    pub(super) async fn next(&mut self) -> Result<Option<(usize, Piece<'_>)>, ApiError> {
        while self.left > 0 {
            let members = &mut self.members;
            let (count, turn) = (members.len(), self.turn);
            let (index, event) = std::future::poll_fn(|context| {
                for step in 0..count {
                    let index = (turn + step) % count;
                    let Some(member) = members.get_mut(index) else { continue };
                    if member.is_finished() {
                        continue;
                    }
                    if let Poll::Ready(event) = member.poll_event(context) {
                        return Poll::Ready((index, event));
                    }
                }
                Poll::Pending
            })
            .await;
            self.turn = index + 1;
            let Some(member) = self.members.get_mut(index) else { break };
            if member.count(event)? {
                return Ok(self.members.get(index).map(|member| (index, member.piece())));
            }
            self.left -= 1;
        }
        Ok(None)
    }

    /// Waits for all of the answers.
    pub(super) async fn complete(&mut self) -> Result<Vec<(String, FinishReason)>, ApiError> {
        let mut answers = Vec::with_capacity(self.members.len());
        for member in &mut self.members {
            answers.push(member.complete().await?);
        }
        self.left = 0;
        Ok(answers)
    }

    /// The tokens of each prompt, counted once, and of all answers. The cached tokens are those
    /// of the last prompt, as vLLM reports them.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (index, member) in self.members.iter().enumerate() {
            let one = member.usage();
            usage.completion += one.completion;
            if index % self.per_prompt == 0 {
                usage.prompt += one.prompt;
                usage.cached = one.cached;
            }
        }
        usage
    }

    /// What a decode worker needs to fetch the prompt's KV from here, if it was asked for.
    pub(super) fn kv_transfer_params(&self) -> Option<serde_json::Value> {
        self.members.first().and_then(Generation::kv_transfer_params)
    }
}
