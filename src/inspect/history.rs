use std::collections::VecDeque;
use std::time::Duration;

use super::tally::{EndpointTally, Tallies, Tally};
use crate::clock::Timestamp;
use crate::endpoints::Endpoint;

/// Time between two samples, and how many are kept: five minutes of them.
pub const INTERVAL: Duration = Duration::from_secs(2);
const SAMPLES: usize = 150;

/// One endpoint over one interval, and at its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub waiting: u32,
    pub running: u32,
    /// Requests that we have in flight there.
    pub in_flight: u32,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_usage: f32,
    /// What came in the interval.
    pub tally: Tally,
}

/// The last samples of one endpoint, the newest last.
#[derive(Debug, Default)]
pub(super) struct History {
    pub samples: VecDeque<Sample>,
    last: Tally,
    /// What all samples together count.
    pub sum: Tally,
}

impl History {
    fn push(&mut self, tally: Tally, sample: Sample) {
        let came = tally.since(&self.last);
        self.last = tally;
        if self.samples.len() == SAMPLES
            && let Some(oldest) = self.samples.pop_front()
        {
            self.sum = self.sum.since(&oldest.tally);
        }
        self.sum.add(&came);
        self.samples.push_back(Sample { tally: came, ..sample });
    }
}

/// Takes a sample of every endpoint.
pub fn sample(tallies: &Tallies) {
    for endpoint in &tallies.pool().snapshot().endpoints {
        if let Some(tally) = tallies.of(endpoint) {
            tally.history.lock().push(tally.load(), now(endpoint));
        }
    }
}

fn now(endpoint: &Endpoint) -> Sample {
    let signals = endpoint.signals.load();
    Sample {
        waiting: signals.waiting,
        running: signals.running,
        in_flight: u32::try_from(endpoint.in_flight.requests().max(0)).unwrap_or(u32::MAX),
        kv_usage: signals.kv_usage as f32,
        tally: Tally::default(),
    }
}

impl EndpointTally {
    /// What came lately, and over how long.
    pub fn lately(&self) -> (Tally, Duration) {
        let history = self.history.lock();
        let samples = u32::try_from(history.samples.len()).unwrap_or(u32::MAX);
        (history.sum, INTERVAL * samples)
    }
}

/// How long ago a moment is, milliseconds; `None` where it never was.
pub(super) fn ms_ago(at: Option<Timestamp>, now: Timestamp) -> Option<f64> {
    at.map(|at| now.since(at).as_secs_f64() * 1e3)
}
