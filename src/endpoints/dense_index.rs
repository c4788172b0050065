use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parking_lot::Mutex;

/// A small number that no other endpoint instance alive has: the place of an endpoint in tables
/// that hold something of every endpoint side by side. Free again when it is dropped.
#[derive(Debug)]
pub struct DenseIndex(u32);

/// Indices given back, and the first that was never taken.
static TAKEN: Mutex<(BinaryHeap<Reverse<u32>>, u32)> = Mutex::new((BinaryHeap::new(), 0));

impl DenseIndex {
    /// The lowest free index.
    pub(super) fn take() -> Self {
        let (free, next) = &mut *TAKEN.lock();
        Self(match free.pop() {
            Some(Reverse(index)) => index,
            None => {
                *next += 1;
                *next - 1
            }
        })
    }

    pub fn number(&self) -> usize {
        self.0 as usize
    }
}

impl Drop for DenseIndex {
    fn drop(&mut self) {
        TAKEN.lock().0.push(Reverse(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_that_are_taken_are_the_same() {
        let mut indices: Vec<DenseIndex> = (0..50).map(|_| DenseIndex::take()).collect();
        indices.drain(10..30);
        indices.extend((0..30).map(|_| DenseIndex::take()));
        let mut numbers: Vec<usize> = indices.iter().map(DenseIndex::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 60);
    }
}
