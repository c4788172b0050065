//! What requests have used, told until it is heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::client::{Store, Trouble};
use crate::quota::{Backlog, SharedSettle};

/// What waits to be told at most; a few hundred bytes each.
const MAX_WAITING: usize = 100_000;
/// What is told at one time.
const TOGETHER: usize = 256;
/// How long to leave a server alone that did not listen.
const PAUSE: Duration = Duration::from_millis(200);

/// Settlements on their way to the server.
#[derive(Debug)]
pub(super) struct Settlements {
    queue: mpsc::Sender<SharedSettle>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicU64,
    given_up: AtomicU64,
}

impl Settlements {
    /// Tells `store`, until what is returned is dropped and everything has been told.
    pub(super) fn start(store: Arc<Store>) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let counts = Arc::new(Counts::default());
        tokio::spawn(tell(store, waiting, counts.clone()));
        Self { queue, counts }
    }

    pub(super) fn add(&self, settle: SharedSettle) {
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(settle).is_err() {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            if self.counts.given_up.fetch_add(1, Ordering::Relaxed) == 0 {
                // Once: the metric says how often.
                tracing::warn!(
                    waiting = MAX_WAITING,
                    "Redis has been away for so long that what requests used is given up"
                );
            }
        }
    }

    pub(super) fn backlog(&self) -> Backlog {
        Backlog {
            waiting: self.counts.waiting.load(Ordering::Relaxed),
            given_up: self.counts.given_up.load(Ordering::Relaxed),
        }
    }
}

async fn tell(store: Arc<Store>, mut queue: mpsc::Receiver<SharedSettle>, counts: Arc<Counts>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, TOGETHER).await > 0 {
        let mut away = false;
        while !batch.is_empty() {
            let heard = join_all(batch.iter().map(|settle| store.settle(settle))).await;
            let before = batch.len();
            let refused = heard.iter().filter(|heard| **heard == Err(Trouble::Refused)).count();
            counts.given_up.fetch_add(refused as u64, Ordering::Relaxed);
            let mut heard = heard.into_iter();
            batch.retain(|_| heard.next() == Some(Err(Trouble::Away)));
            let told = before - batch.len();
            counts.waiting.fetch_sub(told as u64, Ordering::Relaxed);
            if batch.is_empty() {
                break;
            }
            if !away {
                away = true;
                tracing::warn!("Redis does not listen: what requests used is told later");
            }
            sleep(PAUSE).await;
        }
        if away {
            tracing::info!("Redis listens again");
        }
    }
}
