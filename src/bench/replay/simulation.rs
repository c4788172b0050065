//! The loop of events of one simulation.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::faults::Faults;
use super::fleet::{Fleet, Layout, Signalling};
use super::in_progress::{InProgress, Placed};
use super::outcome::{Counts, Outcome, Slo};
use super::policy::Policy;
use super::trouble::Recovery;
use super::waiting::{Parked, Woken};
use crate::bench::trace::Trace;
use crate::sim::Nanos;
use crate::sim::{EngineConfig, Event, RequestId};

/// One policy at one rate.
#[derive(Debug)]
pub(super) struct Simulation<'a> {
    pub trace: &'a Trace,
    /// How many times as often as in the trace sessions start.
    pub rate: f64,
    pub engine: EngineConfig,
    pub layout: Layout,
    pub signalling: Signalling,
    pub faults: Faults,
    pub slo: Slo,
}

/// Something due at a time. Of what is due at once, the order here is the order it happens in:
/// workers come and go before anybody asks for them, and engines that are to do something take
/// the requests of that moment along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Lose(usize),
    Return(usize),
    /// A fault, by its number, ends.
    FaultEnds(usize),
    FaultBegins(usize),
    /// A worker that flaps goes down or comes back.
    Flap(usize),
    Metrics,
    /// A request in the router's queue has waited for long enough.
    Queue,
    /// A client of a worker that hangs has waited long enough.
    GiveUp(u64),
    /// The next request of a session.
    Request {
        session: usize,
        index: usize,
    },
    /// A worker's engine has something to do.
    Engine {
        worker: usize,
        life: u32,
    },
}

/// The state of a running simulation.
pub(super) struct Run<'a> {
    pub(super) simulation: &'a Simulation<'a>,
    pub(super) policy: Policy,
    pub(super) fleet: Fleet,
    due: BinaryHeap<Reverse<(Nanos, Due)>>,
    /// When each worker's engine is next due, so that it is asked once for each time.
    pub(super) engine_due: Vec<Option<Nanos>>,
    pub(super) in_progress: Vec<HashMap<RequestId, InProgress>>,
    /// Requests that workers left hanging, by their number, with the worker.
    pub(super) hung: BTreeMap<u64, (usize, Placed)>,
    /// Requests in the router's queue, by their number.
    pub(super) parked: HashMap<u64, Parked>,
    pub(super) woken: Woken,
    /// When the queue is next looked at though nothing happens.
    pub(super) queue_due: Option<Nanos>,
    /// By worker: from the end of its fault until it is in service again.
    pub(super) recovering: Vec<Option<Recovery>>,
    /// By worker: the prompt tokens still to be computed there.
    pub(super) pending: Vec<u64>,
    pub(super) counts: Counts,
    /// Requests that have neither ended nor failed, those not yet started included.
    pub(super) left: usize,
    pub(super) number: u64,
    events: Vec<Event>,
}

