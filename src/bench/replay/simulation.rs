//! The loop of events of one simulation.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use super::faults::Faults;
use super::fleet::{Fleet, Signalling};
use super::outcome::{Counts, Finished, Outcome, Slo};
use super::policy::{Ask, Held, Policy};
use crate::bench::trace::Trace;
use crate::sim::Nanos;
use crate::sim::{EngineConfig, Event, EventKind, Prompt, RequestId, RequestSpec};

/// One policy at one rate.
#[derive(Debug)]
pub struct Simulation<'a> {
    pub trace: &'a Trace,
    /// How many times as often as in the trace sessions start.
    pub rate: f64,
    pub engine: EngineConfig,
    pub workers: usize,
    pub signalling: Signalling,
    pub faults: Faults,
    pub slo: Slo,
}

/// Something due at a time. Of what is due at once, the order here is the order it happens in:
/// workers come and go before anybody asks for them, and engines that are to do something take
/// the requests of that moment along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Lose(usize),
    Return(usize),
    Metrics,
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

/// A request that a worker holds.
#[derive(Debug)]
struct InProgress {
    session: usize,
    index: usize,
    asked_at: Nanos,
    /// Prompt tokens that the worker has to compute for it, until its first token.
    pending: u64,
    held: Held,
}

/// The state of a running simulation.
struct Run<'a> {
    simulation: &'a Simulation<'a>,
    policy: Policy,
    fleet: Fleet,
    due: BinaryHeap<Reverse<(Nanos, Due)>>,
    /// When each worker's engine is next due, so that it is asked once for each time.
    engine_due: Vec<Option<Nanos>>,
    in_progress: Vec<HashMap<RequestId, InProgress>>,
    /// By worker: the prompt tokens still to be computed there.
    pending: Vec<u64>,
    counts: Counts,
    /// Requests that have neither ended nor failed, those not yet started included.
    left: usize,
    number: u64,
    events: Vec<Event>,
}

impl Simulation<'_> {
    /// Runs until every request has ended. `progress` is told how many did, now and then.
    ///
    /// # Errors
    /// Where the engines cannot run with their configuration.
    pub fn run(
        &self,
        policy: impl FnOnce(&Fleet) -> Result<Policy, String>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Outcome, String> {
        let fleet = Fleet::new(self.engine.clone(), self.workers, self.signalling)?;
        let mut run = Run {
            simulation: self,
            policy: policy(&fleet)?,
            fleet,
            due: BinaryHeap::new(),
            engine_due: vec![None; self.workers],
            in_progress: (0..self.workers).map(|_| HashMap::new()).collect(),
            pending: vec![0; self.workers],
            counts: Counts::new(self.workers),
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
            let worker = i % self.workers;
            run.at(loss.start, Due::Lose(worker));
            run.at(loss.start + loss.down, Due::Return(worker));
        }
        run.at(0, Due::Metrics);
        let mut reported = 0;
        let all = run.left;
        while run.left > 0 {
            // Metrics are always due, so the heap is not empty before all requests ended.
            let Some(Reverse((now, due))) = run.due.pop() else { break };
            run.happen(now, due)?;
            let ended = all - run.left;
            if ended - reported >= 256 || run.left == 0 {
                progress((ended - reported) as u64);
                reported = ended;
            }
        }
        Ok(run.counts.outcome())
    }

    /// When a session starts at this rate.
    fn starts(&self, session: usize) -> Nanos {
        let starts = self.trace.sessions[session].starts as f64 / self.rate;
        self.faults.start(starts as Nanos)
    }
}

