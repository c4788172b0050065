//! Workers that go wrong while a simulation runs, and what is lost with them.

use std::collections::{BTreeMap, VecDeque};

use super::faults::{Fault, FaultKind};
use super::simulation::{Due, Run};
use crate::sim::Nanos;

impl Run<'_> {
    /// The fault of this number and the worker it strikes.
    fn fault(&self, number: usize) -> Option<(Fault, usize)> {
        let fault = self.simulation.faults.faults.get(number)?;
        Some((*fault, number % self.simulation.layout.workers))
    }

    /// # Errors
    /// Where the engines cannot run with their configuration.
    pub(super) fn fault_begins(&mut self, now: Nanos, number: usize) -> Result<(), String> {
        let Some((fault, worker)) = self.fault(number) else { return Ok(()) };
        match fault.kind {
            FaultKind::Dies => self.crash(now, worker)?,
            FaultKind::Flaps(_) => self.flap(now, number)?,
            FaultKind::Fails(n) => self.fleet.workers[worker].trouble.fails_one_in = Some(n),
            FaultKind::Slow(factor) => self.set_pace(now, worker, factor),
            FaultKind::Hangs => self.fleet.workers[worker].trouble.hangs = true,
            FaultKind::Metrics(metrics) => self.fleet.mislead(worker, Some(metrics), now),
        }
        Ok(())
    }

    pub(super) fn fault_ends(&mut self, now: Nanos, number: usize) {
        let Some((fault, worker)) = self.fault(number) else { return };
        let trouble = &mut self.fleet.workers[worker].trouble;
        match fault.kind {
            FaultKind::Dies | FaultKind::Flaps(_) => trouble.down = false,
            FaultKind::Fails(_) => trouble.fails_one_in = None,
            FaultKind::Slow(_) => self.set_pace(now, worker, 1.0),
            FaultKind::Hangs => trouble.hangs = false,
            FaultKind::Metrics(_) => self.fleet.mislead(worker, None, now),
        }
        self.recovering[worker] = Some(Recovery::new(now));
    }

    /// A worker that flaps goes down, or comes back where it is down.
    ///
    /// # Errors
    /// Where the engines cannot run with their configuration.
    pub(super) fn flap(&mut self, now: Nanos, number: usize) -> Result<(), String> {
        let Some((fault, worker)) = self.fault(number) else { return Ok(()) };
        let FaultKind::Flaps(period) = fault.kind else { return Ok(()) };
        if now >= fault.end {
            return Ok(());
        }
        if self.fleet.workers[worker].trouble.down {
            self.fleet.workers[worker].trouble.down = false;
        } else {
            self.crash(now, worker)?;
        }
        self.at(now.saturating_add(period), Due::Flap(number));
        Ok(())
    }

    fn crash(&mut self, now: Nanos, worker: usize) -> Result<(), String> {
        self.fleet.crash(worker)?;
        self.lose(now, worker);
        Ok(())
    }

    fn set_pace(&mut self, now: Nanos, worker: usize, pace: f64) {
        self.advance(now, worker);
        self.fleet.workers[worker].engine.set_pace(pace);
        self.schedule(now, worker);
    }

    /// All that a worker held is lost; its engine is another one already.
    pub(super) fn lose(&mut self, now: Nanos, worker: usize) {
        self.engine_due[worker] = None;
        self.pending[worker] = 0;
        let lost = std::mem::take(&mut self.in_progress[worker]);
        // In order, since a hash map's differs from run to run.
        let lost: BTreeMap<_, _> = lost.into_iter().collect();
        for request in lost.into_values() {
            self.lost_with_worker(now, request);
        }
        for (elsewhere, id) in self.computed_for(worker) {
            self.orphaned(now, elsewhere, id);
        }
    }

    /// A worker is asked, which tells of those that come back how far they have come.
    pub(super) fn note_pick(&mut self, now: Nanos, worker: usize) {
        let workers = self.recovering.len();
        for (i, recovering) in self.recovering.iter_mut().enumerate() {
            let back = recovering.as_mut().and_then(|r| r.picked(now, i == worker, workers));
            if let Some(after) = back {
                *recovering = None;
                self.counts.back_after(after);
            }
        }
    }
}

/// A worker whose fault is over, until it is in service again: until it is asked, through a second
/// on end, at least half as often as if all were asked alike.
#[derive(Debug)]
pub(super) struct Recovery {
    since: Nanos,
    /// Who was asked when in the last second: it, or another.
    picks: VecDeque<(Nanos, bool)>,
    own: usize,
}

const WINDOW: Nanos = 1_000_000_000;

impl Recovery {
    fn new(since: Nanos) -> Self {
        Self { since, picks: VecDeque::new(), own: 0 }
    }

    /// Somebody is asked; how long after its fault the worker was in service, once it is.
    fn picked(&mut self, now: Nanos, own: bool, workers: usize) -> Option<Nanos> {
        let begin = now.saturating_sub(WINDOW);
        let watched = now.saturating_sub(self.since) >= WINDOW;
        if watched && self.own * 2 * workers >= self.picks.len() && self.own > 0 {
            return Some(begin - self.since);
        }
        while self.picks.front().is_some_and(|(at, _)| *at < begin) {
            self.own -= usize::from(self.picks.pop_front().is_some_and(|(_, own)| own));
        }
        self.picks.push_back((now, own));
        self.own += usize::from(own);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked every 10 ms, of four workers this one every so many times from a moment on.
    #[test]
    fn a_worker_is_back_when_it_has_half_its_share_for_a_second() {
        for (one_in, from_ms, back_ms) in
            [(4, 0, Some(0)), (8, 0, Some(0)), (4, 3000, Some(2500)), (9, 0, None), (1000, 0, None)]
        {
            let mut recovery = Recovery::new(0);
            let back = (0..1000u64).find_map(|n| {
                let own = n * 10 >= from_ms && n.is_multiple_of(one_in);
                recovery.picked(n * 10_000_000, own, 4)
            });
            let close = |(a, b): (u64, u64)| a.abs_diff(b) <= 100;
            let back = back.map(|at| at / 1_000_000);
            assert_eq!(back.is_some(), back_ms.is_some(), "one in {one_in}: {back:?}");
            assert!(back.zip(back_ms).is_none_or(close), "one in {one_in}: {back:?}");
        }
    }
}
