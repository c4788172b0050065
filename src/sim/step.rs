//! One step of an engine: what is scheduled, and what comes of it.
//!
//! Follows vLLM's V1 scheduler (0.24, default settings): running sequences first, then the
//! queue in order; whoever lacks a block preempts the one admitted last.

use super::cost::PrefillWork;
use super::engine::{Engine, Event, EventKind, Summary};
use super::sequence::{PrefillState, RequestId, Sequence};
use crate::sim::Nanos;

impl Engine {
    /// Starts a step at `at`, or leaves the engine idle where there is nothing to compute.
    /// Requests that got into the queue after `known_until` are not in it.
    pub(super) fn start_step(&mut self, at: Nanos, known_until: Nanos) {
        self.chunks.clear();
        self.prefill = PrefillWork::default();
        let preemptions = self.totals.preemptions;
        self.grow_decoding();
        let mut budget = self.config.max_num_batched_tokens - self.running.decoding() as u32;
        if let Some(id) = self.running.partial {
            self.continue_prefill(id, &mut budget);
        }
        // After a preemption blocks are short: nobody is let in, vLLM waits a step as well.
        if self.totals.preemptions == preemptions {
            self.admit(at, known_until, &mut budget);
        }
        let decoding = self.running.decoding();
        if decoding > 0 || !self.chunks.is_empty() {
            let ns = self.cost.step(&self.prefill, decoding, self.running.kv_tokens);
            let launch = self.cost.launch(&self.prefill, decoding).min(ns);
            self.step_end = Some(at + self.paced(ns));
            self.launched_at = at + self.paced(launch);
        }
    }

    /// Gives a block to each decoding sequence whose blocks are full, and their names to those
    /// that this step fills.
    fn grow_decoding(&mut self) {
        let mut needing = self.running.take_needing_block(self.steps);
        for &(order, id) in &needing {
            // One before it may have preempted it.
            while self.running.contains(order) {
                if let Some(block) = self.blocks.take() {
                    if let Some(sequence) = self.sequences.get_mut(id) {
                        sequence.blocks.push(block);
                    }
                    break;
                }
                self.preempt_last();
            }
        }
        needing.retain(|&(order, _)| self.running.contains(order));
        self.running.put_back(self.steps, needing);
        if !self.config.prefix_caching {
            return;
        }
        for &(_, id) in self.running.filling_block(self.steps) {
            if let Some(sequence) = self.sequences.get_mut(id) {
                let full = sequence.tokens_at(self.steps) / self.config.block_size;
                name_blocks(&mut self.blocks, sequence, full);
            }
        }
    }

    /// Schedules the next chunk of the prompt that is partly computed.
    fn continue_prefill(&mut self, id: RequestId, budget: &mut u32) {
        let Some(sequence) = self.sequences.get(id) else { return };
        let left = sequence.tokens_at(self.steps) - sequence.computed;
        let chunk = left.min(*budget);
        if chunk == 0 {
            return;
        }
        let end = sequence.computed + chunk;
        let missing = end.div_ceil(self.config.block_size) as usize - sequence.blocks.len();
        if missing > self.blocks.free() as usize {
            self.preempt_last();
            return;
        }
        self.schedule_chunk(id, chunk, missing, budget);
    }

