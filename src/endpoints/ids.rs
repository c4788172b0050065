use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::StateSlot;

/// The numbers by which a pool's endpoints and its plugins' state are told apart. Each pool has
/// its own; clones hand out the same.
#[derive(Clone, Debug, Default)]
pub struct PoolIds(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    instances: AtomicU64,
    slots: AtomicUsize,
    indices: Mutex<DenseIndices>,
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
        self.0.instances.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The lowest free index.
    pub(super) fn dense_index(&self) -> DenseIndex {
        let mut indices = self.0.indices.lock();
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
    pub fn claim_slot<T: Send + Sync + 'static>(&self) -> StateSlot<T> {
        StateSlot::new(self.0.slots.fetch_add(1, Ordering::Relaxed))
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
        self.of.0.indices.lock().free.push(Reverse(self.number));
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
    fn pools_count_for_themselves() {
        let (one, other) = (PoolIds::default(), PoolIds::default());
        assert_eq!(one.dense_index().number(), other.dense_index().number());
        assert_eq!((one.instance(), one.instance(), other.instance()), (1, 2, 1));
    }
}
