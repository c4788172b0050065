//! The engine as its callers see it: requests in, events out, on a clock of theirs.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use super::blocks::{BlockCache, BlockId};
use super::config::EngineConfig;
use super::config_error::ConfigError;
use super::cost::{PrefillWork, StepCost};
use super::prompt::Prompt;
use super::running::Running;
use super::sequence::{Phase, RequestId, RequestSpec, Sequences};
use crate::sim::Nanos;

/// Something that happened to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: RequestId,
    pub at: Nanos,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The first token of the answer.
    FirstToken {
        /// Tokens of the prompt that were found in the cache when the request was admitted.
        cached_tokens: u32,
    },
    /// A token after the first; only with [`EngineConfig::token_events`].
    Token,
    /// The request is done and forgotten.
    Finished(Summary),
}

/// A finished request's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    /// Tokens of the prompt whose KV came from another engine.
    pub received_tokens: u32,
    pub output_tokens: u32,
    pub preemptions: u32,
    pub submitted_at: Nanos,
    /// When it left the queue for the first time.
    pub admitted_at: Nanos,
    pub first_token_at: Nanos,
}

/// The state that a vLLM server shows in its metrics, as of the last [`Engine::advance`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    pub running: u32,
    pub waiting: u32,
    /// Share of the blocks that requests hold, 0 to 1. Cached blocks nobody holds do not count.
    pub kv_usage: f64,
    pub totals: Totals,
}

/// Counters since the engine's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tokens of the prompts whose first token came.
    pub prompt_tokens: u64,
    pub generated_tokens: u64,
    /// Prompt tokens looked up in the prefix cache. As in vLLM a prompt that waits for blocks is
    /// looked up, and counted, again in every step; one that was preempted is not counted.
    pub prefix_queries: u64,
    /// Prompt tokens found there, counted likewise.
    pub prefix_hits: u64,
    /// Prompt tokens found in the cache, once for each prompt whose first token came.
    pub cached_tokens: u64,
    /// Prompt tokens whose KV came from another engine, likewise.
    pub received_tokens: u64,
    pub preemptions: u64,
    pub finished: u64,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("the prompt has {tokens} tokens, the model takes at most {max} with its answer")]
    TooLong { tokens: u32, max: u32 },
}

/// A vLLM engine in virtual time: continuous batching with chunked prefill, a paged KV cache
/// with prefix caching, preemption by recomputation.
///
/// It does what vLLM's V1 scheduler does with its defaults (first come first served; a request
/// is admitted when its whole sequence fits), on a clock that callers hand in and that must not
/// run backwards. Same calls, same events: there is no randomness in it.
///
/// ```
/// use epp::sim::{Engine, EngineConfig, EventKind, Prompt, RequestSpec};
///
/// let mut engine = Engine::new(EngineConfig::profile("h200-qwen7b").unwrap()).unwrap();
/// let prompt = Prompt::from_text("a".repeat(4096).as_bytes(), b"", 0, 16);
/// engine.submit(0, RequestSpec { prompt, output_tokens: 8, ..Default::default() }).unwrap();
/// let mut finished_at = None;
/// while let Some(now) = engine.next_event_at() {
///     engine.advance(now, &mut |event| {
///         if let EventKind::Finished(_) = event.kind {
///             finished_at = Some(event.at);
///         }
///     });
/// }
/// assert!(finished_at.is_some());
/// ```
#[derive(Debug)]
pub struct Engine {
    pub(super) config: EngineConfig,
    pub(super) cost: StepCost,
    pub(super) blocks: BlockCache,
    pub(super) sequences: Sequences,
    /// Submitted, not yet in the queue: when they get there, and in which order they were sent.
    arriving: BinaryHeap<Reverse<(Nanos, u64, RequestId)>>,
    submissions: u64,
    /// How many times as long as its costs say everything takes.
    pace: f64,
    /// When the API server is free for the next request: it reads them one by one.
    frontend_free_at: Nanos,
    /// Requests whose prompts are on the way from another engine, with the time they are here.
    pub(super) receiving: BinaryHeap<Reverse<(Nanos, RequestId)>>,
    pub(super) waiting: VecDeque<RequestId>,
    pub(super) running: Running,
    /// Steps done.
    pub(super) steps: u64,
    /// When the step being executed ends.
    pub(super) step_end: Option<Nanos>,
    /// When it was launched, and the next one could be put together.
    pub(super) launched_at: Nanos,
    /// Prompts in the step being executed, with how many of their tokens are computed in it.
    pub(super) chunks: Vec<(RequestId, u32)>,
    pub(super) prefill: PrefillWork,
    /// The first of the queue did not fit, and nothing has changed since that could help it.
    pub(super) admission_blocked: bool,
    /// The tokens looked up and found for the first of the queue, while it waits for blocks.
    pub(super) blocked_lookup: Option<(u32, u32)>,
    pub(super) totals: Totals,
    pub(super) found: Vec<BlockId>,
}

