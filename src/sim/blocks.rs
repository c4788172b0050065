//! The KV-cache blocks of one engine: reference counts, names and the order of eviction.
//!
//! The semantics are vLLM's (V1 block pool): a block whose last holder lets go stays findable by
//! its name until it is taken for something else; free blocks are taken in the order in which
//! they became free; a request frees its last block first, so heads of prompts live longest.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Index of a block.
pub(super) type BlockId = u32;

const NONE: BlockId = BlockId::MAX;

#[derive(Clone, Copy, Debug)]
struct Block {
    holders: u32,
    /// Neighbours in the free list; meaningful while `holders` is 0.
    prev: BlockId,
    next: BlockId,
    /// The chained hash the block is findable by.
    name: Option<u64>,
    /// The next block of the same name: two requests may have computed the same tokens.
    same_name: BlockId,
}

/// Names are hashes already; one multiplication spreads those that are not.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, name: u64) {
        let mixed = name.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[derive(Debug)]
pub(super) struct BlockCache {
    blocks: Vec<Block>,
    named: HashMap<u64, BlockId, BuildHasherDefault<NameHasher>>,
    /// Ends of the free list; the head is taken next.
    head: BlockId,
    tail: BlockId,
    free: u32,
}

impl BlockCache {
    pub(super) fn new(num_blocks: u32) -> Self {
        let mut cache = Self {
            blocks: Vec::with_capacity(num_blocks as usize),
            named: HashMap::default(),
            head: NONE,
            tail: NONE,
            free: 0,
        };
        for id in 0..num_blocks {
            cache.blocks.push(Block {
                holders: 0,
                prev: NONE,
                next: NONE,
                name: None,
                same_name: NONE,
            });
            cache.push_free(id);
        }
        cache
    }

    /// Blocks that nobody holds, cached ones among them.
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Share of the blocks that are held, 0 to 1.
    pub(super) fn usage(&self) -> f64 {
        match self.blocks.len() {
            0 => 0.0,
            all => 1.0 - f64::from(self.free) / all as f64,
        }
    }

    /// How many of `names`, from the first on, are cached.
    pub(super) fn cached_prefix(&self, names: &[u64]) -> usize {
        names.iter().take_while(|name| self.named.contains_key(name)).count()
    }

    /// Puts the blocks of the longest cached prefix of `names` into `out`, without holding them,
    /// and says how many of them are free.
    pub(super) fn find_prefix(
        &self,
        names: impl Iterator<Item = u64>,
        out: &mut Vec<BlockId>,
    ) -> u32 {
        let mut free = 0;
        for name in names {
            let Some(&id) = self.named.get(&name) else { break };
            free += u32::from(self.blocks[id as usize].holders == 0);
            out.push(id);
        }
        free
    }

    /// Holds a block, taking it off the free list where it is on it.
    pub(super) fn hold(&mut self, id: BlockId) {
        if self.blocks[id as usize].holders == 0 {
            self.unlink_free(id);
        }
        self.blocks[id as usize].holders += 1;
    }

    /// Takes the free block that has been free longest; its name is forgotten.
    pub(super) fn take(&mut self) -> Option<BlockId> {
        let id = self.head;
        if id == NONE {
            return None;
        }
        self.forget_name(id);
        self.hold(id);
        Some(id)
    }

    /// Makes a held block findable by `name`.
    pub(super) fn name(&mut self, id: BlockId, name: u64) {
        self.blocks[id as usize].name = Some(name);
        // Behind the first of the name: lookups go on finding the block they found before.
        let first = *self.named.entry(name).or_insert(id);
        if first != id {
            self.blocks[id as usize].same_name = self.blocks[first as usize].same_name;
            self.blocks[first as usize].same_name = id;
        }
    }

    /// Lets go of the blocks of one request, given in the order of its tokens.
    pub(super) fn release(&mut self, ids: &[BlockId]) {
        for &id in ids.iter().rev() {
            let block = &mut self.blocks[id as usize];
            block.holders -= 1;
            if block.holders == 0 {
                self.push_free(id);
            }
        }
    }

    /// Makes no block findable any more. False, and nothing changed, where a block is held.
    pub(super) fn forget_all(&mut self) -> bool {
        if self.free as usize != self.blocks.len() {
            return false;
        }
        self.named.clear();
        for block in &mut self.blocks {
            block.name = None;
            block.same_name = NONE;
        }
        true
    }

