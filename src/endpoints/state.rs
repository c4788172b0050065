use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// A plugin's place for what it remembers of each endpoint, claimed from the pool's
/// [`super::PoolIds`].
///
/// The memory belongs to the endpoint instance: it is made on first use and freed when the last
/// holder of the endpoint lets go of it, so an endpoint that leaves is forgotten at once and one
/// that comes back starts empty. Nothing sweeps.
pub struct StateSlot<T> {
    index: usize,
    _type: PhantomData<fn() -> T>,
}

impl<T> StateSlot<T> {
    pub(super) fn new(index: usize) -> Self {
        Self { index, _type: PhantomData }
    }
}

impl<T> Clone for StateSlot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for StateSlot<T> {}

impl<T> PartialEq for StateSlot<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl<T> Eq for StateSlot<T> {}

impl<T> fmt::Debug for StateSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateSlot({})", self.index)
    }
}

/// What a plugin remembers of an endpoint.
pub trait EndpointMemory: Any + Send + Sync {
    /// Lets go of what it remembers: its plugin is gone for good. True where it is as new then, so
    /// that another plugin may go on with it.
    fn forget(&self) -> bool {
        false
    }
}

/// One plugin's memory of one endpoint, made on first use.
type Cell = OnceLock<Box<dyn EndpointMemory>>;

/// Slots of the first block; every further block has twice as many as the one before. A
/// configuration claims a handful.
const FIRST_BLOCK: usize = 8;
/// Blocks at most: room for a hundred million claims, each a plugin of a configuration loaded.
const BLOCKS: usize = 24;

/// The state that plugins keep of one endpoint instance.
pub struct StateSlots {
    blocks: [OnceLock<Box<[Cell]>>; BLOCKS],
}

impl Default for StateSlots {
    fn default() -> Self {
        Self { blocks: [const { OnceLock::new() }; BLOCKS] }
    }
}

impl fmt::Debug for StateSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateSlots")
    }
}

/// The block that a slot lies in, the block's length, and the slot's place in it.
fn place(slot: usize) -> (usize, usize, usize) {
    let from_start = slot + FIRST_BLOCK;
    let block = (from_start / FIRST_BLOCK).ilog2() as usize;
    let len = FIRST_BLOCK << block;
    (block, len, from_start - len)
}

impl StateSlots {
    /// What the slot's plugin keeps here, if anything yet.
    pub fn get<T: EndpointMemory>(&self, slot: StateSlot<T>) -> Option<&T> {
        memory(&**self.cell(slot.index)?.get()?)
    }

    fn cell(&self, slot: usize) -> Option<&Cell> {
        let (block, _, at) = place(slot);
        self.blocks.get(block)?.get()?.get(at)
    }

    /// Lets go of what is remembered in the slot of this number. True where nothing is in the
    /// way of another plugin that is given the slot.
    pub(super) fn forget(&self, slot: usize) -> bool {
        self.cell(slot).and_then(Cell::get).is_none_or(|memory| memory.forget())
    }

    /// What the slot's plugin keeps here, made by `init` on first use. `None` only where the
    /// slot was claimed from another pool and stands here for something of another type, or beyond
    /// the last block.
    pub fn get_or_init<T: EndpointMemory>(
        &self,
        slot: StateSlot<T>,
        init: impl FnOnce() -> T,
    ) -> Option<&T> {
        let (block, len, at) = place(slot.index);
        let cells = self.blocks.get(block)?;
        let cells = cells.get_or_init(|| (0..len).map(|_| OnceLock::new()).collect());
        memory(&**cells.get(at)?.get_or_init(|| Box::new(init())))
    }
}

fn memory<T: EndpointMemory>(memory: &dyn EndpointMemory) -> Option<&T> {
    (memory as &dyn Any).downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::super::PoolIds;
    use super::*;

    impl EndpointMemory for u8 {}
    impl EndpointMemory for u64 {}
    impl EndpointMemory for usize {}

    #[test]
    fn every_slot_has_a_place_of_its_own() {
        let places: Vec<_> = (0..9).chain([22, 23, 24, 55, 56]).map(place).collect();
        let first = (0..8).map(|at| (0, 8, at));
        let expected: Vec<_> = first
            .chain([(1, 16, 0), (1, 16, 14), (1, 16, 15), (2, 32, 0), (2, 32, 31), (3, 64, 0)])
            .collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn hundreds_of_plugins_share_nothing() {
        let (ids, state) = (PoolIds::default(), StateSlots::default());
        let slots: Vec<StateSlot<usize>> = (0..300).map(|_| ids.claim_slot()).collect();
        for (n, &slot) in slots.iter().enumerate() {
            assert_eq!(state.get(slot), None);
            assert_eq!(state.get_or_init(slot, || n), Some(&n));
        }
        assert!(slots.iter().enumerate().all(|(n, &slot)| state.get(slot) == Some(&n)));
    }

    #[test]
    fn a_slot_of_another_pool_is_not_mistaken() {
        let state = StateSlots::default();
        state.get_or_init(PoolIds::default().claim_slot(), || 1u8);
        assert_eq!(state.get_or_init(PoolIds::default().claim_slot(), || 1u64), None);
    }
}
