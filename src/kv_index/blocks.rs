use super::budget::Lease;
use super::table::{NONE, Table};
use super::{StoreOutcome, TIERS, Tier};

/// Nodes looked at for one that may be evicted.
const MAX_SEARCH: usize = 1024;
/// Blocks evicted at a time, from the end of a prefix towards its head.
const EVICTED_TOGETHER: usize = 32;
/// Blocks a memory begins with.
const FIRST_ROOM: usize = 64;

/// One block: 28 bytes. 64-bit numbers are kept in halves, or there would be four of padding.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    key: [u32; 2],
    /// What the engine calls it.
    name: [u32; 2],
    /// The block before it in the prompt; `NONE`: it is a prompt's first. In a free node, the
    /// next free one.
    parent: u32,
    /// Nodes whose parent this is.
    children: u32,
    /// How many copies the engine has announced and not taken back, tier by tier.
    copies: [u8; TIERS],
}

impl Node {
    fn key(&self) -> u64 {
        join(self.key)
    }

    fn name(&self) -> u64 {
        join(self.name)
    }

    fn is_held(&self) -> bool {
        self.copies != [0; TIERS]
    }

    /// Held, but not where it costs nothing to use.
    fn is_off_gpu(&self) -> bool {
        self.is_held() && self.copies[Tier::Gpu as usize] == 0
    }
}

