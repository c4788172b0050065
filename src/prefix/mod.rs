//! Which worker holds which part of a prompt, as far as our own picks tell.
//!
//! A prompt is cut into blocks and hashed block by block, each hash chained to the one before
//! ([`hash_prompt`]), so one hash stands for a whole prefix. Hashes depend on a [`HashKey`]. [`PrefixIndex`] remembers, worker by
//! worker, the prefixes that were sent there.

mod hash;
mod hash_key;
mod head_filter;
mod index;

pub use hash::{BlockRule, HashedPrompt, hash_prompt};
pub use hash_key::{ChainSeed, HashKey};
pub use index::BlockLru;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::endpoints::{Endpoint, EndpointMemory, PoolIds, StateSlot};
use head_filter::HeadFilter;

/// The hash chains of one request: one chain per prompt, end to end.
#[derive(Clone, Copy, Debug)]
pub struct Chains<'a> {
    pub hashes: &'a [u64],
    /// Where each chain but the first begins in `hashes`.
    pub breaks: &'a [u32],
}

impl<'a> Chains<'a> {
    pub fn iter(self) -> impl Iterator<Item = &'a [u64]> {
        let starts = std::iter::once(0).chain(self.breaks.iter().map(|&b| b as usize));
        let ends = self.breaks.iter().map(|&b| b as usize).chain([self.hashes.len()]);
        starts.zip(ends).map(move |(start, end)| &self.hashes[start..end])
    }
}

/// The prefixes each worker was sent, in the memory of the worker's own endpoint instance: a
/// worker that leaves is forgotten at once, and requests meet only on the lock of one worker.
#[derive(Clone)]
pub struct PrefixIndex {
    slot: StateSlot<Held>,
    heads: Arc<HeadFilter>,
    /// Blocks remembered of all workers.
    size: Arc<AtomicUsize>,
}

/// What one worker holds.
struct Held {
    /// `None` since the index that had it was given up.
    of: RwLock<Option<OfWorker>>,
}

struct OfWorker {
    blocks: BlockLru,
    /// The worker's place in `heads`.
    index: usize,
    heads: Arc<HeadFilter>,
    size: Arc<AtomicUsize>,
}

impl Drop for OfWorker {
    fn drop(&mut self) {
        self.heads.clear(self.index);
        self.size.fetch_sub(self.blocks.len(), Ordering::Relaxed);
    }
}

impl EndpointMemory for Held {
    fn forget(&self) -> bool {
        *self.of.write() = None;
        true
    }
}

impl std::fmt::Debug for PrefixIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrefixIndex")
    }
}

impl PrefixIndex {
    /// Makes an index with a place of its own in every endpoint of the pool; called when a
    /// configuration is loaded.
    pub fn claim(ids: &PoolIds) -> Self {
        let heads = Arc::new(HeadFilter::new());
        Self { slot: ids.claim_slot(), heads, size: Arc::default() }
    }

    /// Blocks that are remembered, of all workers together.
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Blocks of `chains` that the worker holds: the longest held prefix of each, summed.
    pub fn matched(&self, endpoint: &Endpoint, chains: Chains<'_>) -> u32 {
        let begun =
            |chain: &&[u64]| chain.first().is_some_and(|&head| self.heads.may_hold(endpoint, head));
        let mut begun = chains.iter().filter(begun).peekable();
        if begun.peek().is_none() {
            return 0;
        }
        let Some(held) = endpoint.state.get(self.slot) else { return 0 };
        let held = held.of.read();
        let Some(OfWorker { blocks, .. }) = held.as_ref() else { return 0 };
        begun.map(|chain| blocks.longest_prefix(chain) as u32).sum()
    }

    /// Notes that the worker is sent `chains`. `capacity` (blocks) counts the first time only.
    pub fn record(&self, endpoint: &Endpoint, chains: Chains<'_>, capacity: u32) {
        let nothing = || Held { of: RwLock::new(None) };
        let Some(held) = endpoint.state.get_or_init(self.slot, nothing) else { return };
        let mut held = held.of.write();
        let OfWorker { blocks, index, heads, .. } = held.get_or_insert_with(|| OfWorker {
            blocks: BlockLru::new(capacity),
            index: endpoint.index.number(),
            heads: self.heads.clone(),
            size: self.size.clone(),
        });
        let before = blocks.len();
        for chain in chains.iter() {
            blocks.record(chain, |head, is_held| heads.set(*index, head, is_held));
        }
        // What is recorded anew may take the place of something older, never of more than it is.
        self.size.fetch_add(blocks.len().saturating_sub(before), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::test_support::endpoint;

    #[test]
    fn chains_of_several_prompts_are_matched_one_by_one_and_summed() {
        let (a, b) = (endpoint("a", 1), endpoint("b", 2));
        let index = PrefixIndex::claim(&PoolIds::default());
        let sent = Chains { hashes: &[1, 2, 3, 10, 11], breaks: &[3] };
        index.record(&a, sent, 100);
        let asked = Chains { hashes: &[1, 2, 9, 10, 11, 12, 3], breaks: &[3, 6] };
        // [1 2 | 9], [10 11 | 12], and nothing of [3]: no chain that was sent begins with it.
        assert_eq!(index.matched(&a, asked), 4);
        assert_eq!(index.matched(&b, asked), 0);
    }

    #[test]
    fn two_indexes_share_nothing() {
        let a = endpoint("a", 1);
        let ids = PoolIds::default();
        let (one, other) = (PrefixIndex::claim(&ids), PrefixIndex::claim(&ids));
        let chains = Chains { hashes: &[1, 2], breaks: &[] };
        one.record(&a, chains, 100);
        assert_eq!((one.matched(&a, chains), other.matched(&a, chains)), (2, 0));
    }

    #[test]
    fn a_worker_that_returns_starts_empty() {
        let index = PrefixIndex::claim(&PoolIds::default());
        let chains = Chains { hashes: &[1], breaks: &[] };
        index.record(&endpoint("a", 1), chains, 100);
        assert_eq!(index.matched(&endpoint("a", 1), chains), 0);
    }

    #[test]
    fn capacity_is_fixed_by_the_first_record() {
        let a = endpoint("a", 1);
        let index = PrefixIndex::claim(&PoolIds::default());
        index.record(&a, Chains { hashes: &[1], breaks: &[] }, 2);
        let chains = Chains { hashes: &[5, 6, 7], breaks: &[] };
        index.record(&a, chains, 1000);
        assert_eq!(index.matched(&a, chains), 2);
    }
}
