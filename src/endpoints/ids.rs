use std::any::TypeId;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{EndpointMemory, StateSlot};

/// The numbers by which a pool's endpoints and its plugins' state are told apart. Each pool has
/// its own; clones hand out the same.
#[derive(Clone, Debug, Default)]
pub struct PoolIds {
    numbers: Arc<Numbers>,
    /// Where the slots are noted that are claimed here.
    claimed: Option<SlotClaims>,
}

#[derive(Debug, Default)]
struct Numbers {
    instances: AtomicU64,
    slots: Mutex<Slots>,
    indices: Mutex<DenseIndices>,
}

/// Slots given back, by the type of what they are for, and the first that was never claimed.
#[derive(Debug, Default)]
struct Slots {
    free: HashMap<TypeId, Vec<usize>>,
    next: usize,
}

/// The slots that one plugin claimed, to be given back when it is gone: a process that loads
/// configurations again and again would use up ever more of them.
#[derive(Clone, Debug, Default)]
pub struct SlotClaims(Arc<Mutex<Vec<Claim>>>);

#[derive(Clone, Copy, Debug)]
struct Claim {
    slot: usize,
    of: TypeId,
}

impl SlotClaims {
    /// Slots that are still to be given back.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// True where there is nothing to give back.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True where both are the note of one and the same plugin.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Keeps those of which `is_as_new` says that nothing is left of them; the others will never
    /// be used again.
    pub(super) fn keep_if(&self, mut is_as_new: impl FnMut(usize) -> bool) {
        self.0.lock().retain(|claim| is_as_new(claim.slot));
    }
}

/// Indices given back, and the first that was never taken.
#[derive(Debug, Default)]
struct DenseIndices {
    free: BinaryHeap<Reverse<u32>>,
    next: u32,
}

impl PoolIds {
    /// A number that no other endpoint of the pool ever has, above 0.
    pub(super) fn instance(&self) -> u64 {
        self.numbers.instances.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The lowest free index.
    pub(super) fn dense_index(&self) -> DenseIndex {
        let mut indices = self.numbers.indices.lock();
        let number = match indices.free.pop() {
            Some(Reverse(index)) => index,
            None => {
                indices.next += 1;
                indices.next - 1
            }
        };
        DenseIndex { number, of: self.clone() }
    }

    /// Claims a place in every endpoint of the pool for what a plugin remembers of it; called
    /// once per plugin instance, when the configuration is loaded.
    pub fn claim_slot<T: EndpointMemory>(&self) -> StateSlot<T> {
        let of = TypeId::of::<T>();
        let mut slots = self.numbers.slots.lock();
        let slot = slots.free.get_mut(&of).and_then(Vec::pop).unwrap_or_else(|| {
            slots.next += 1;
            slots.next - 1
        });
        if let Some(SlotClaims(claims)) = &self.claimed {
            claims.lock().push(Claim { slot, of });
        }
        StateSlot::new(slot)
    }

    /// The same numbers, with a note of the slots that are claimed of them from now on.
    pub fn noting(&self) -> (Self, SlotClaims) {
        let claims = SlotClaims::default();
        (Self { numbers: self.numbers.clone(), claimed: Some(claims.clone()) }, claims)
    }

    /// Gives back slots that no plugin has a use for any more, and that hold nothing in any
    /// endpoint: they were never used, or [`super::Pool::forget`] was called.
    pub fn give_back(&self, claims: &SlotClaims) {
        let mut slots = self.numbers.slots.lock();
        for Claim { slot, of } in claims.0.lock().drain(..) {
            slots.free.entry(of).or_default().push(slot);
        }
    }
}

/// A small number that no other endpoint instance of the pool alive has: the place of an endpoint
/// in tables that hold something of every endpoint side by side. Free again when it is dropped.
#[derive(Debug)]
pub struct DenseIndex {
    number: u32,
    of: PoolIds,
}

impl DenseIndex {
    pub fn number(&self) -> usize {
        self.number as usize
    }
}

impl Drop for DenseIndex {
    fn drop(&mut self) {
        self.of.numbers.indices.lock().free.push(Reverse(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_that_are_taken_are_the_same() {
        let ids = PoolIds::default();
        let mut indices: Vec<DenseIndex> = (0..50).map(|_| ids.dense_index()).collect();
        indices.drain(10..30);
        indices.extend((0..30).map(|_| ids.dense_index()));
        let mut numbers: Vec<usize> = indices.iter().map(DenseIndex::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!((numbers.len(), numbers[59]), (60, 59));
    }

    #[test]
    fn a_slot_given_back_is_claimed_again_for_the_same_type_alone() {
        struct A;
        struct B;
        impl EndpointMemory for A {}
        impl EndpointMemory for B {}
        let ids = PoolIds::default();
        let kept = ids.claim_slot::<A>();
        let (noting, claims) = ids.noting();
        let (first, second) = (noting.claim_slot::<A>(), noting.claim_slot::<B>());
        assert_eq!(claims.len(), 2);
        ids.give_back(&claims);
        ids.give_back(&claims);
        assert!(claims.is_empty(), "once is enough");
        assert_eq!((ids.claim_slot::<B>(), ids.claim_slot::<A>()), (second, first));
        assert_ne!(ids.claim_slot::<A>(), first);
        assert_ne!(kept, first);
    }

    #[test]
    fn pools_count_for_themselves() {
        let (one, other) = (PoolIds::default(), PoolIds::default());
        assert_eq!(one.dense_index().number(), other.dense_index().number());
        assert_eq!((one.instance(), one.instance(), other.instance()), (1, 2, 1));
    }
}
