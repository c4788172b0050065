use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;

use super::blocks::{Blocks, Removal};
use super::budget::Lease;
use super::chain::{Extra, Keys};
use super::speculation::Speculation;
use super::{StoreOutcome, TIERS, Tier};
use crate::clock::Timestamp;

/// Blocks noted under one lock, so that those who look something up never wait long.
const WRITTEN_TOGETHER: usize = 256;

/// What one publisher of events says it holds: an engine, or one data-parallel rank of one.
///
/// One writer at a time is assumed (the publisher's stream); any number may look things up.
/// Dropped, it gives back all it took.
#[derive(Debug)]
pub struct Holder {
    blocks: RwLock<Blocks>,
    speculation: Speculation,
    keys: Keys,
    /// Tokens per block of the prompts it stored last; 0 while there is none.
    block_size: AtomicU32,
}

/// Blocks that a publisher stored.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The engine's names of the blocks, in order.
    pub names: &'a [u64],
    /// The engine's name of the block before the first; none: they begin a prompt.
    pub parent: Option<u64>,
    /// As many tokens as the blocks take, or none at all: the blocks are known already then, and
    /// lie on another tier as well.
    pub tokens: &'a [u32],
    /// Tokens per block.
    pub block_size: u32,
    /// The LoRA adapter that the blocks were computed with; empty for none.
    pub adapter: &'a str,
    pub tier: Tier,
}

/// What a holder has of a prompt, counted in blocks from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Blocks it said it holds.
    pub held: u32,
    /// Of those, how many lie where; each is counted on the first tier that has it.
    pub tiers: [u32; TIERS],
    /// Blocks from the prompt's beginning that lie in the memory of the holder's CPU.
    pub on_cpu: u32,
    /// Blocks it holds or will hold, by what was sent to it a moment ago: at least `held`.
    pub expected: u32,
}

impl Holder {
    pub(super) fn new(capacity: usize, lease: Lease, keys: Keys, seed: u64) -> Self {
        Self {
            blocks: RwLock::new(Blocks::new(capacity, lease, seed)),
            speculation: Speculation::default(),
            keys,
            block_size: AtomicU32::new(0),
        }
    }

    /// Blocks held.
    pub fn len(&self) -> usize {
        self.blocks.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens per block, as the publisher last said; `None` while it has said nothing.
    pub fn block_size(&self) -> Option<u32> {
        Some(self.block_size.load(Ordering::Relaxed)).filter(|&size| size > 0)
    }

    /// Notes that the publisher holds `run`. `extras` belong to the blocks of the run, in order.
    pub fn store<'a>(
        &self,
        run: Run<'_>,
        extras: impl IntoIterator<Item = Extra<'a>>,
    ) -> StoreOutcome {
        let mut outcome = StoreOutcome::default();
        if run.tokens.is_empty() {
            self.add_tier(run, &mut outcome);
            return outcome;
        }
        if run.block_size as usize * run.names.len() != run.tokens.len() {
            outcome.mismatched = run.names.len();
            return outcome;
        }
        let parent = match run.parent {
            None => None,
            Some(name) => {
                let Some(key) = self.blocks.read().key_of(name) else {
                    outcome.detached = run.names.len();
                    return outcome;
                };
                Some(key)
            }
        };
        let from = parent.unwrap_or_else(|| self.keys.root(run.adapter, run.block_size));
        let mut keys = Vec::new();
        self.keys.extend(from, run.tokens, run.block_size, extras, &mut keys);
        if parent.is_none() {
            self.block_size.store(run.block_size, Ordering::Relaxed);
        }
        let (mut parent, mut left) = (parent, run.names.len());
        for (names, keys) in run.names.chunks(WRITTEN_TOGETHER).zip(keys.chunks(WRITTEN_TOGETHER)) {
            self.blocks.write().store(parent, names, keys, run.tier, &mut outcome);
            left -= names.len();
            if outcome.refused + outcome.detached > 0 {
                outcome.refused += left;
                break;
            }
            parent = keys.last().copied();
        }
        outcome
    }

    fn add_tier(&self, run: Run<'_>, outcome: &mut StoreOutcome) {
        for names in run.names.chunks(WRITTEN_TOGETHER) {
            let mut blocks = self.blocks.write();
            for &name in names {
                match blocks.add_tier(name, run.tier) {
                    true => outcome.known += 1,
                    false => outcome.detached += 1,
                }
            }
        }
    }

    /// Takes back one copy of each block on `tier`. Returns how many were not known.
    pub fn remove(&self, names: &[u64], tier: Tier) -> usize {
        let mut unknown = 0;
        for names in names.chunks(WRITTEN_TOGETHER) {
            let mut blocks = self.blocks.write();
            for &name in names {
                unknown += usize::from(blocks.remove(name, tier) == Removal::Unknown);
            }
        }
        unknown
    }

    /// Forgets every block. Their size is still known: that nothing is held is something, too.
    pub fn clear(&self) {
        self.blocks.write().clear();
        self.speculation.clear();
    }

    /// Believes until `until` that a prompt with these keys will be held.
    pub fn expect(&self, keys: Arc<[u64]>, now: Timestamp, until: Timestamp) {
        self.speculation.add(keys, now, until);
    }

    /// What is held of the prompt with these keys ([`super::KvIndex::keys`]).
    pub fn matched(&self, keys: &[u64], now: Timestamp) -> Match {
        self.matched_near(keys, 0, now)
    }

    /// The same, found soonest where `guess` blocks are held: many holders have as much of a prompt
    /// as the one asked before, namely what many prompts begin with.
    pub fn matched_near(&self, keys: &[u64], guess: u32, now: Timestamp) -> Match {
        let (held, tiers, on_cpu) = {
            let blocks = self.blocks.read();
            let held = blocks.longest_prefix(keys, guess as usize);
            let keys = &keys[..held];
            (held, blocks.tiers(keys), blocks.run_on(keys, Tier::Cpu))
        };
        let expected = self.speculation.longest_prefix(keys, now).max(held);
        let count = |blocks| u32::try_from(blocks).unwrap_or(u32::MAX);
        let on_cpu = count(on_cpu);
        Match { held: count(held), tiers, on_cpu, expected: count(expected) }
    }
}
