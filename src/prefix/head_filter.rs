use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::endpoints::Endpoint;

/// Rows of a page. More rows tell more heads apart.
const ROWS: usize = 1 << 14;
/// Workers of a page: their counters fill a cache line.
const COLUMNS: usize = 64;
/// Workers beyond all pages are always asked.
const PAGES: usize = 64;

#[repr(align(64))]
struct Row([AtomicU8; COLUMNS]);

type Page = Box<[Row]>;

/// Which workers may hold the first block of a prompt.
///
/// A worker that does not hold the first block holds nothing of a prompt, and most workers do not:
/// asking each of them means a lock and several waits for memory. So for every worker the first
/// blocks it holds are counted by a part of their hash, and the counters of 64 workers lie side by
/// side in one cache line. A counter of 0 is certain; any other means that the worker is to be
/// asked. 1 MiB for every 64 workers.
pub(super) struct HeadFilter {
    pages: [OnceLock<Page>; PAGES],
}

impl HeadFilter {
    pub(super) fn new() -> Self {
        Self { pages: [const { OnceLock::new() }; PAGES] }
    }

    /// False where `endpoint` certainly does not hold `head`.
    pub(super) fn may_hold(&self, endpoint: &Endpoint, head: u64) -> bool {
        let index = endpoint.index.number();
        match self.pages.get(index / COLUMNS) {
            Some(page) => page.get().is_some_and(|p| Self::load(p, head, index) > 0),
            None => true,
        }
    }

    /// The worker at this index holds `head` from now on, or no longer. Not to be called for one
    /// index by two threads at once.
    pub(super) fn set(&self, index: usize, head: u64, held: bool) {
        let Some(page) = self.pages.get(index / COLUMNS) else { return };
        let page = page.get_or_init(|| {
            (0..ROWS).map(|_| Row([const { AtomicU8::new(0) }; COLUMNS])).collect()
        });
        let count = Self::load(page, head, index);
        // A counter that ever was full says nothing any more, but never a wrong 0.
        if count < u8::MAX {
            let count = if held { count + 1 } else { count.saturating_sub(1) };
            Self::at(page, head, index).store(count, Ordering::Relaxed);
        }
    }

    /// The worker at this index holds nothing any more.
    pub(super) fn clear(&self, index: usize) {
        let Some(page) = self.pages.get(index / COLUMNS).and_then(OnceLock::get) else { return };
        page.iter().for_each(|row| row.0[index % COLUMNS].store(0, Ordering::Relaxed));
    }

    fn at(page: &Page, head: u64, index: usize) -> &AtomicU8 {
        &page[head as usize % ROWS].0[index % COLUMNS]
    }

    fn load(page: &Page, head: u64, index: usize) -> u8 {
        Self::at(page, head, index).load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::test_support::endpoint;

    #[test]
    fn what_is_held_may_be_held_and_the_rest_is_not() {
        let heads = HeadFilter::new();
        let workers: Vec<Endpoint> = (0..100).map(|n| endpoint("w", n)).collect();
        let held = |worker: usize, head: u64| heads.may_hold(&workers[worker], head);
        assert!(!held(3, 77));
        let index = workers[3].index.number();
        heads.set(index, 77, true);
        heads.set(index, 77 + ROWS as u64, true);
        assert!((0..100).all(|w| held(w, 77) == (w == 3)));
        heads.set(index, 77, false);
        assert!(held(3, 77), "the other head shares the row");
        heads.set(index, 77 + ROWS as u64, false);
        assert!(!held(3, 77));
    }

    #[test]
    fn a_full_counter_stays_until_all_is_forgotten() {
        let heads = HeadFilter::new();
        let worker = endpoint("w", 1);
        let index = worker.index.number();
        (0..300).for_each(|_| heads.set(index, 5, true));
        (0..300).for_each(|_| heads.set(index, 5, false));
        assert!(heads.may_hold(&worker, 5));
        heads.clear(index);
        assert!(!heads.may_hold(&worker, 5));
    }
}
