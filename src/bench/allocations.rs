//! How much a thread allocates.
#![allow(unsafe_code, reason = "an allocator can be written in no other way")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Sub;

/// The system's allocator, counting by thread. A program that wants counts names it as its
/// `#[global_allocator]`; without that, all counts are 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

thread_local! {
    static COUNTS: Cell<Allocations> = const { Cell::new(Allocations { calls: 0, bytes: 0 }) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

/// Allocations of one thread since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Including those that make an allocation larger.
    pub calls: u64,
    pub bytes: u64,
}

impl Sub for Allocations {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { calls: self.calls - before.calls, bytes: self.bytes - before.bytes }
    }
}

/// Allocations of the current thread.
pub fn of_thread() -> Allocations {
    COUNTS.get()
}

/// Bytes that the current thread allocated less those it gave back, since it began. Below 0 where
/// it frees what others allocated.
pub fn live_bytes() -> i64 {
    LIVE.get()
}

/// Notes that `taken` bytes were allocated where `given_back` were before.
fn count_live(taken: usize, given_back: usize) {
    let _ = LIVE.try_with(|live| live.set(live.get() + taken as i64 - given_back as i64));
}

fn count(bytes: usize) {
    // A thread that is ending may still allocate, with nothing left to count in.
    let _ = COUNTS.try_with(|counts| {
        let Allocations { calls, bytes: sum } = counts.get();
        counts.set(Allocations { calls: calls + 1, bytes: sum + bytes as u64 });
    });
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        count_live(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        count_live(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        count_live(new_size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count_live(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}
