/// A vacant place of the table, or the end of the list.
const NONE: u32 = u32::MAX;
/// Blocks a worker's memory begins with.
const FIRST_ROOM: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    /// The entry used next after this one.
    newer: u32,
    /// The entry used last before this one.
    older: u32,
}

/// The blocks one worker is believed to hold: an LRU set of chained block hashes.
///
/// A chain is recorded from its tail to its head, so a block is never less recently used than
/// the blocks that follow it, and the oldest block is always the end of every chain it is in.
/// Hence what is held of a chain is a prefix of it at any time, and its length is found by
/// galloping and bisection instead of one probe per block.
///
/// Entries lie in one array, found through an open-addressing table of `u32` twice as long: 16 +
/// 8 bytes per block when full. Both grow with use up to the capacity and never shrink.
#[derive(Debug)]
pub struct BlockLru {
    entries: Vec<Entry>,
    /// Indices of `entries`; a hash lies at or after its home, with no vacant place between.
    table: Vec<u32>,
    newest: u32,
    oldest: u32,
    capacity: usize,
}

impl BlockLru {
    /// A memory of at most `capacity` blocks (at least 1). Allocates nothing yet.
    pub fn new(capacity: u32) -> Self {
        let capacity = capacity.clamp(1, NONE) as usize;
        Self { entries: Vec::new(), table: Vec::new(), newest: NONE, oldest: NONE, capacity }
    }

    /// Blocks held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many blocks of `chain` are held, counted from its head. Does not count as use.
    pub fn longest_prefix(&self, chain: &[u64]) -> usize {
        let (mut held, mut step) = (0, 1);
        let missing = loop {
            if held == chain.len() {
                return held;
            }
            let probe = (held + step).min(chain.len());
            if !self.contains(chain[probe - 1]) {
                break probe - 1;
            }
            held = probe;
            step *= 2;
        };
        held + chain[held..missing].partition_point(|&hash| self.contains(hash))
    }

    /// Makes the blocks of `chain` the most recently used, its head most of all. Of a chain
    /// longer than the capacity the head is kept.
    pub fn record(&mut self, chain: &[u64]) {
        for &hash in chain[..chain.len().min(self.capacity)].iter().rev() {
            self.touch(hash);
        }
    }

    fn contains(&self, hash: u64) -> bool {
        !self.table.is_empty() && self.table[self.place(hash)] != NONE
    }

    fn touch(&mut self, hash: u64) {
        if !self.table.is_empty() {
            let found = self.table[self.place(hash)];
            if found != NONE {
                self.unlink(found);
                self.link_newest(found);
                return;
            }
        }
        let entry = Entry { hash, newer: NONE, older: NONE };
        let at = if self.entries.len() < self.capacity {
            if self.entries.len() == self.table.len() / 2 {
                self.grow();
            }
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            let evicted = self.oldest;
            self.unlink(evicted);
            self.forget(self.entries[evicted as usize].hash);
            self.entries[evicted as usize] = entry;
            evicted
        };
        let place = self.place(hash);
        self.table[place] = at;
        self.link_newest(at);
    }