impl Engine {
    pub fn new(config: EngineConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            cost: StepCost::new(config.cost.clone(), config.max_num_seqs),
            blocks: BlockCache::new(config.num_blocks),
            sequences: Sequences::default(),
            arriving: BinaryHeap::new(),
            submissions: 0,
            pace: 1.0,
            frontend_free_at: 0,
            receiving: BinaryHeap::new(),
            waiting: VecDeque::new(),
            running: Running::new(config.block_size),
            steps: 0,
            step_end: None,
            launched_at: 0,
            chunks: Vec::new(),
            prefill: PrefillWork::default(),
            admission_blocked: false,
            blocked_lookup: None,
            totals: Totals::default(),
            found: Vec::new(),
            config,
        })
    }

    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Hands in a request at `now`; events follow from [`Engine::advance`]. At least one token
    /// is generated, and never more than the model's length leaves room for. Requests of one
    /// moment are handed in before the engine is advanced to it, so that they share a step.
    pub fn submit(&mut self, now: Nanos, mut spec: RequestSpec) -> Result<RequestId, SubmitError> {
        let (tokens, max) = (spec.prompt.len_tokens, self.config.max_model_len);
        if tokens == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if tokens >= max {
            return Err(SubmitError::TooLong { tokens, max });
        }
        spec.output_tokens = spec.output_tokens.clamp(1, max - tokens);
        let id = self.sequences.insert(spec, now);
        // One process reads, checks and hashes what all clients send.
        let arrives = self.frontend_free_at.max(now) + self.paced(self.cost.frontend(tokens));
        self.frontend_free_at = arrives;
        self.arriving.push(Reverse((arrives, self.submissions, id)));
        self.submissions += 1;
        Ok(id)
    }

    /// Ends a request wherever it is: its blocks are free at once, no further event comes of it.
    /// False if there is no such request (any more).
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let Some(mut sequence) = self.sequences.remove(id) else { return false };
        match sequence.phase {
            Phase::Arriving => {}
            Phase::Waiting | Phase::Receiving => {
                self.waiting.retain(|&other| other != id);
                // Where its prompt came from another engine it holds the blocks for it.
                self.blocks.release(&sequence.blocks);
            }
            Phase::Prefill | Phase::Decode => {
                self.running.remove(&mut sequence, self.steps);
                self.blocks.release(&sequence.blocks);
            }
        }
        self.admission_blocked = false;
        true
    }

    /// When to call [`Engine::advance`] next: nothing is emitted before, though perhaps nothing
    /// at that time either. `None` while there is nothing to do.
    pub fn next_event_at(&self) -> Option<Nanos> {
        let arrival = self.next_arrival();
        let Some(end) = self.step_end else { return arrival };
        let can_admit = !self.waiting.is_empty() && !self.admission_blocked;
        if self.config.token_events || !self.chunks.is_empty() || can_admit {
            return Some(end);
        }
        let quiet = end + (self.steps_to_change() - 1) * self.paced(self.cost.shortest_step());
        Some(arrival.map_or(quiet, |at| quiet.min(at.max(end))))
    }

    /// When the next request, or the next prompt of one, gets here.
    fn next_arrival(&self) -> Option<Nanos> {
        let request = self.arriving.peek().map(|&Reverse((at, ..))| at);
        let prompt = self.receiving.peek().map(|&Reverse((at, _))| at);
        request.into_iter().chain(prompt).min()
    }

    /// The number of steps, the one being executed included, of which none but the last can do
    /// anything but give each sequence a token.
    fn steps_to_change(&self) -> u64 {
        let finish = self.running.next_finish_step().map_or(1, |step| step - self.steps);
        // In as many steps as a block has tokens, each sequence takes one block at most.
        let rounds = u64::from(self.blocks.free()) / self.running.decoding().max(1) as u64;
        finish.min(rounds * u64::from(self.config.block_size) + 1).max(1)
    }

    /// Lets time pass until `now`, handing each event to `sink` in order of time.
    pub fn advance(&mut self, now: Nanos, sink: &mut impl FnMut(Event)) {
        loop {
            let Some(next) = self.step_end.or_else(|| self.next_arrival()) else { return };
            self.enqueue_arrived(next.min(now));
            self.enqueue_received(next.min(now));
            if next > now {
                return;
            }
            let follows = self.step_end.take().is_some();
            if follows {
                self.finish_step(next, sink);
            }
            // Of what came after the step before was launched, this one does not know.
            let known_until =
                if follows && self.config.async_scheduling { self.launched_at } else { next };
            self.start_step(next, known_until);
            if self.step_end.is_none() && known_until < next {
                // Nothing to do but what came meanwhile: no step to wait for.
                self.start_step(next, next);
            }
        }
    }

    fn enqueue_arrived(&mut self, now: Nanos) {
        while let Some(&Reverse((at, _, id))) = self.arriving.peek()
            && at <= now
        {
            self.arriving.pop();
            // A cancelled one is gone by now.
            if let Some(sequence) = self.sequences.get_mut(id) {
                sequence.phase = Phase::Waiting;
                sequence.queued_at = at;
                self.waiting.push_back(id);
                self.admission_blocked = false;
            }
        }
    }

    /// Puts the requests whose prompts have come back to the head of the queue.
    fn enqueue_received(&mut self, now: Nanos) {
        while let Some(&Reverse((at, id))) = self.receiving.peek()
            && at <= now
        {
            self.receiving.pop();
            self.received(id, at);
        }
    }

    /// Has everything that begins from now on take `pace` times as long as the costs say; 1 is
    /// the pace of a new engine. What was said to be the time of the next event may be too late.
    pub fn set_pace(&mut self, pace: f64) {
        self.pace = pace;
    }

    pub(super) fn paced(&self, ns: Nanos) -> Nanos {
        if self.pace == 1.0 { ns } else { (ns as f64 * self.pace).round() as Nanos }
    }

    /// Makes no prompt findable in the cache any more, as vLLM's `/reset_prefix_cache`. False,
    /// and nothing changed, while a request holds blocks.
    pub fn reset_prefix_cache(&mut self) -> bool {
        self.blocks.forget_all()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            running: self.running.len() as u32,
            waiting: (self.waiting.len() + self.receiving.len()) as u32,
            kv_usage: self.blocks.usage(),
            totals: self.totals,
        }
    }

    /// Requests the engine holds, those on the way to its queue included.
    pub fn requests(&self) -> usize {
        self.sequences.len()
    }

    /// Adapters that requests run with now, ascending.
    pub fn running_adapters(&self) -> impl Iterator<Item = u32> {
        self.running.adapters()
    }

    /// Adapters that requests wait for now, ascending.
    pub fn waiting_adapters(&self) -> BTreeSet<u32> {
        self.waiting.iter().filter_map(|&id| self.sequences.get(id)?.adapter).collect()
    }

    /// Tokens of `prompt` that would be found in the cache if it were admitted now.
    pub fn cached_prefix_tokens(&self, prompt: &Prompt) -> u32 {
        if !self.config.prefix_caching {
            return 0;
        }
        let usable = self.cacheable_blocks(prompt.len_tokens).min(prompt.block_hashes.len());
        let blocks = self.blocks.cached_prefix(&prompt.block_hashes[..usable]);
        blocks as u32 * self.config.block_size
    }

    /// How many blocks of a sequence may come from the cache: full ones, and the last token is
    /// always computed, since the next one follows from it.
    pub(super) fn cacheable_blocks(&self, tokens: u32) -> usize {
        (tokens.saturating_sub(1) / self.config.block_size) as usize
    }
}
