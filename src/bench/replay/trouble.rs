//! Workers that go wrong while a simulation runs, and what is lost with them.

use std::collections::BTreeMap;

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
        self.recovered_at[worker] = Some(now);
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

    /// A worker is asked: if it had been in trouble, it is back in service.
    pub(super) fn note_return(&mut self, now: Nanos, worker: usize) {
        if let Some(recovered_at) = self.recovered_at[worker].take() {
            self.counts.back_after(now.saturating_sub(recovered_at));
        }
    }
}