    /// The first place that a hash may lie at. The hashes are evenly spread over all 64 bits, so
    /// the table may have any length.
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.table.len() as u128) >> 64) as usize
    }

    /// Where `hash` lies in the table, or the vacant place where it would. The table must not be
    /// empty; at most half of it is taken, so the search ends.
    fn place(&self, hash: u64) -> usize {
        let mut place = self.home(hash);
        while self.table[place] != NONE && self.entries[self.table[place] as usize].hash != hash {
            place = self.after(place);
        }
        place
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.table.len() { 0 } else { place + 1 }
    }

    /// Takes `hash`, which is held, out of the table and moves up what lies behind it.
    fn forget(&mut self, hash: u64) {
        let mut hole = self.place(hash);
        let mut place = hole;
        loop {
            place = self.after(place);
            let Some(entry) = self.entries.get(self.table[place] as usize) else { break };
            let home = self.home(entry.hash);
            // It may move to the hole unless its home lies behind the hole, on the way round.
            let stays = if hole <= place {
                hole < home && home <= place
            } else {
                hole < home || home <= place
            };
            if !stays {
                self.table[hole] = self.table[place];
                hole = place;
            }
        }
        self.table[hole] = NONE;
    }

    fn grow(&mut self) {
        let room = (2 * self.entries.len()).max(FIRST_ROOM).min(self.capacity);
        self.entries.reserve_exact(room - self.entries.len());
        self.table = vec![NONE; 2 * room];
        for at in 0..self.entries.len() {
            let place = self.place(self.entries[at].hash);
            self.table[place] = at as u32;
        }
    }

    fn unlink(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let older = std::mem::replace(&mut self.newest, at);
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = at,
            None => self.oldest = at,
        }
        let entry = &mut self.entries[at as usize];
        entry.newer = NONE;
        entry.older = older;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh64::xxh64;

    use super::*;

    /// What [`BlockLru`] promises, said plainly: a list, the most recently used first.
    struct Model {
        held: Vec<u64>,
        capacity: usize,
    }

    impl Model {
        fn record(&mut self, chain: &[u64]) {
            for &hash in chain[..chain.len().min(self.capacity)].iter().rev() {
                self.held.retain(|&h| h != hash);
                self.held.insert(0, hash);
                self.held.truncate(self.capacity);
            }
        }

        fn longest_prefix(&self, chain: &[u64]) -> usize {
            chain.iter().take_while(|h| self.held.contains(h)).count()
        }
    }

    impl BlockLru {
        fn newest_first(&self) -> Vec<u64> {
            let mut out = Vec::new();
            let mut at = self.newest;
            while at != NONE {
                out.push(self.entries[at as usize].hash);
                at = self.entries[at as usize].older;
            }
            out
        }
    }

    /// The hash chain of a prompt of blocks.
    fn chain(blocks: &[u8]) -> Vec<u64> {
        let mut previous = 0;
        blocks
            .iter()
            .map(|&b| {
                previous = xxh64(&[b], previous);
                previous
            })
            .collect()
    }

    #[test]
    fn what_is_held_of_a_chain() {
        // (capacity, chains recorded, chain asked, blocks held)
        type Case = (u32, &'static [&'static [u8]], &'static [u8], usize);
        let cases: [Case; 8] = [
            (10, &[], b"abc", 0),
            (10, &[b"abc"], b"", 0),
            (10, &[b"abc"], b"abc", 3),
            (10, &[b"abc"], b"abcdef", 3),
            (10, &[b"abcdef"], b"abx", 2),
            (10, &[b"abc"], b"bc", 0),
            // The tail of the older chain makes room, the common head stays.
            (4, &[b"abc", b"abxy"], b"abc", 2),
            // A chain beyond the capacity keeps its head.
            (3, &[b"abcdef"], b"abcdef", 3),
        ];
        for (capacity, recorded, asked, held) in cases {
            let mut lru = BlockLru::new(capacity);
            recorded.iter().for_each(|c| lru.record(&chain(c)));
            assert_eq!(lru.longest_prefix(&chain(asked)), held, "{capacity} {recorded:?}");
        }
    }

    #[test]
    fn memory_is_bounded_by_the_capacity() {
        let capacity = 1000;
        let mut lru = BlockLru::new(capacity);
        for i in 0..5000u64 {
            lru.record(&[xxh64(&i.to_le_bytes(), 0)]);
        }
        assert_eq!(lru.len(), 1000);
        assert_eq!(lru.table.len(), 2000);
        assert!(lru.entries.capacity() < 1100, "{}", lru.entries.capacity());
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn a_capacity_of_zero_is_one() {
        let mut lru = BlockLru::new(0);
        lru.record(&[7, 8]);
        assert_eq!((lru.len(), lru.longest_prefix(&[7, 8])), (1, 1));
    }

    proptest! {
        #[test]
        fn agrees_with_the_model(
            capacity in 1u32..200,
            prompts in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..24), 1..60),
        ) {
            let mut lru = BlockLru::new(capacity);
            let mut model = Model { held: Vec::new(), capacity: capacity as usize };
            for prompt in &prompts {
                let recorded = chain(prompt);
                lru.record(&recorded);
                model.record(&recorded);
                prop_assert_eq!(lru.newest_first(), model.held.clone());
                for asked in &prompts {
                    let asked = chain(asked);
                    prop_assert_eq!(lru.longest_prefix(&asked), model.longest_prefix(&asked));
                    // What is held is a prefix: nothing beyond it.
                    let held = asked.iter().filter(|&&h| lru.contains(h)).count();
                    prop_assert_eq!(held, model.longest_prefix(&asked));
                }
            }
        }

        /// Hashes crowded at the ends of the 64 bits share their homes, so that places are
        /// shifted back and around the table's end.
        #[test]
        fn finds_all_and_only_what_it_holds(
            capacity in 1u32..40,
            hashes in proptest::collection::vec(prop_oneof![0u64..30, u64::MAX - 30..=u64::MAX], 1..300),
        ) {
            let mut lru = BlockLru::new(capacity);
            let mut model = Model { held: Vec::new(), capacity: capacity as usize };
            for &hash in &hashes {
                lru.record(&[hash]);
                model.record(&[hash]);
                for h in (0..=30).chain(u64::MAX - 30..=u64::MAX) {
                    prop_assert_eq!(lru.contains(h), model.held.contains(&h));
                }
            }
        }
    }
}
