use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks leased at a time: the counter that all holders share is touched that much less often.
const LEASE: usize = 256;

/// How many blocks all holders of an index may take together.
#[derive(Debug)]
pub(super) struct Budget {
    leased: AtomicUsize,
    max: usize,
}

/// One holder's part of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<Budget>,
    blocks: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self { leased: AtomicUsize::new(0), max }
    }

    fn take(&self, blocks: usize) -> bool {
        let more = |leased: usize| leased.checked_add(blocks).filter(|&sum| sum <= self.max);
        self.leased.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl Lease {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, blocks: 0 }
    }

    /// True where `blocks` are covered, after leasing more if need be.
    pub(super) fn covers(&mut self, blocks: usize) -> bool {
        if blocks <= self.blocks {
            return true;
        }
        let missing = blocks - self.blocks;
        for more in [missing.max(LEASE), missing] {
            if self.budget.take(more) {
                self.blocks += more;
                return true;
            }
        }
        false
    }

    /// Gives back what is not needed for `blocks`, where it is worth it.
    pub(super) fn shrink(&mut self, blocks: usize) {
        let spare = self.blocks.saturating_sub(blocks);
        if spare >= 2 * LEASE || (blocks == 0 && spare > 0) {
            self.blocks -= spare;
            self.budget.leased.fetch_sub(spare, Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shrink(0);
    }
}
