//! The sequences of an engine's batch, arranged so that a step of any size costs only what
//! changes in it.

use std::collections::{BTreeMap, BTreeSet};

use super::sequence::{Phase, RequestId, Sequence};

/// What is running. Every decoding sequence gains one token in every step, so none of them is
/// touched until it needs a block, fills one or finishes; when that is, is known beforehand.
#[derive(Debug)]
pub(super) struct Running {
    block_size: u64,
    /// By order of admission.
    all: BTreeMap<u64, RequestId>,
    /// Decoding sequences by the step, modulo the block size, in which they need a block; each
    /// in order of admission. In the step before they fill their last one.
    ring: Vec<Vec<(u64, RequestId)>>,
    /// Decoding sequences by the step that ends them.
    finishes: BTreeSet<(u64, u64, RequestId)>,
    decoding: usize,
    /// Tokens of context of the decoding sequences.
    pub(super) kv_tokens: u64,
    /// The sequence whose prompt is partly computed. There is at most one, and it is the last:
    /// it was cut because the token budget was used up, so none was admitted after it.
    pub(super) partial: Option<RequestId>,
    /// Running sequences per adapter.
    adapters: BTreeMap<u32, u32>,
    next_order: u64,
}

impl Running {
    pub(super) fn new(block_size: u32) -> Self {
        Self {
            block_size: u64::from(block_size),
            all: BTreeMap::new(),
            ring: vec![Vec::new(); block_size as usize],
            finishes: BTreeSet::new(),
            decoding: 0,
            kv_tokens: 0,
            partial: None,
            adapters: BTreeMap::new(),
            next_order: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn decoding(&self) -> usize {
        self.decoding
    }

    pub(super) fn contains(&self, order: u64) -> bool {
        self.all.contains_key(&order)
    }

    /// The one admitted last.
    pub(super) fn last(&self) -> Option<RequestId> {
        self.all.last_key_value().map(|(_, &id)| id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = RequestId> {
        self.all.values().copied()
    }

    /// The adapters in use.
    pub(super) fn adapters(&self) -> impl ExactSizeIterator<Item = u32> {
        self.adapters.keys().copied()
    }

    /// True where a request for `adapter` fits beside those that run.
    pub(super) fn has_room_for(&self, adapter: Option<u32>, max_loras: u32) -> bool {
        adapter.is_none_or(|adapter| {
            self.adapters.contains_key(&adapter) || self.adapters.len() < max_loras as usize
        })
    }

    pub(super) fn admit(&mut self, sequence: &mut Sequence) {
        sequence.order = self.next_order;
        sequence.phase = Phase::Prefill;
        self.next_order += 1;
        self.all.insert(sequence.order, sequence.id);
        if let Some(adapter) = sequence.adapter {
            *self.adapters.entry(adapter).or_default() += 1;
        }
    }

    /// Its prompt is computed and its first token there, after `steps` steps.
    pub(super) fn start_decoding(&mut self, sequence: &mut Sequence, steps: u64) {
        sequence.phase = Phase::Decode;
        sequence.since_step = steps;
        let slot = self.ring_slot(sequence, steps);
        let entry = (sequence.order, sequence.id);
        let members = &mut self.ring[slot];
        members.insert(members.partition_point(|&(order, _)| order < entry.0), entry);
        self.finishes.insert((sequence.finish_step(), sequence.order, sequence.id));
        self.decoding += 1;
        self.kv_tokens += u64::from(sequence.tokens_at(steps));
    }

    /// Takes a sequence out of the batch, bringing its counts up to date.
    pub(super) fn remove(&mut self, sequence: &mut Sequence, steps: u64) {
        self.all.remove(&sequence.order);
        if let Some(adapter) = sequence.adapter
            && let Some(count) = self.adapters.get_mut(&adapter)
        {
            *count -= 1;
            if *count == 0 {
                self.adapters.remove(&adapter);
            }
        }
        if self.partial == Some(sequence.id) {
            self.partial = None;
        }
        if sequence.phase == Phase::Decode {
            let slot = self.ring_slot(sequence, steps);
            self.ring[slot].retain(|&(order, _)| order != sequence.order);
            self.finishes.remove(&(sequence.finish_step(), sequence.order, sequence.id));
            self.decoding -= 1;
            self.kv_tokens -= u64::from(sequence.tokens_at(steps));
            sequence.generated = sequence.generated_at(steps);
        }
        sequence.phase = Phase::Waiting;
    }

    /// A step is done: every decoding sequence has one token more.
    pub(super) fn count_step(&mut self) {
        self.kv_tokens += self.decoding as u64;
    }

    /// A sequence that has all its tokens when `steps` steps are done.
    pub(super) fn next_finished(&self, steps: u64) -> Option<RequestId> {
        self.finishes.first().filter(|&&(step, ..)| step <= steps).map(|&(.., id)| id)
    }

    /// The step that ends the next sequence.
    pub(super) fn next_finish_step(&self) -> Option<u64> {
        self.finishes.first().map(|&(step, ..)| step)
    }

    /// Takes out the list of those that need a block in the step after `steps` steps; it must be
    /// given back through [`Running::put_back`].
    pub(super) fn take_needing_block(&mut self, steps: u64) -> Vec<(u64, RequestId)> {
        std::mem::take(&mut self.ring[(steps % self.block_size) as usize])
    }

    pub(super) fn put_back(&mut self, steps: u64, members: Vec<(u64, RequestId)>) {
        self.ring[(steps % self.block_size) as usize] = members;
    }

    /// Those that fill a block in the step after `steps` steps.
    pub(super) fn filling_block(&self, steps: u64) -> &[(u64, RequestId)] {
        &self.ring[((steps + 1) % self.block_size) as usize]
    }

    /// Its tokens but the newest are in the cache. It needs a block when they fill theirs
    /// exactly, which happens in the steps that leave this remainder.
    fn ring_slot(&self, sequence: &Sequence, steps: u64) -> usize {
        let computed = u64::from(sequence.tokens_at(steps)) - 1;
        ((steps % self.block_size + self.block_size - computed % self.block_size) % self.block_size)
            as usize
    }
}
