use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parking_lot::Mutex;

/// A small number that no other endpoint instance alive has: the place of an endpoint in tables
/// that hold something of every endpoint side by side. Free again when it is dropped.
#[derive(Debug)]
pub struct Seat(u32);

/// Seats given back, and the first that was never taken.
static SEATS: Mutex<(BinaryHeap<Reverse<u32>>, u32)> = Mutex::new((BinaryHeap::new(), 0));

impl Seat {
    /// The lowest free seat.
    pub(super) fn take() -> Self {
        let (free, next) = &mut *SEATS.lock();
        Self(match free.pop() {
            Some(Reverse(seat)) => seat,
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

impl Drop for Seat {
    fn drop(&mut self) {
        SEATS.lock().0.push(Reverse(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_that_are_taken_are_the_same() {
        let mut seats: Vec<Seat> = (0..50).map(|_| Seat::take()).collect();
        seats.drain(10..30);
        seats.extend((0..30).map(|_| Seat::take()));
        let mut numbers: Vec<usize> = seats.iter().map(Seat::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 60);
    }
}
