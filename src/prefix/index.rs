/// A vacant place of the table, or the end of the list.
const NONE: u32 = u32::MAX;
/// Hashes whose places are read ahead together.
const WARMED: usize = 16;
/// How often one prompt's blocks may be found somewhere else than beside the block before. Each such
/// jump costs a search, prompts that share a prefix need a few of them, and one that needs more was
/// made up to be slow: the rest of its blocks keep their place in the order of use.
const MAX_JUMPS: usize = 256;
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

/// A taken place of the table, or a vacant one.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The upper half of the entry's hash: says where the entry belongs and, nearly always,
    /// whether it is the one looked for, without a look at the entry itself, which lies somewhere
    /// else in memory. Its last bit says instead whether a chain begins with the entry ([`HEAD`]).
    tag: u32,
    /// Index of the entry; `NONE`: vacant.
    entry: u32,
}

/// The bit of a [`Place`]'s tag that marks a head.
const HEAD: u32 = 1;

const VACANT: Place = Place { tag: 0, entry: NONE };

/// The blocks one worker is believed to hold: an LRU set of chained block hashes.
///
/// A chain is recorded with its head as the newest and its tail as the oldest of its blocks, so a
/// block is never less recently used than the blocks that follow it, and the oldest block is
/// always the end of every chain it is in.
/// Hence what is held of a chain is a prefix of it at any time, and its length is found by
/// galloping and bisection instead of one probe per block.
///
/// Entries lie in one array, found through an open-addressing table half again as long: 16 + 12
/// bytes per block when full. Both grow with use up to the capacity and never shrink.
#[derive(Debug)]
pub struct BlockLru {
    entries: Vec<Entry>,
    /// A hash lies at or after its home, with no vacant place between.
    table: Vec<Place>,
    /// Entries the table has room for.
    room: usize,
    newest: u32,
    oldest: u32,
    capacity: usize,
}

