//! Prompts computed by another engine: their KV is fetched instead.
//!
//! Follows vLLM's V1 scheduler with an asynchronous KV connector (NIXL): a request is given all
//! blocks of its prompt when it is admitted, takes neither a seat nor tokens of the budget while
//! its KV comes, and is then scheduled with everything computed but its last token.

use std::cmp::Reverse;

use super::engine::Engine;
use super::sequence::{Phase, PrefillState, RequestId};
use super::step::name_blocks;
use crate::sim::Nanos;

impl Engine {
    /// Gives an admitted request the blocks of its prompt, those in `found` and free ones, which
    /// must suffice, and starts fetching what is not cached as soon as the other engine has it.
    pub(super) fn receive(&mut self, id: RequestId, at: Nanos, ready_at: Nanos) {
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        for &block in &self.found {
            self.blocks.hold(block);
        }
        sequence.blocks.extend_from_slice(&self.found);
        sequence.named = self.found.len();
        let tokens = sequence.prompt_tokens;
        let missing = (tokens.div_ceil(self.config.block_size) as usize) - self.found.len();
        sequence.blocks.extend(std::iter::from_fn(|| self.blocks.take()).take(missing));
        sequence.cached_tokens = self.found.len() as u32 * self.config.block_size;
        sequence.received_tokens = tokens - sequence.cached_tokens;
        sequence.admitted_at.get_or_insert(at);
        sequence.phase = Phase::Receiving;
        let here_at = at.max(ready_at) + self.config.transfer.time(sequence.received_tokens);
        self.receiving.push(Reverse((here_at, id)));
    }

    /// The KV of a request's prompt is here: others find it from now on, and the request goes to
    /// the head of the queue.
    pub(super) fn received(&mut self, id: RequestId, at: Nanos) {
        // A cancelled one is gone by now.
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        sequence.phase = Phase::Waiting;
        sequence.queued_at = at;
        sequence.prefill = PrefillState::Local;
        if self.config.prefix_caching {
            let full = sequence.prompt_tokens / self.config.block_size;
            name_blocks(&mut self.blocks, sequence, full);
        }
        self.waiting.push_front(id);
        self.admission_blocked = false;
    }

    /// Moves a request whose prompt was received from the queue into the batch.
    pub(super) fn seat_received(&mut self, id: RequestId, budget: &mut u32) {
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        sequence.computed = sequence.prompt_tokens - 1;
        self.running.admit(sequence);
        self.schedule_chunk(id, 1, 0, budget);
    }
}