impl Run<'_> {
    fn at(&mut self, when: Nanos, due: Due) {
        self.due.push(Reverse((when, due)));
    }

    fn happen(&mut self, now: Nanos, due: Due) -> Result<(), String> {
        match due {
            Due::Lose(worker) => {
                self.fleet.kill(worker)?;
                self.engine_due[worker] = None;
                self.pending[worker] = 0;
                let lost = std::mem::take(&mut self.in_progress[worker]);
                // By session, since a hash map's order differs from run to run.
                let lost: BTreeSet<_> = lost.values().map(|r| (r.session, r.index)).collect();
                for (session, index) in lost {
                    self.failed(now, session, index, "worker lost");
                }
            }
            Due::Return(worker) => self.fleet.revive(worker),
            Due::Metrics => {
                for worker in 0..self.fleet.workers.len() {
                    self.advance(now, worker);
                }
                self.fleet.refresh(now);
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
    fn advance(&mut self, now: Nanos, worker: usize) {
        let mut events = std::mem::take(&mut self.events);
        self.fleet.workers[worker].engine.advance(now, &mut |event| events.push(event));
        for event in events.drain(..) {
            self.event(worker, &event);
        }
        self.events = events;
        self.schedule(now, worker);
    }

    /// Has the engine called again when it has something to do.
    fn schedule(&mut self, now: Nanos, worker: usize) {
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

    fn event(&mut self, worker: usize, event: &Event) {
        match event.kind {
            EventKind::FirstToken { .. } => {
                if let Some(request) = self.in_progress[worker].get_mut(&event.id) {
                    self.pending[worker] -= std::mem::take(&mut request.pending);
                    request.held.answer_begins();
                }
            }
            EventKind::Token => {}
            EventKind::Finished(summary) => {
                let Some(request) = self.in_progress[worker].remove(&event.id) else { return };
                let finished = Finished {
                    worker,
                    asked_at: request.asked_at,
                    first_token_at: summary.first_token_at,
                    at: event.at,
                    prompt_tokens: summary.prompt_tokens,
                    cached_tokens: summary.cached_tokens,
                    output_tokens: summary.output_tokens,
                    preemptions: summary.preemptions,
                };
                self.counts.finished(finished, self.simulation.slo);
                self.ended(event.at, request.session, request.index);
            }
        }
    }

    fn request(&mut self, now: Nanos, session: usize, index: usize) {
        let request = &self.simulation.trace.sessions[session].requests[index];
        let answer = request.answer.map(|stream| (stream, request.output_tokens));
        let block_size = self.simulation.engine.block_size;
        let blocks = Prompt {
            len_tokens: u32::try_from(request.prompt.tokens()).unwrap_or(u32::MAX),
            block_hashes: request.prompt.block_hashes(answer, block_size),
        };
        self.number += 1;
        let ask = Ask {
            number: self.number,
            prompt: &request.prompt,
            blocks: &blocks,
            output_tokens: request.output_tokens,
            now,
        };
        let pick = match self.policy.pick(ask, &self.fleet, &self.pending) {
            Ok(pick) => pick,
            Err(e) => {
                return self.failed(now, session, index, &format!("router: {}", e.code.as_str()));
            }
        };
        let Some(worker) = self.fleet.worker_of(&pick.endpoint) else {
            return self.failed(now, session, index, "picked a worker that is gone");
        };
        if let Some(share) = pick.believed_cached {
            self.counts.has_belief = true;
            self.counts.believed_tokens += share * f64::from(blocks.len_tokens);
        }
        let engine = &mut self.fleet.workers[worker].engine;
        let cached = engine.cached_prefix_tokens(&blocks);
        let pending = u64::from(blocks.len_tokens.saturating_sub(cached));
        let spec = RequestSpec {
            prompt: blocks,
            output_tokens: request.output_tokens,
            ..Default::default()
        };
        match engine.submit(now, spec) {
            Ok(id) => {
                self.pending[worker] += pending;
                let request =
                    InProgress { session, index, asked_at: now, pending, held: pick.held };
                self.in_progress[worker].insert(id, request);
                self.schedule(now, worker);
            }
            Err(e) => {
                let kind = match e {
                    crate::sim::SubmitError::EmptyPrompt => "worker: empty prompt",
                    crate::sim::SubmitError::TooLong { .. } => "worker: prompt too long",
                };
                self.failed(now, session, index, kind);
            }
        }
    }

    fn failed(&mut self, now: Nanos, session: usize, index: usize, kind: &str) {
        self.counts.failed(kind);
        self.ended(now, session, index);
    }

    /// A request is over; the session goes on.
    fn ended(&mut self, now: Nanos, session: usize, index: usize) {
        self.left -= 1;
        if let Some(next) = self.simulation.trace.sessions[session].requests.get(index + 1) {
            let earliest = self.simulation.starts(session) + next.earliest;
            let at = earliest.max(now + next.think);
            self.at(at, Due::Request { session, index: index + 1 });
        }
    }
}