impl BlockLru {
    /// A memory of at most `capacity` blocks (at least 1). Allocates nothing yet.
    pub fn new(capacity: u32) -> Self {
        let capacity = capacity.clamp(1, NONE) as usize;
        Self {
            entries: Vec::new(),
            table: Vec::new(),
            room: 0,
            newest: NONE,
            oldest: NONE,
            capacity,
        }
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
    ///
    /// Blocks that were recorded one after the other lie so in the list, so what is held of the
    /// chain is found and moved run by run: one look into the table for each run, then one
    /// comparison for each block with the one next in the list, which most likely lies next in
    /// memory too.
    ///
    /// `heads` is told when the first block of a chain comes in (true) or goes (false).
    pub fn record(&mut self, chain: &[u64], mut heads: impl FnMut(u64, bool)) {
        let chain = &chain[..chain.len().min(self.capacity)];
        let (mut done, mut warmed, mut jumps) = (0, 0, 0);
        // The block of the chain placed last; the next one goes behind it.
        let mut behind = NONE;
        while let Some(&hash) = chain.get(done) {
            match self.find(hash) {
                Some(first) => {
                    if behind != NONE && self.entries[first as usize].newer != behind {
                        jumps += 1;
                        if jumps > MAX_JUMPS {
                            break;
                        }
                        // A chain that comes back to one of its own hashes must have been made
                        // to: a block that is in its place already is left there.
                        if chain[..done].contains(&hash) {
                            done += 1;
                            continue;
                        }
                    }
                    let mut last = first;
                    done += 1;
                    while let Some(next) =
                        self.entries.get(self.entries[last as usize].older as usize)
                        && chain.get(done) == Some(&next.hash)
                    {
                        last = self.entries[last as usize].older;
                        done += 1;
                    }
                    self.move_run(first, last, behind);
                    behind = last;
                }
                None => {
                    if done >= warmed {
                        warmed = (done + WARMED).min(chain.len());
                        self.warm(&chain[done..warmed]);
                    }
                    behind = self.insert(hash, behind, &mut heads);
                    done += 1;
                }
            }
        }
        if let Some(&head) = chain.first() {
            self.mark_head(head, heads);
        }
    }

    fn mark_head(&mut self, hash: u64, mut heads: impl FnMut(u64, bool)) {
        let place = self.place(hash);
        let place = &mut self.table[place];
        if place.entry != NONE && place.tag & HEAD == 0 {
            place.tag |= HEAD;
            heads(hash, true);
        }
    }

    /// Reads the places that inserting `hashes` will look at, all at once: the loads do not
    /// depend on each other, so the waits for memory overlap, which are most of what inserting
    /// costs.
    fn warm(&self, hashes: &[u64]) {
        if self.table.is_empty() {
            return;
        }
        let mut read = 0;
        for &hash in hashes {
            read ^= self.table[self.home(tag(hash))].entry;
        }
        if self.entries.len() == self.capacity {
            let mut at = self.oldest;
            for _ in hashes {
                let Some(evicted) = self.entries.get(at as usize) else { break };
                read ^= self.table[self.home(tag(evicted.hash))].entry;
                at = evicted.newer;
            }
        }
        std::hint::black_box(read);
    }

    fn contains(&self, hash: u64) -> bool {
        self.find(hash).is_some()
    }

    /// The entry of `hash`.
    fn find(&self, hash: u64) -> Option<u32> {
        if self.table.is_empty() {
            return None;
        }
        let found = self.table[self.place(hash)].entry;
        (found != NONE).then_some(found)
    }

    /// Takes in `hash`, which is not held, behind the entry `newer` (`NONE`: as the newest). What
    /// has to go for it is never a block of the chain being recorded: that is no longer than the
    /// capacity, and its blocks are the newest.
    fn insert(&mut self, hash: u64, newer: u32, heads: &mut impl FnMut(u64, bool)) -> u32 {
        let entry = Entry { hash, newer: NONE, older: NONE };
        let at = if self.entries.len() < self.capacity {
            if self.entries.len() == self.room {
                self.grow();
            }
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            let evicted = self.oldest;
            self.unlink(evicted, evicted);
            if self.forget(evicted).tag & HEAD != 0 {
                heads(self.entries[evicted as usize].hash, false);
            }
            self.entries[evicted as usize] = entry;
            evicted
        };
        let place = self.place(hash);
        self.table[place] = Place { tag: tag(hash), entry: at };
        self.link(at, at, newer);
        at
    }

    /// Moves the entries from `first` to `last`, neighbours in the list, behind the entry `newer`
    /// (`NONE`: to the newest end).
    fn move_run(&mut self, first: u32, last: u32, newer: u32) {
        if self.entries[first as usize].newer != newer {
            self.unlink(first, last);
            self.link(first, last, newer);
        }
    }

    /// The first place that a hash with this tag may lie at. The hashes are evenly spread, so the
    /// table may have any length.
    fn home(&self, tag: u32) -> usize {
        let tag = tag & !HEAD;
        ((u64::from(tag) * self.table.len() as u64) >> 32) as usize
    }

    /// Where `hash` lies in the table, or the vacant place where it would. The table must not be
    /// empty; it always has vacant places, so the search ends.
    fn place(&self, hash: u64) -> usize {
        let tag = tag(hash);
        let mut place = self.home(tag);
        loop {
            let Place { tag: found, entry } = self.table[place];
            if entry == NONE || (found & !HEAD == tag && self.entries[entry as usize].hash == hash)
            {
                return place;
            }
            place = self.after(place);
        }
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.table.len() { 0 } else { place + 1 }
    }

    /// Takes an entry out of the table and moves up what lies behind it.
    fn forget(&mut self, entry: u32) -> Place {
        let mut hole = self.home(tag(self.entries[entry as usize].hash));
        while self.table[hole].entry != entry {
            hole = self.after(hole);
        }
        let forgotten = self.table[hole];
        let mut place = hole;
        loop {
            place = self.after(place);
            let moved = self.table[place];
            if moved.entry == NONE {
                break;
            }
            let home = self.home(moved.tag);
            // It may move to the hole unless its home lies behind the hole, on the way round.
            let stays = if hole <= place {
                hole < home && home <= place
            } else {
                hole < home || home <= place
            };
            if !stays {
                self.table[hole] = moved;
                hole = place;
            }
        }
        self.table[hole] = VACANT;
        forgotten
    }

    fn grow(&mut self) {
        self.room = (2 * self.entries.len()).max(FIRST_ROOM).min(self.capacity);
        self.entries.reserve_exact(self.room - self.entries.len());
        let smaller = std::mem::take(&mut self.table);
        self.table = vec![VACANT; self.room + self.room / 2 + 1];
        for moved in smaller.into_iter().filter(|p| p.entry != NONE) {
            let place = self.place(self.entries[moved.entry as usize].hash);
            self.table[place] = moved;
        }
    }

    /// Takes the entries from `first` to `last` out of the list.
    fn unlink(&mut self, first: u32, last: u32) {
        let (newer, older) =
            (self.entries[first as usize].newer, self.entries[last as usize].older);
        match self.entries.get_mut(newer as usize) {
            Some(e) => e.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(e) => e.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Puts the entries from `first` to `last` into the list behind the entry `newer`.
    fn link(&mut self, first: u32, last: u32, newer: u32) {
        let older = match self.entries.get_mut(newer as usize) {
            Some(e) => std::mem::replace(&mut e.older, first),
            None => std::mem::replace(&mut self.newest, first),
        };
        self.entries[first as usize].newer = newer;
        self.entries[last as usize].older = older;
        match self.entries.get_mut(older as usize) {
            Some(e) => e.newer = last,
            None => self.oldest = last,
        }
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 & !HEAD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
            recorded.iter().for_each(|c| lru.record(&chain(c), |_, _| {}));
            assert_eq!(lru.longest_prefix(&chain(asked)), held, "{capacity} {recorded:?}");
        }
    }

    #[test]
    fn memory_is_bounded_by_the_capacity() {
        let capacity = 1000;
        let mut lru = BlockLru::new(capacity);
        for i in 0..5000u64 {
            lru.record(&[xxh64(&i.to_le_bytes(), 0)], |_, _| {});
        }
        assert_eq!(lru.len(), 1000);
        assert_eq!((lru.table.len(), size_of::<Place>()), (1501, 8));
        assert!(lru.entries.capacity() < 1100, "{}", lru.entries.capacity());
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn the_head_of_a_chain_in_too_many_runs_is_told_too() {
        let mut lru = BlockLru::new(10_000);
        let blocks: Vec<u64> =
            (1..=2 * MAX_JUMPS as u64).map(|i| xxh64(&i.to_le_bytes(), 0)).collect();
        // Recorded one by one from the first to the last, so that they lie the other way round.
        blocks.iter().for_each(|&block| lru.record(&[block], |_, _| {}));
        let chain: Vec<u64> = [7].into_iter().chain(blocks).collect();
        let mut told = Vec::new();
        lru.record(&chain, |head, held| told.push((head, held)));
        assert_eq!(told, [(7, true)]);
        assert!(lru.contains(7));
    }

    #[test]
    fn a_capacity_of_zero_is_one() {
        let mut lru = BlockLru::new(0);
        lru.record(&[7, 8], |_, _| {});
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
            let (mut heads, mut ever_heads) = (BTreeSet::new(), BTreeSet::new());
            for prompt in &prompts {
                let recorded = chain(prompt);
                lru.record(&recorded, |head, held| {
                    let told = if held { heads.insert(head) } else { heads.remove(&head) };
                    assert!(told, "told twice");
                });
                model.record(&recorded);
                ever_heads.extend(recorded.first());
                let held_heads = ever_heads.iter().copied().filter(|h| model.held.contains(h));
                prop_assert_eq!(&heads, &held_heads.collect());
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

        /// Hashes can be made to repeat; nothing breaks then.
        #[test]
        fn survives_chains_that_bite_their_tail(
            capacity in 1u32..30,
            chains in proptest::collection::vec(proptest::collection::vec(0u64..20, 0..40), 1..40),
        ) {
            let mut lru = BlockLru::new(capacity);
            for chain in &chains {
                lru.record(chain, |_, _| {});
                let newest_first = lru.newest_first();
                prop_assert_eq!(newest_first.len(), lru.len());
                prop_assert!(lru.len() <= capacity as usize);
                prop_assert!(newest_first.iter().all(|&h| lru.contains(h)));
                prop_assert!(chain.first().is_none_or(|&head| newest_first[0] == head));
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
                lru.record(&[hash], |_, _| {});
                model.record(&[hash]);
                for h in (0..=30).chain(u64::MAX - 30..=u64::MAX) {
                    prop_assert_eq!(lru.contains(h), model.held.contains(&h));
                }
            }
        }
    }
}