    /// Lets requests in from the queue while there are tokens, seats, adapters and blocks.
    fn admit(&mut self, at: Nanos, known_until: Nanos, budget: &mut u32) {
        if self.admission_blocked {
            // vLLM looks it up again, which its counters show.
            if let Some((tokens, found)) = self.blocked_lookup
                && *budget > 0
            {
                self.count_lookup(tokens, found);
            }
            return;
        }
        self.blocked_lookup = None;
        let mut place = 0;
        let mut unknown = false;
        while *budget > 0
            && let Some(&id) = self.waiting.get(place)
        {
            self.admission_blocked = self.running.len() >= self.config.max_num_seqs as usize;
            if self.admission_blocked {
                return;
            }
            let Some(sequence) = self.sequences.get(id) else { return };
            if sequence.queued_at > known_until {
                unknown = true;
                place += 1;
                continue;
            }
            if !self.running.has_room_for(sequence.adapter, self.config.max_loras) {
                place += 1;
                continue;
            }
            if sequence.has_received() {
                self.waiting.remove(place);
                self.seat_received(id, budget);
                continue;
            }
            let tokens = sequence.tokens_at(self.steps);
            let lookup = self.config.prefix_caching && sequence.preemptions == 0;
            let remote = sequence.prefill;
            let found_free = self.find_cached(id);
            let found = self.found.len() as u32;
            let blocks = tokens.div_ceil(self.config.block_size);
            if lookup {
                self.count_lookup(tokens, found * self.config.block_size);
            }
            // The whole sequence must fit, though only its first chunk is given blocks now
            // (vLLM's scheduler_reserve_full_isl).
            if blocks - found + found_free > self.blocks.free() {
                self.admission_blocked = true;
                self.blocked_lookup = lookup.then_some((tokens, found * self.config.block_size));
                return;
            }
            self.waiting.remove(place);
            if let PrefillState::Remote { ready_at } = remote {
                self.receive(id, at, ready_at);
                continue;
            }
            self.seat(id, at);
            let computed = found * self.config.block_size;
            let chunk = (tokens - computed).min(*budget);
            let missing = (computed + chunk).div_ceil(self.config.block_size) - found;
            self.schedule_chunk(id, chunk, missing as usize, budget);
        }
        // Those passed over wait for an adapter to become free.
        self.admission_blocked = *budget > 0 && place > 0 && !unknown;
    }

    /// Puts into `found` the cached blocks that a request can begin with, and says how many of
    /// them nobody holds.
    fn find_cached(&mut self, id: RequestId) -> u32 {
        self.found.clear();
        let Some(sequence) = self.sequences.get(id) else { return 0 };
        if !self.config.prefix_caching {
            return 0;
        }
        let tokens = sequence.tokens_at(self.steps);
        let names = (0..self.cacheable_blocks(tokens)).map(|i| sequence.block_name(i));
        self.blocks.find_prefix(names, &mut self.found)
    }

    fn count_lookup(&mut self, tokens: u32, found: u32) {
        self.totals.prefix_queries += u64::from(tokens);
        self.totals.prefix_hits += u64::from(found);
    }

    /// Moves a request from the queue into the batch, holding the cached blocks in `found`.
    fn seat(&mut self, id: RequestId, at: Nanos) {
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        for &block in &self.found {
            self.blocks.hold(block);
        }
        sequence.blocks.extend_from_slice(&self.found);
        sequence.named = self.found.len();
        sequence.computed = self.found.len() as u32 * self.config.block_size;
        if sequence.admitted_at.is_none() {
            sequence.admitted_at = Some(at);
            sequence.cached_tokens = sequence.computed;
        }
        self.prefill.resumed |= sequence.computed > 0;
        self.running.admit(sequence);
    }

    /// Schedules `chunk` tokens of a prompt, giving it `missing` blocks, which must be free.
    pub(super) fn schedule_chunk(
        &mut self,
        id: RequestId,
        chunk: u32,
        missing: usize,
        budget: &mut u32,
    ) {
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        let taken = std::iter::from_fn(|| self.blocks.take()).take(missing);
        sequence.blocks.extend(taken);
        let end = sequence.computed + chunk;
        // Named as they are scheduled: a request admitted behind this one finds them already.
        if self.config.prefix_caching {
            name_blocks(&mut self.blocks, sequence, end / self.config.block_size);
        }
        self.prefill.add(sequence.computed, chunk);
        self.running.partial = (end < sequence.tokens_at(self.steps)).then_some(id);
        self.chunks.push((id, chunk));
        *budget -= chunk;
    }

