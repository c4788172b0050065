//! The requests an engine holds.

use super::blocks::BlockId;
use super::prompt::{Prompt, chain};
use crate::sim::Nanos;

/// Names a request of one engine; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

impl RequestId {
    fn new(slot: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | slot as u64)
    }

    fn slot(self) -> usize {
        self.0 as u32 as usize
    }
}

/// Where the KV of a prompt comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefillState {
    /// The engine computes it, but for what it has cached.
    #[default]
    Local,
    /// Another engine computes it and has it from `ready_at` on. What is not cached here is
    /// fetched from there once the request is admitted; only the last token of the prompt is
    /// computed, since the first of the answer follows from it (vLLM's NIXL connector).
    Remote { ready_at: Nanos },
}

/// A request to an engine.
#[derive(Clone, Debug, Default)]
pub struct RequestSpec {
    pub prompt: Prompt,
    /// Tokens to generate: exactly so many, unless the model's length ends the request before.
    pub output_tokens: u32,
    /// The LoRA adapter it needs, numbered by the caller.
    pub adapter: Option<u32>,
    pub prefill: PrefillState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// On the way to the engine's queue.
    Arriving,
    Waiting,
    /// Its prompt's KV is on the way from another engine; it holds the blocks for it.
    Receiving,
    Prefill,
    Decode,
}

#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: RequestId,
    pub(super) phase: Phase,
    pub(super) prompt_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) adapter: Option<u32>,
    /// Where it will get its prompt from; `Local` once it has it.
    pub(super) prefill: PrefillState,
    block_hashes: Vec<u64>,
    /// Place among the running: those admitted later are preempted first.
    pub(super) order: u64,
    /// Tokens whose KV is in the cache. Kept up to date except while decoding.
    pub(super) computed: u32,
    /// Tokens generated; while decoding, those generated before step `since_step`.
    pub(super) generated: u32,
    pub(super) since_step: u64,
    pub(super) blocks: Vec<BlockId>,
    /// How many of `blocks`, from the first on, have their names.
    pub(super) named: usize,
    pub(super) cached_tokens: u32,
    /// Tokens of the prompt that came from another engine.
    pub(super) received_tokens: u32,
    pub(super) preemptions: u32,
    pub(super) submitted_at: Nanos,
    /// When it got into the queue last; nothing at all after a preemption.
    pub(super) queued_at: Nanos,
    pub(super) admitted_at: Option<Nanos>,
    pub(super) first_token_at: Option<Nanos>,
}

impl Sequence {
    /// Tokens generated when `steps` steps are done.
    pub(super) fn generated_at(&self, steps: u64) -> u32 {
        match self.phase {
            Phase::Decode => self.generated + (steps - self.since_step) as u32,
            _ => self.generated,
        }
    }

    /// Prompt and generated tokens when `steps` steps are done.
    pub(super) fn tokens_at(&self, steps: u64) -> u32 {
        self.prompt_tokens + self.generated_at(steps)
    }

    /// True where the KV of its prompt was received and has not been lost since.
    pub(super) fn has_received(&self) -> bool {
        self.received_tokens > 0 && self.phase == Phase::Waiting && !self.blocks.is_empty()
    }

    /// The name of block `index`. Blocks of the answer that the caller has no name for get one
    /// of their own: a preempted request finds them again, nobody else does.
    pub(super) fn block_name(&self, index: usize) -> u64 {
        let own = || chain(self.id.0, index as u64, 1);
        self.block_hashes.get(index).copied().unwrap_or_else(own)
    }

    /// The number of the step whose end brings the last token.
    pub(super) fn finish_step(&self) -> u64 {
        self.since_step + u64::from(self.output_tokens - self.generated)
    }
}

/// Sequences by [`RequestId`].
#[derive(Debug, Default)]
pub(super) struct Sequences {
    slots: Vec<Slot>,
    vacant: Vec<usize>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    sequence: Option<Sequence>,
}

impl Sequences {
    pub(super) fn insert(&mut self, spec: RequestSpec, now: Nanos) -> RequestId {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        let id = RequestId::new(index, slot.generation);
        slot.sequence = Some(Sequence {
            id,
            phase: Phase::Arriving,
            prompt_tokens: spec.prompt.len_tokens,
            output_tokens: spec.output_tokens,
            adapter: spec.adapter,
            prefill: spec.prefill,
            block_hashes: spec.prompt.block_hashes,
            order: 0,
            computed: 0,
            generated: 0,
            since_step: 0,
            blocks: Vec::new(),
            named: 0,
            cached_tokens: 0,
            received_tokens: 0,
            preemptions: 0,
            submitted_at: now,
            queued_at: now,
            admitted_at: None,
            first_token_at: None,
        });
        id
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Sequence> {
        self.slots.get(id.slot())?.sequence.as_ref().filter(|s| s.id == id)
    }

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut Sequence> {
        self.slots.get_mut(id.slot())?.sequence.as_mut().filter(|s| s.id == id)
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Sequence> {
        self.get(id)?;
        self.vacant.push(id.slot());
        self.slots.get_mut(id.slot())?.sequence.take()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }
}