fn join([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// What became of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// No copy of it is known on that tier.
    Unknown,
    /// Another copy is left, there or on another tier.
    CopyLeft,
    /// The engine does not hold the block any more.
    Gone,
}

/// The blocks that one publisher says it holds, found by key and by the engine's name.
///
/// A block that is gone while blocks behind it are held stays as a *ghost*: those behind it are of
/// no use until it is back, but they need not be announced again then. While there are no ghosts,
/// what is held of any prompt is a prefix, and its length is found by galloping and bisection;
/// while there are, it is counted block by block.
#[derive(Debug)]
pub(super) struct Blocks {
    nodes: Vec<Node>,
    /// The first free node.
    free: u32,
    /// Nodes in use.
    used: usize,
    /// Nodes that `nodes` and the tables have room for.
    room: usize,
    by_key: Table,
    by_name: Table,
    held: usize,
    ghosts: usize,
    off_gpu: usize,
    /// Where the next search for something to evict begins.
    hand: usize,
    capacity: usize,
    lease: Lease,
    /// Mixed into the engine's names, which the publisher chooses, before they are looked up.
    seed: u64,
}

impl Blocks {
    /// A memory of at most `capacity` blocks. Allocates nothing yet.
    pub(super) fn new(capacity: usize, lease: Lease, seed: u64) -> Self {
        Self {
            nodes: Vec::new(),
            free: NONE,
            used: 0,
            room: 0,
            by_key: Table::default(),
            by_name: Table::default(),
            held: 0,
            ghosts: 0,
            off_gpu: 0,
            hand: 0,
            capacity: capacity.clamp(1, NONE as usize),
            lease,
            seed,
        }
    }

    /// Blocks held.
    pub(super) fn len(&self) -> usize {
        self.held
    }

    /// Forgets everything and gives its memory back.
    pub(super) fn clear(&mut self) {
        self.nodes = Vec::new();
        self.by_key = Table::default();
        self.by_name = Table::default();
        (self.free, self.used, self.room) = (NONE, 0, 0);
        (self.held, self.ghosts, self.off_gpu, self.hand) = (0, 0, 0, 0);
        self.lease.shrink(0);
    }

    /// The key of the block that the engine calls `name`.
    pub(super) fn key_of(&self, name: u64) -> Option<u64> {
        self.find_name(name).map(|node| self.node(node).key())
    }

    /// Notes that the engine holds `keys`, each behind the one before it, under `names`. `parent`
    /// is the key of the block before the first; nothing is noted where it is not known.
    pub(super) fn store(
        &mut self,
        parent: Option<u64>,
        names: &[u64],
        keys: &[u64],
        tier: Tier,
        outcome: &mut StoreOutcome,
    ) {
        let mut above = match parent.map(|key| self.find_key(key)) {
            None => NONE,
            Some(Some(node)) => node,
            Some(None) => {
                outcome.detached += names.len();
                return;
            }
        };
        for (done, (&name, &key)) in names.iter().zip(keys).enumerate() {
            let Some(node) = self.attach(above, name, key, outcome) else {
                outcome.refused += names.len() - done;
                return;
            };
            self.add_copy(node, tier);
            above = node;
        }
    }

    /// Notes that the block which the engine calls `name` also lies on `tier`; false where it is
    /// not known.
    pub(super) fn add_tier(&mut self, name: u64, tier: Tier) -> bool {
        let Some(node) = self.find_name(name) else { return false };
        self.add_copy(node, tier);
        true
    }

    /// Takes back one copy of the block which the engine calls `name`.
    pub(super) fn remove(&mut self, name: u64, tier: Tier) -> Removal {
        let Some(number) = self.find_name(name) else { return Removal::Unknown };
        let was_off_gpu = self.node(number).is_off_gpu();
        let Some(copies) = self.nodes[number as usize].copies[tier as usize].checked_sub(1) else {
            return Removal::Unknown;
        };
        self.nodes[number as usize].copies[tier as usize] = copies;
        let node = self.node(number);
        self.count_off_gpu(was_off_gpu, node.is_off_gpu());
        if node.is_held() {
            return Removal::CopyLeft;
        }
        self.let_go(number);
        Removal::Gone
    }

    /// How many blocks of `keys` are held, counted from the first to the first that is not. It is
    /// found soonest where it is `guess`.
    pub(super) fn longest_prefix(&self, keys: &[u64], guess: usize) -> usize {
        if self.ghosts > 0 {
            return keys.iter().take_while(|&&key| self.holds(key)).count();
        }
        let guess = guess.min(keys.len());
        let (mut held, mut step, mut end) = (0, 1, keys.len());
        if guess > 0 {
            if self.holds(keys[guess - 1]) { held = guess } else { end = guess - 1 }
        }
        let missing = loop {
            if held == end {
                return held;
            }
            let probe = (held + step).min(end);
            if !self.holds(keys[probe - 1]) {
                break probe - 1;
            }
            held = probe;
            step *= 2;
        };
        held + keys[held..missing].partition_point(|&key| self.holds(key))
    }

    /// Of `keys`, all of which are held, how many lie on which tier, each counted on its first.
    pub(super) fn tiers(&self, keys: &[u64]) -> [u32; TIERS] {
        let mut tiers = [0; TIERS];
        if self.off_gpu == 0 {
            tiers[Tier::Gpu as usize] = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            return tiers;
        }
        for &key in keys {
            let copies = self.find_key(key).map(|node| self.node(node).copies).unwrap_or_default();
            if let Some(tier) = copies.iter().position(|&copies| copies > 0) {
                tiers[tier] += 1;
            }
        }
        tiers
    }

    /// How many of `keys`, from the first on, lie on `tier`, whether or not on others too.
    pub(super) fn run_on(&self, keys: &[u64], tier: Tier) -> usize {
        if self.off_gpu == 0 && tier != Tier::Gpu {
            return 0;
        }
        let lies = |&key: &u64| {
            self.find_key(key).is_some_and(|node| self.node(node).copies[tier as usize] > 0)
        };
        keys.iter().position(|key| !lies(key)).unwrap_or(keys.len())
    }

    fn holds(&self, key: u64) -> bool {
        self.find_key(key).is_some_and(|node| self.node(node).is_held())
    }

    /// The node for `key` behind `above`, made where there is none, under the name the engine uses
    /// now. None where there is no room. It is held by nothing yet, so a copy must be added.
    fn attach(
        &mut self,
        above: u32,
        name: u64,
        key: u64,
        outcome: &mut StoreOutcome,
    ) -> Option<u32> {
        if let Some(number) = self.find_key(key) {
            outcome.known += usize::from(self.node(number).is_held());
            outcome.added += usize::from(!self.node(number).is_held());
            if self.node(number).name() != name {
                self.rename(number, name, outcome);
            }
            return Some(number);
        }
        // Counted as a child before there is one, so that nothing done here frees it.
        self.count_child(above);
        if let Some(old) = self.find_name(name) {
            outcome.renamed += 1;
            self.forget_name(old);
        }
        let Some(number) = self.allocate(outcome) else {
            self.drop_child(above);
            return None;
        };
        self.nodes[number as usize] = Node {
            key: halves(key),
            name: halves(name),
            parent: above,
            children: 0,
            copies: [0; TIERS],
        };
        self.by_key.insert(key, number);
        self.by_name.insert(self.mixed(name), number);
        self.ghosts += 1;
        outcome.added += 1;
        Some(number)
    }

    /// The engine calls a block otherwise than before: it was started anew, most likely.
    fn rename(&mut self, number: u32, name: u64, outcome: &mut StoreOutcome) {
        outcome.renamed += 1;
        // Its ghost must outlive the block that had the name.
        self.nodes[number as usize].children += 1;
        if let Some(old) = self.find_name(name) {
            self.forget_name(old);
        }
        self.nodes[number as usize].children -= 1;
        self.set_name(number, name);
    }

    fn set_name(&mut self, number: u32, name: u64) {
        self.remove_name(number);
        self.nodes[number as usize].name = halves(name);
        self.by_name.insert(self.mixed(name), number);
    }

    /// The name of a block stands for another one from now on. Where it stays as a ghost, it goes
    /// by a name that is our own.
    fn forget_name(&mut self, number: u32) {
        let key = self.node(number).key();
        self.forget(number);
        if self.find_key(key) == Some(number) {
            self.set_name(number, !key);
        }
    }

    fn add_copy(&mut self, number: u32, tier: Tier) {
        let node = &mut self.nodes[number as usize];
        let (was_held, was_off_gpu) = (node.is_held(), node.is_off_gpu());
        let copies = &mut node.copies[tier as usize];
        // An engine may compute one block twice at the same time, and says so twice, and twice
        // again when it drops them. On other tiers there is one copy, announced again at times.
        *copies = if tier == Tier::Gpu { copies.saturating_add(1) } else { 1 };
        let is_off_gpu = node.is_off_gpu();
        self.held += usize::from(!was_held);
        self.ghosts -= usize::from(!was_held);
        self.count_off_gpu(was_off_gpu, is_off_gpu);
    }

    /// Drops all copies of a block, whatever the engine will say of them.
    fn forget(&mut self, number: u32) {
        let node = self.node(number);
        if node.is_held() {
            self.nodes[number as usize].copies = [0; TIERS];
            self.count_off_gpu(node.is_off_gpu(), false);
            self.let_go(number);
        }
    }

    /// The last copy of a block went.
    fn let_go(&mut self, number: u32) {
        self.held -= 1;
        self.ghosts += 1;
        self.free_ghosts(number);
    }

    /// Frees a node that is neither held nor has anything behind it, and what is before it where
    /// the same becomes true of that.
    fn free_ghosts(&mut self, mut number: u32) {
        while number != NONE {
            let node = self.node(number);
            if node.is_held() || node.children > 0 {
                break;
            }
            self.remove_name(number);
            let nodes = &self.nodes;
            let key_of = |n: u32| nodes[n as usize].key();
            self.by_key.remove(node.key(), number, key_of);
            self.nodes[number as usize] = Node { parent: self.free, ..Node::default() };
            self.free = number;
            self.used -= 1;
            self.ghosts -= 1;
            number = node.parent;
            if let Some(parent) = self.nodes.get_mut(number as usize) {
                parent.children -= 1;
            }
        }
        self.lease.shrink(self.used);
    }

    fn count_child(&mut self, above: u32) {
        if let Some(above) = self.nodes.get_mut(above as usize) {
            above.children += 1;
        }
    }

    fn drop_child(&mut self, above: u32) {
        if let Some(node) = self.nodes.get_mut(above as usize) {
            node.children -= 1;
            self.free_ghosts(above);
        }
    }

    fn count_off_gpu(&mut self, before: bool, now: bool) {
        self.off_gpu += usize::from(now);
        self.off_gpu -= usize::from(before);
    }

    fn allocate(&mut self, outcome: &mut StoreOutcome) -> Option<u32> {
        while self.used == self.capacity || !self.lease.covers(self.used + 1) {
            match self.evict() {
                0 => return None,
                evicted => outcome.evicted += evicted,
            }
        }
        self.used += 1;
        if self.free != NONE {
            let number = self.free;
            self.free = self.node(number).parent;
            return Some(number);
        }
        if self.nodes.len() == self.room {
            self.grow();
        }
        self.nodes.push(Node::default());
        u32::try_from(self.nodes.len() - 1).ok()
    }

    fn grow(&mut self) {
        self.room = (self.room + self.room / 2).max(FIRST_ROOM).min(self.capacity);
        self.nodes.reserve_exact(self.room - self.nodes.len());
        // Only called while no node is free.
        let numbers = || 0..self.nodes.len() as u32;
        self.by_key = Table::with_room(self.room, numbers().map(|n| (self.node(n).key(), n)));
        let name = |n| (self.mixed(self.node(n).name()), n);
        self.by_name = Table::with_room(self.room, numbers().map(name));
    }

    /// Drops blocks from the end of some prefix; returns how many. Which one: the next in memory
    /// that nothing is behind of, so roughly the one stored longest ago.
    fn evict(&mut self) -> usize {
        for _ in 0..self.nodes.len().min(MAX_SEARCH) {
            self.hand = if self.hand + 1 < self.nodes.len() { self.hand + 1 } else { 0 };
            let mut number = self.hand as u32;
            let mut evicted = 0;
            while evicted < EVICTED_TOGETHER
                && let Some(&node) = self.nodes.get(number as usize)
                && node.is_held()
                && node.children == 0
            {
                self.forget(number);
                evicted += 1;
                number = node.parent;
            }
            if evicted > 0 {
                return evicted;
            }
        }
        0
    }

    fn remove_name(&mut self, number: u32) {
        let hash = self.mixed(self.node(number).name());
        let (nodes, seed) = (&self.nodes, self.seed);
        let hash_of = |n: u32| mix(nodes[n as usize].name(), seed);
        self.by_name.remove(hash, number, hash_of);
    }

    fn find_key(&self, key: u64) -> Option<u32> {
        self.by_key.find(key, |number| self.node(number).key() == key)
    }

    fn find_name(&self, name: u64) -> Option<u32> {
        self.by_name.find(self.mixed(name), |number| self.node(number).name() == name)
    }

    fn node(&self, number: u32) -> Node {
        self.nodes[number as usize]
    }

    fn mixed(&self, name: u64) -> u64 {
        mix(name, self.seed)
    }
}

/// Spreads a name over 64 bits in a way that its chooser cannot foresee.
fn mix(name: u64, seed: u64) -> u64 {
    let product = u128::from(name ^ seed) * u128::from(seed | 1);
    (product as u64) ^ (product >> 64) as u64
}