    /// Sends the sequence admitted last back to the head of the queue; what it computed stays
    /// in the cache as far as its blocks are not taken.
    fn preempt_last(&mut self) {
        let Some(id) = self.running.last() else { return };
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        self.running.remove(sequence, self.steps);
        self.blocks.release(&sequence.blocks);
        sequence.blocks.clear();
        sequence.named = 0;
        sequence.computed = 0;
        sequence.preemptions += 1;
        sequence.queued_at = 0;
        self.totals.preemptions += 1;
        self.waiting.push_front(id);
        self.admission_blocked = false;
    }

    /// Ends the step that was being executed: every sequence in it has its tokens.
    pub(super) fn finish_step(&mut self, at: Nanos, sink: &mut impl FnMut(Event)) {
        self.steps += 1;
        self.totals.generated_tokens += self.running.decoding() as u64;
        self.running.count_step();
        if self.config.token_events && self.running.decoding() > 0 {
            for id in self.running.iter() {
                let decoding = |s: &Sequence| s.generated_at(self.steps) > s.generated;
                if self.sequences.get(id).is_some_and(decoding) {
                    sink(Event { id, at, kind: EventKind::Token });
                }
            }
        }
        while let Some(id) = self.running.next_finished(self.steps) {
            self.finish(id, at, sink);
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        for (id, tokens) in chunks.drain(..) {
            self.finish_chunk(id, tokens, at, sink);
            // What this step put into the cache may be what the first of the queue lacks.
            self.admission_blocked = false;
        }
        self.chunks = chunks;
    }

    fn finish_chunk(
        &mut self,
        id: RequestId,
        tokens: u32,
        at: Nanos,
        sink: &mut impl FnMut(Event),
    ) {
        // A cancelled one is gone.
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        sequence.computed += tokens;
        if sequence.computed < sequence.tokens_at(self.steps) {
            return;
        }
        sequence.generated += 1;
        self.totals.generated_tokens += 1;
        if sequence.first_token_at.is_none() {
            sequence.first_token_at = Some(at);
            self.totals.prompt_tokens += u64::from(sequence.prompt_tokens);
            self.totals.cached_tokens += u64::from(sequence.cached_tokens);
            self.totals.received_tokens += u64::from(sequence.received_tokens);
            let cached_tokens = sequence.cached_tokens;
            sink(Event { id, at, kind: EventKind::FirstToken { cached_tokens } });
        } else if self.config.token_events {
            sink(Event { id, at, kind: EventKind::Token });
        }
        self.running.start_decoding(sequence, self.steps);
        if sequence.generated == sequence.output_tokens {
            self.finish(id, at, sink);
        }
    }

    fn finish(&mut self, id: RequestId, at: Nanos, sink: &mut impl FnMut(Event)) {
        let Some(mut sequence) = self.sequences.remove(id) else { return };
        self.running.remove(&mut sequence, self.steps);
        self.blocks.release(&sequence.blocks);
        self.totals.finished += 1;
        self.admission_blocked = false;
        let summary = Summary {
            prompt_tokens: sequence.prompt_tokens,
            cached_tokens: sequence.cached_tokens,
            received_tokens: sequence.received_tokens,
            output_tokens: sequence.generated,
            preemptions: sequence.preemptions,
            submitted_at: sequence.submitted_at,
            admitted_at: sequence.admitted_at.unwrap_or(at),
            first_token_at: sequence.first_token_at.unwrap_or(at),
        };
        sink(Event { id, at, kind: EventKind::Finished(summary) });
    }
}

/// Makes the first `full` blocks of a sequence findable, those that are not yet.
pub(super) fn name_blocks(
    blocks: &mut super::blocks::BlockCache,
    sequence: &mut Sequence,
    full: u32,
) {
    while sequence.named < full as usize
        && let Some(&block) = sequence.blocks.get(sequence.named)
    {
        blocks.name(block, sequence.block_name(sequence.named));
        sequence.named += 1;
    }
}
