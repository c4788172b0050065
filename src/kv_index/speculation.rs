use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Prompts kept of one holder at most; the oldest go first.
const MAX_PROMPTS: usize = 1024;

/// What a holder will hold soon, because a request was sent there a moment ago.
///
/// Each prompt's chain is kept whole, shared with whoever else was told of it. What two chains
/// have in common is a prefix, so its length is found by bisection.
#[derive(Debug, Default)]
pub(super) struct Speculation {
    prompts: Mutex<VecDeque<(Timestamp, Arc<[u64]>)>>,
    /// How many prompts there are: most holders have none, and need no lock to say so.
    len: AtomicUsize,
}

impl Speculation {
    /// Believes in `keys` until `until`.
    pub(super) fn add(&self, keys: Arc<[u64]>, now: Timestamp, until: Timestamp) {
        let mut prompts = self.prompts.lock();
        prompts.retain(|&(until, _)| until > now);
        if prompts.len() == MAX_PROMPTS {
            prompts.pop_front();
        }
        prompts.push_back((until, keys));
        self.len.store(prompts.len(), Ordering::Release);
    }

    /// How many of `keys`, from the first, some prompt has.
    pub(super) fn longest_prefix(&self, keys: &[u64], now: Timestamp) -> usize {
        if self.len.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let prompts = self.prompts.lock();
        let live = prompts.iter().filter(|&&(until, _)| until > now);
        live.map(|(_, prompt)| in_common(prompt, keys)).max().unwrap_or(0)
    }

    pub(super) fn clear(&self) {
        let mut prompts = self.prompts.lock();
        prompts.clear();
        self.len.store(0, Ordering::Release);
    }
}

/// Chained keys agree up to some place and nowhere behind it.
fn in_common(a: &[u64], b: &[u64]) -> usize {
    let len = a.len().min(b.len());
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if a[middle] == b[middle] { low = middle + 1 } else { high = middle }
    }
    low
}