impl Simulation<'_> {
    /// Runs until every request has ended. `progress` is told how many did, now and then.
    ///
    /// # Errors
    /// Where the engines cannot run with their configuration.
    pub(super) fn run(
        &self,
        policy: impl FnOnce(&Fleet) -> Result<Policy, String>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Outcome, String> {
        let fleet = Fleet::new(self.engine.clone(), self.layout, self.signalling)?;
        let workers = self.layout.workers;
        let mut run = Run {
            simulation: self,
            policy: policy(&fleet)?,
            fleet,
            due: BinaryHeap::new(),
            engine_due: vec![None; workers],
            in_progress: (0..workers).map(|_| HashMap::new()).collect(),
            hung: BTreeMap::new(),
            parked: HashMap::new(),
            woken: Woken::default(),
            queue_due: None,
            recovering: (0..workers).map(|_| None).collect(),
            pending: vec![0; workers],
            counts: Counts::new(workers, self.trace),
            left: self.trace.len(),
            number: 0,
            events: Vec::new(),
        };
        for (session, s) in self.trace.sessions.iter().enumerate() {
            if let Some(first) = s.requests.first() {
                run.at(self.starts(session) + first.earliest, Due::Request { session, index: 0 });
            }
        }
        for (i, loss) in self.faults.losses.iter().enumerate() {
            let worker = i % workers;
            run.at(loss.start, Due::Lose(worker));
            run.at(loss.start + loss.down, Due::Return(worker));
        }
        for (i, fault) in self.faults.faults.iter().enumerate() {
            run.at(fault.start, Due::FaultBegins(i));
            run.at(fault.end, Due::FaultEnds(i));
        }
        run.at(0, Due::Metrics);
        let mut reported = 0;
        let all = run.left;
        while run.left > 0 {
            // Metrics are always due, so the heap is not empty before all requests ended.
            let Some(Reverse((now, due))) = run.due.pop() else { break };
            if let Some(routing) = run.policy.routing() {
                routing.tell_time(now);
            }
            run.happen(now, due)?;
            run.wake(now);
            let ended = all - run.left;
            if ended - reported >= 256 || run.left == 0 {
                progress((ended - reported) as u64);
                reported = ended;
            }
        }
        Ok(run.counts.outcome())
    }

    /// When a session starts at this rate.
    pub(super) fn starts(&self, session: usize) -> Nanos {
        let starts = self.trace.sessions[session].starts as f64 / self.rate;
        self.faults.start(starts as Nanos)
    }
}

impl Run<'_> {
    pub(super) fn at(&mut self, when: Nanos, due: Due) {
        self.due.push(Reverse((when, due)));
    }

    fn happen(&mut self, now: Nanos, due: Due) -> Result<(), String> {
        match due {
            Due::Lose(worker) => {
                self.fleet.kill(worker)?;
                self.lose(now, worker);
                self.queue_is_due();
            }
            Due::FaultBegins(fault) => self.fault_begins(now, fault)?,
            Due::FaultEnds(fault) => self.fault_ends(now, fault),
            Due::Flap(fault) => self.flap(now, fault)?,
            Due::Queue => self.queue_is_due(),
            Due::GiveUp(number) => self.give_up(now, number),
            Due::Return(worker) => {
                self.fleet.revive(worker);
                self.queue_is_due();
            }
            Due::Metrics => {
                for worker in 0..self.fleet.workers.len() {
                    self.advance(now, worker);
                }
                let routing = self.policy.routing();
                self.fleet.refresh(now, &mut |endpoint, scrape| {
                    if let Some(routing) = routing {
                        routing.scraped(endpoint, scrape);
                    }
                });
                if let Some(routing) = routing {
                    routing.on_capacity();
                }
                self.at(now + self.simulation.signalling.interval, Due::Metrics);
            }
            Due::Request { session, index } => self.request(now, session, index),
            Due::Engine { worker, life } => {
                if self.fleet.workers[worker].life == life && self.engine_due[worker] == Some(now) {
                    self.advance(now, worker);
                }
            }
        }
        Ok(())
    }

    /// Lets a worker's engine do what is due, and takes note of what came of it.
    pub(super) fn advance(&mut self, now: Nanos, worker: usize) {
        let mut events = std::mem::take(&mut self.events);
        self.fleet.workers[worker].engine.advance(now, &mut |event| events.push(event));
        for event in events.drain(..) {
            self.event(worker, &event);
        }
        self.events = events;
        self.schedule(now, worker);
    }

    /// Has the engine called again when it has something to do.
    pub(super) fn schedule(&mut self, now: Nanos, worker: usize) {
        let state = &self.fleet.workers[worker];
        let Some(at) = state.engine.next_event_at() else {
            self.engine_due[worker] = None;
            return;
        };
        let (at, life) = (at.max(now), state.life);
        if self.engine_due[worker] != Some(at) {
            self.engine_due[worker] = Some(at);
            self.at(at, Due::Engine { worker, life });
        }
    }
}
