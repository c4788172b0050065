/// Numbers that a table can hold are smaller than this; it stands for none.
pub(super) const NONE: u32 = 0x00ff_ffff;

const VACANT: u32 = u32::MAX;

/// Finds a node by a 64-bit hash: open addressing, four bytes per place.
///
/// A place holds the node's number in 24 bits and eight bits of its hash, so that of the nodes
/// looked at in vain, which lie anywhere in memory, all but one in 256 are not touched.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Box<[u32]>,
}

impl Table {
    /// A table with room for `room` of the nodes that `content` names, at most 7 in 10 full.
    pub(super) fn with_room(room: usize, content: impl Iterator<Item = (u64, u32)>) -> Self {
        let places = if room == 0 { 0 } else { room * 10 / 7 + 1 };
        let mut table = Self { places: vec![VACANT; places].into() };
        for (hash, node) in content {
            table.insert(hash, node);
        }
        table
    }

    /// The first node under `hash` for which `is` says yes.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut place = self.home(hash);
        loop {
            let content = *self.places.get(place)?;
            if content == VACANT {
                return None;
            }
            if content >> 24 == tag(hash) && is(content & NONE) {
                return Some(content & NONE);
            }
            place = self.after(place);
        }
    }

    /// Adds a node that is not in it. There must be room.
    pub(super) fn insert(&mut self, hash: u64, node: u32) {
        let mut place = self.home(hash);
        while let Some(content) = self.places.get_mut(place) {
            if *content == VACANT {
                *content = tag(hash) << 24 | node;
                return;
            }
            place = self.after(place);
        }
    }

    /// Takes out a node. `hash_of` tells the hash a node was added under.
    pub(super) fn remove(&mut self, hash: u64, node: u32, hash_of: impl Fn(u32) -> u64) {
        let mut gap = self.home(hash);
        loop {
            match self.places.get(gap) {
                Some(&content) if content == VACANT => return,
                Some(&content) if content & NONE == node => break,
                Some(_) => gap = self.after(gap),
                None => return,
            }
        }
        // What was pushed behind the gap moves up, where it does not move before its home.
        let mut place = gap;
        loop {
            place = self.after(place);
            let Some(&content) = self.places.get(place) else { return };
            if content == VACANT {
                break;
            }
            let home = self.home(hash_of(content & NONE));
            if self.distance(home, place) >= self.distance(gap, place) {
                self.places[gap] = content;
                gap = place;
            }
        }
        self.places[gap] = VACANT;
    }

    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.places.len() as u128) >> 64) as usize
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.places.len() { 0 } else { place + 1 }
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.places.len() - from }
    }
}

/// The bits of a hash that a place keeps. Its upper ones say where it belongs already.
fn tag(hash: u64) -> u32 {
    u32::from(hash as u8)
}
