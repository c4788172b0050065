use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::buckets;
use crate::flow_control::Outcome;
use crate::scheduling::{Histogram, Tally};

/// What became at the queue of requests that share their labels.
#[derive(Debug, Default)]
pub(super) struct QueueSeries {
    waiting: AtomicI64,
    bytes: AtomicI64,
    /// Time in the queue, by outcome in the order of [`Outcome::ALL`].
    queued: [OnceLock<Histogram>; Outcome::ALL.len()],
    /// Time to put a request into the queue, or to decide that it need not; the last one counts
    /// those that had to wait.
    asked: [OnceLock<Histogram>; Outcome::ALL.len() + 1],
}

/// What the reference calls an outcome that is not known yet.
const NOT_YET: &str = "NotYetFinalized";

fn place(outcome: Outcome) -> usize {
    Outcome::ALL.iter().position(|o| *o == outcome).unwrap_or_default()
}

impl QueueSeries {
    pub(super) fn asked(&self, outcome: Option<Outcome>, bytes: usize, took: Duration) {
        let slot = outcome.map_or(Outcome::ALL.len(), place);
        let asked = self.asked[slot].get_or_init(|| Histogram::seconds(buckets::SCHEDULING));
        asked.observe(took.as_secs_f64());
        match outcome {
            Some(outcome) => self.queued(outcome, Duration::ZERO),
            None => self.add(1, bytes as i64),
        }
    }

    pub(super) fn left(&self, outcome: Outcome, bytes: usize, waited: Duration) {
        self.add(-1, -(bytes as i64));
        self.queued(outcome, waited);
    }

    fn add(&self, requests: i64, bytes: i64) {
        self.waiting.fetch_add(requests, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn queued(&self, outcome: Outcome, waited: Duration) {
        let queued =
            self.queued[place(outcome)].get_or_init(|| Histogram::seconds(buckets::QUEUED));
        queued.observe(waited.as_secs_f64());
    }

    /// Requests that wait, and their bytes.
    pub(super) fn waiting(&self) -> (i64, i64) {
        (self.waiting.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Times in the queue by outcome.
    pub(super) fn queued_times(&self) -> impl Iterator<Item = (&'static str, Tally)> + '_ {
        let named = Outcome::ALL.iter().zip(&self.queued);
        named.filter_map(|(outcome, h)| Some((outcome.as_str(), h.get()?.tally())))
    }

    /// Times to be put into the queue, by what was known then.
    pub(super) fn asked_times(&self) -> impl Iterator<Item = (&'static str, Tally)> + '_ {
        let names = Outcome::ALL.iter().map(|o| o.as_str()).chain([NOT_YET]);
        names.zip(&self.asked).filter_map(|(outcome, h)| Some((outcome, h.get()?.tally())))
    }
}
