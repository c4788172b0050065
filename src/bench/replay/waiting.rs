//! Requests of a simulation that wait in the router's queue, and those that are ended for others.

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

use super::in_progress::Asked;
use super::pipeline::{Answer, Waiting};
use super::routed::End;
use super::simulation::{Due, Run};
use crate::sim::{Nanos, RequestSpec};

/// A request in the queue, with what is to be sent on.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) waiting: Waiting,
    pub(super) spec: RequestSpec,
    pub(super) asked: Asked,
    pub(super) waker: Waker,
}

/// Numbers of the requests that something has changed for, in the order of the changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Woken(Arc<Mutex<Vec<u64>>>);

/// Wakes one request.
struct Waken {
    number: u64,
    woken: Woken,
}

impl Wake for Waken {
    fn wake(self: Arc<Self>) {
        self.woken.push(self.number);
    }
}

impl Woken {
    pub(super) fn waker(&self, number: u64) -> Waker {
        Arc::new(Waken { number, woken: self.clone() }).into()
    }

    pub(super) fn push(&self, number: u64) {
        self.0.lock().push(number);
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Run<'_> {
    /// Lets those go on that something has changed for, and has the queue looked at when the
    /// next of those that wait has waited for long enough.
    pub(super) fn wake(&mut self, now: Nanos) {
        loop {
            let woken = self.woken.take();
            if woken.is_empty() {
                break;
            }
            for number in woken {
                match self.parked.remove(&number) {
                    Some(parked) => self.go_on(now, parked),
                    None => self.evict(now, number),
                }
            }
        }
        if self.parked.is_empty() {
            return;
        }
        let deadline = self.policy.routing().and_then(|routing| routing.deadline());
        if let Some(at) = deadline
            && self.queue_due.is_none_or(|due| at < due)
        {
            self.queue_due = Some(at);
            self.at(at.max(now + 1), Due::Queue);
        }
    }

    /// A deadline of the queue is over, if it has not moved.
    pub(super) fn queue_is_due(&mut self) {
        self.queue_due = None;
        if let Some(routing) = self.policy.routing() {
            routing.on_capacity();
        }
    }

    fn go_on(&mut self, now: Nanos, mut parked: Parked) {
        let Some(routing) = self.policy.routing() else { return };
        match routing.resume(&mut parked.waiting, &parked.waker) {
            None => drop(self.parked.insert(parked.asked.number, parked)),
            Some(answer) => {
                let Parked { spec, asked, .. } = parked;
                self.answer(now, answer, spec, asked);
            }
        }
    }

    /// Does what the policy says of a request.
    pub(super) fn answer(&mut self, now: Nanos, answer: Answer, spec: RequestSpec, asked: Asked) {
        match answer {
            Answer::Go(pick) => self.place(now, pick, spec, asked),
            Answer::Refused(kind) => self.failed(now, &asked, &kind),
            Answer::Wait(waiting) => {
                let waker = self.woken.waker(asked.number);
                self.go_on(now, Parked { waiting, spec, asked, waker });
            }
        }
    }

    /// Ends a running request if the router wants that.
    fn evict(&mut self, now: Nanos, number: u64) {
        let waker = self.woken.waker(number);
        let found = self.in_progress.iter_mut().enumerate().find_map(|(worker, requests)| {
            let (&id, request) =
                requests.iter_mut().find(|(_, r)| r.placed.asked.number == number)?;
            request.placed.held.is_evicted(&waker).then_some((worker, id))
        });
        let Some((worker, id)) = found else { return };
        if let Some(request) = self.drop_request(now, worker, id) {
            self.lost(now, request.placed, "evicted", End::Evicted);
        }
    }
}