    fn forget_name(&mut self, id: BlockId) {
        let Some(name) = self.blocks[id as usize].name.take() else { return };
        let next = std::mem::replace(&mut self.blocks[id as usize].same_name, NONE);
        let Some(first) = self.named.get_mut(&name) else { return };
        if *first == id {
            if next == NONE {
                self.named.remove(&name);
            } else {
                *first = next;
            }
            return;
        }
        let mut before = *first;
        while before != NONE {
            let follower = self.blocks[before as usize].same_name;
            if follower == id {
                self.blocks[before as usize].same_name = next;
                return;
            }
            before = follower;
        }
    }

    fn push_free(&mut self, id: BlockId) {
        let tail = std::mem::replace(&mut self.tail, id);
        let block = &mut self.blocks[id as usize];
        (block.prev, block.next) = (tail, NONE);
        match tail {
            NONE => self.head = id,
            _ => self.blocks[tail as usize].next = id,
        }
        self.free += 1;
    }

    fn unlink_free(&mut self, id: BlockId) {
        let Block { prev, next, .. } = self.blocks[id as usize];
        match prev {
            NONE => self.head = next,
            _ => self.blocks[prev as usize].next = next,
        }
        match next {
            NONE => self.tail = prev,
            _ => self.blocks[next as usize].prev = prev,
        }
        self.free -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(cache: &mut BlockCache, names: &[u64]) -> Vec<BlockId> {
        names
            .iter()
            .map(|&name| {
                let id = cache.take().expect("a free block");
                cache.name(id, name);
                id
            })
            .collect()
    }

    #[test]
    fn freed_blocks_stay_cached_until_taken_tail_first() {
        let mut cache = BlockCache::new(4);
        let held = take(&mut cache, &[1, 2, 3, 4]);
        assert_eq!((cache.free(), cache.take()), (0, None));
        cache.release(&held);
        assert_eq!((cache.free(), cache.cached_prefix(&[1, 2, 3, 4])), (4, 4));
        take(&mut cache, &[9]);
        assert_eq!(cache.cached_prefix(&[1, 2, 3, 4]), 3);
        take(&mut cache, &[8]);
        assert_eq!(cache.cached_prefix(&[1, 2, 3, 4]), 2);
    }

    #[test]
    fn a_hit_moves_a_free_block_out_of_the_way_of_eviction() {
        let mut cache = BlockCache::new(2);
        let first = take(&mut cache, &[1]);
        cache.release(&first);
        let second = take(&mut cache, &[2]);
        cache.release(&second);
        let mut hit = Vec::new();
        assert_eq!(cache.find_prefix([1].into_iter(), &mut hit), 1);
        cache.hold(hit[0]);
        take(&mut cache, &[3]);
        assert_eq!(cache.cached_prefix(&[1]), 1, "held, so not evicted");
        assert_eq!(cache.cached_prefix(&[2]), 0, "the only free block was taken");
        assert_eq!(cache.take(), None);
    }

    #[test]
    fn a_prefix_ends_at_its_first_gap() {
        let mut cache = BlockCache::new(3);
        take(&mut cache, &[1, 3]);
        let mut out = Vec::new();
        assert_eq!(cache.find_prefix([1, 2, 3].into_iter(), &mut out), 0);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn names_are_forgotten_only_while_nobody_holds_a_block() {
        let mut cache = BlockCache::new(2);
        let held = take(&mut cache, &[1, 1]);
        assert!(!cache.forget_all());
        assert_eq!(cache.cached_prefix(&[1]), 1);
        cache.release(&held);
        assert!(cache.forget_all());
        assert_eq!((cache.cached_prefix(&[1]), cache.free()), (0, 2));
        assert_eq!(take(&mut cache, &[1, 1]).len(), 2);
    }

    #[test]
    fn blocks_of_one_name_are_found_until_the_last_is_gone() {
        let mut cache = BlockCache::new(3);
        let held = take(&mut cache, &[7, 7, 7]);
        for (i, gone) in [1, 0, 2].into_iter().enumerate() {
            assert_eq!(cache.cached_prefix(&[7]), 1, "before eviction {i}");
            cache.release(&held[gone..=gone]);
            assert_eq!(cache.take(), Some(held[gone]));
        }
        assert_eq!(cache.cached_prefix(&[7]), 0);
        assert!(cache.named.is_empty());
    }
}
