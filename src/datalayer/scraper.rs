//! The one thread that scrapes all workers.
//!
//! It does not wait for sockets: every few milliseconds it wakes, sends the requests that are due
//! and reads what has come in since. With a hundred workers scraped every 50 ms, ten answers are
//! read per wake-up instead of one, and an answer that took several packets to arrive is read at
//! once. That costs a fraction of what an event loop does, and a signal is late by one pause at
//! most.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::common::Common;
use super::worker::Worker;
use crate::clock::{self, Timestamp, nanos};
use crate::endpoints::Endpoint;

/// What the thread is told.
pub(super) enum Command {
    Add(Arc<Endpoint>),
    Remove(Arc<Endpoint>),
    Stop,
}

/// Runs until told to stop.
/// Every endpoint is asked for each of the pages that `commons` are of.
pub(super) fn run(commands: &Receiver<Command>, mut commons: Vec<Common>) {
    let tick = commons.iter().map(|common| common.tick).min().unwrap_or_default();
    // A tenth of the tick: late enough for a batch, early enough for the signals.
    let pause = (tick / 10).clamp(Duration::from_millis(1), Duration::from_millis(5));
    let mut workers: Vec<Worker> = Vec::new();
    let mut phases = Phases::default();
    let mut wake_at = None;
    loop {
        let mut command = match wake_at {
            // Nothing to do until there is a worker.
            None => commands.recv().map_err(RecvTimeoutError::from),
            Some(at) => commands.recv_timeout(Timestamp::since(at, clock::now())),
        };
        let now = clock::now();
        loop {
            match command {
                Ok(Command::Add(endpoint)) => {
                    for (page, common) in commons.iter().enumerate() {
                        let due = now + phases.next(common.tick);
                        workers.push(Worker::new(endpoint.clone(), page, common, due));
                    }
                }
                Ok(Command::Remove(endpoint)) => {
                    workers.retain(|w| !Arc::ptr_eq(&w.endpoint, &endpoint));
                    commons.iter().for_each(|common| common.counters.remove(&endpoint));
                }
                Err(RecvTimeoutError::Timeout) => break,
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            command = commands.recv_timeout(Duration::ZERO);
        }
        for worker in &mut workers {
            if let Some(common) = commons.get_mut(worker.page) {
                worker.step(now, common);
            }
        }
        wake_at = workers.iter().map(|w| w.next_step(now, pause)).min();
        // Wake-ups fall on multiples of the pause, so that what is due about then is done in one.
        wake_at = wake_at.map(|at: Timestamp| {
            Timestamp::from_nanos(at.as_nanos().next_multiple_of(nanos(pause)))
        });
    }
}

/// Spreads the workers' first scrapes over the tick, evenly however many there will be.
#[derive(Default)]
struct Phases(u32);

impl Phases {
    fn next(&mut self, tick: Duration) -> Duration {
        // Multiples of the golden ratio, modulo 1: each falls into the widest gap that is left.
        let phase = self.0;
        self.0 = self.0.wrapping_add(0x9E37_79B9);
        Duration::from_nanos(nanos(tick).saturating_mul(u64::from(phase)) >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_scrapes_are_spread_over_the_tick() {
        let mut phases = Phases::default();
        let tick = Duration::from_millis(50);
        let mut per_tenth = [0; 10];
        assert_eq!(phases.next(tick), Duration::ZERO, "the first worker is scraped at once");
        for _ in 0..100 {
            per_tenth[(nanos(phases.next(tick)) / 5_000_000) as usize] += 1;
        }
        assert!(per_tenth.iter().all(|n| (8..=12).contains(n)), "{per_tenth:?}");
    }
}
