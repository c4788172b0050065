use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Row;
use crate::prefix::{Chains, HashedPrompt};
use crate::scheduling::{PrefixMatch, PrefixSource, RequestData};

/// Exchanges that may wait to be written ...
const MAX_WAITING: usize = 8192;
/// ... and blocks of their prompts, of 8 bytes each.
const MAX_BLOCKS: usize = 1 << 20;

/// The blocks of a request's prompts.
#[derive(Debug, Default)]
pub(super) enum Blocks {
    #[default]
    Unknown,
    /// A prefix producer hashed them.
    Found(RequestData),
    /// Nobody did, so the recorder had to.
    Own(HashedPrompt),
}

impl Blocks {
    pub(super) fn chains(&self) -> Chains<'_> {
        match self {
            Self::Unknown => Chains { hashes: &[], breaks: &[] },
            Self::Own(own) => Chains { hashes: &own.hashes, breaks: &own.breaks },
            Self::Found(data) => found(data).map_or(Chains { hashes: &[], breaks: &[] }, |found| {
                Chains { hashes: &found.hashes, breaks: &found.breaks }
            }),
        }
    }
}

/// What a prefix producer found that cuts prompts and hashes them, if there is one.
pub(super) fn found(data: &RequestData) -> Option<&PrefixMatch> {
    let hashed = |m: &&PrefixMatch| m.source == PrefixSource::Predicted && !m.hashes.is_empty();
    data.all::<PrefixMatch>().find(hashed)
}

/// Hashes of names that are to become numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Named {
    pub model: Option<u64>,
    pub tenant: u64,
    pub objective: Option<u64>,
    pub endpoint: Option<u64>,
}

/// An exchange that has ended, with nothing of it but numbers.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub row: Row,
    pub blocks: Blocks,
    pub named: Named,
}

#[derive(Debug, Default)]
struct Waiting {
    seen: Vec<Seen>,
    blocks: usize,
    is_closed: bool,
    /// The writer has put away everything and ended.
    is_over: bool,
}

/// Exchanges on their way to the writer. It looks every now and then, so that handing one in wakes
/// nobody.
#[derive(Debug, Default)]
pub(super) struct Batch {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    pub(super) turned_away: AtomicU64,
}

impl Batch {
    /// Hands in an exchange. False where there is no room, which is counted.
    pub(super) fn push(&self, seen: Seen) -> bool {
        let blocks = seen.blocks.chains().hashes.len();
        let mut waiting = self.waiting.lock();
        if waiting.seen.len() >= MAX_WAITING || waiting.blocks + blocks > MAX_BLOCKS {
            drop(waiting);
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        waiting.blocks += blocks;
        waiting.seen.push(seen);
        true
    }

    /// Waits for `pause`, then takes all there is in exchange for `empty`. True when no more will
    /// come.
    pub(super) fn take(&self, empty: &mut Vec<Seen>, pause: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        if !waiting.is_closed {
            self.changed.wait_for(&mut waiting, pause);
        }
        std::mem::swap(&mut waiting.seen, empty);
        waiting.blocks = 0;
        waiting.is_closed
    }

    /// Nothing more comes: the writer is to put away what there is. Waits for that, for `patience`
    /// at most.
    pub(super) fn close(&self, patience: Duration) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        self.changed.notify_all();
        while !waiting.is_over {
            if self.changed.wait_for(&mut waiting, patience).timed_out() {
                return;
            }
        }
    }

    /// The writer has ended.
    pub(super) fn over(&self) {
        self.waiting.lock().is_over = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_by_number_and_by_blocks() {
        let batch = Batch::default();
        let taken = (0..MAX_WAITING + 5).filter(|_| batch.push(Seen::default())).count();
        assert_eq!((taken, batch.turned_away.load(Ordering::Relaxed)), (MAX_WAITING, 5));
        let mut seen = Vec::new();
        assert!(!batch.take(&mut seen, Duration::ZERO));
        assert_eq!(seen.len(), MAX_WAITING);
        let long = || Seen {
            blocks: Blocks::Own(HashedPrompt {
                hashes: vec![1; MAX_BLOCKS / 4],
                ..Default::default()
            }),
            ..Seen::default()
        };
        assert_eq!((0..9).filter(|_| batch.push(long())).count(), 4);
    }
}
