//! Which blocks engines say they hold, found by the tokens of a prompt.
//!
//! Engines name blocks by hashes of their own, which depend on release, algorithm and seed. They
//! are used as handles only: an event names the block before it and the tokens in it, so every
//! block gets a key of ours ([`Keys`]), and prompts are looked up by those.
//!
//! Every publisher of events is a [`Holder`] with its own memory and its own lock: streams never
//! wait for one another, a request waits at most for the few blocks one stream is writing down,
//! and a publisher that leaves takes everything with it at once.
//!
//! On paper: a block of one holder takes 28 bytes and a place of four bytes in each of two tables
//! that are at most 7 in 10 full, so 39.4 bytes when its memory is full, and up to half as much
//! again after it has grown. 1,000 endpoints with 100,000 blocks each, 100 M blocks, take 3.9 GB;
//! 64 such endpoints 250 MB (`cargo bench --bench kv_index` prints what they do take). One index
//! over the blocks of all would say once what several hold, but prompts are sent to where their
//! blocks are, so most blocks are on one endpoint; and every event of every engine would meet on it.
//!
//! A prompt of 100,000 tokens has 6,250 blocks of 16. What a holder has of it is found with one probe
//! where it has nothing, and with some 26 (galloping and bisection) where it has any part; a probe
//! is two waits for memory. Most holders have of it what many prompts begin with, as the one asked
//! before had, which takes two probes. Hashing its tokens, 400 KB, once per block size, is most of a
//! lookup then.

mod blocks;
mod budget;
mod chain;
mod holder;
mod table;
#[cfg(test)]
mod tests;

mod speculation;

pub use chain::{Extra, Keys};
pub use holder::{Holder, Match, Run};

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;

use budget::{Budget, Lease};

/// Bytes that one block of one holder takes when its memory is full: 28 for the block, and four
/// in each of two tables that are at most 7 in 10 full.
pub const BYTES_PER_BLOCK: usize = 40;

/// Most blocks that one holder can have, whatever is configured.
pub const MAX_BLOCKS_PER_HOLDER: usize = table::NONE as usize;

/// Adapters that are told from base models at most.
const MAX_ADAPTERS: usize = 4096;

/// Where a block lies, the fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tier {
    Gpu,
    Cpu,
    Disk,
    /// A store outside the engine's machine.
    Shared,
}

/// How many tiers there are.
pub const TIERS: usize = 4;

/// What became of the blocks of a run, each counted once but for `evicted` and `renamed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreOutcome {
    /// Not held before.
    pub added: usize,
    /// Held already: another copy, or another tier.
    pub known: usize,
    /// Left out: the block before them is not known.
    pub detached: usize,
    /// Left out: blocks and tokens do not go together.
    pub mismatched: usize,
    /// Left out: there is no room, and nothing could be evicted.
    pub refused: usize,
    /// Other blocks of the same holder that were dropped for them.
    pub evicted: usize,
    /// Blocks that the engine called otherwise before, or names that stood for another block.
    pub renamed: usize,
}

/// How much an index may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all holders together.
    pub bytes: usize,
    /// Blocks of one holder.
    pub blocks_per_holder: usize,
}

/// Makes holders that share one budget and one way of making keys.
#[derive(Debug)]
pub struct KvIndex {
    keys: Keys,
    seed: u64,
    budget: Arc<Budget>,
    blocks_per_holder: usize,
    adapters: RwLock<HashSet<Box<str>>>,
}

impl KvIndex {
    /// An index whose keys depend on `seed`, which should be random.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            keys: Keys::new(seed),
            seed: seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15,
            budget: Arc::new(Budget::new(limits.bytes / BYTES_PER_BLOCK)),
            blocks_per_holder: limits.blocks_per_holder.clamp(1, MAX_BLOCKS_PER_HOLDER),
            adapters: RwLock::default(),
        }
    }

    /// A holder of nothing yet.
    pub fn holder(&self) -> Holder {
        let lease = Lease::new(self.budget.clone());
        Holder::new(self.blocks_per_holder, lease, self.keys, self.seed)
    }

    /// Takes note that `name` is an adapter, because an engine's event said so.
    pub fn note_adapter(&self, name: &str) {
        if self.adapters.read().contains(name) {
            return;
        }
        let mut adapters = self.adapters.write();
        if adapters.len() < MAX_ADAPTERS {
            adapters.insert(name.into());
        }
    }

    /// The keys of a prompt for `model`, by which holders whose blocks have `block_size` tokens
    /// are asked. A model that no engine has called an adapter is the base model, under whatever
    /// name it is served.
    pub fn keys<'a>(
        &self,
        model: &str,
        tokens: &[u32],
        block_size: u32,
        extras: impl IntoIterator<Item = Extra<'a>>,
    ) -> Vec<u64> {
        let adapter = if self.adapters.read().contains(model) { model } else { "" };
        let mut keys = Vec::new();
        self.keys.extend(
            self.keys.root(adapter, block_size),
            tokens,
            block_size,
            extras,
            &mut keys,
        );
        keys
    }
}
