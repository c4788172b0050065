use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::flow_control::{
    Admission, Arrival, FlowControlConfig, FlowController, LoadReading, LoadSource, Pending,
    Permit, Rejection, Running, Ticket,
};

/// A pool of places: each request takes one.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) taken: AtomicI64,
    pub(super) capacity: AtomicI64,
    pub(super) is_empty: AtomicBool,
    /// The most that were taken at once.
    pub(super) peak: AtomicI64,
}

impl Places {
    pub(super) fn take(&self) {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(taken, Ordering::SeqCst);
    }

    pub(super) fn release(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn capacity(&self) -> i64 {
        self.capacity.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Load(Arc<Places>);

impl LoadSource for Load {
    fn read(&self, pending: Pending, _: Timestamp) -> LoadReading {
        let in_flight = self.0.taken.load(Ordering::SeqCst);
        let effective = (in_flight as f64 + pending.requests as f64) / self.0.capacity() as f64;
        let is_empty = self.0.is_empty.load(Ordering::SeqCst);
        LoadReading { is_empty, effective, prefill: None, decode: Some(effective), in_flight }
    }
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub(super) struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A controller over [`Places`] on a clock of its own.
pub(super) struct Rig {
    pub(super) controller: Arc<FlowController>,
    pub(super) places: Arc<Places>,
    clock: Arc<AtomicU64>,
}

impl Rig {
    pub(super) fn new(capacity: i64, config: FlowControlConfig) -> Self {
        let places = Arc::new(Places { capacity: capacity.into(), ..Places::default() });
        let clock = Arc::new(AtomicU64::new(1_000_000_000));
        let reading = clock.clone();
        let now = move || Timestamp::from_nanos(reading.load(Ordering::SeqCst));
        let load = Box::new(Load(places.clone()));
        Self { controller: FlowController::new(config, load, Arc::new(now)), places, clock }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.clock.load(Ordering::SeqCst))
    }

    /// Lets time pass and calls the controller if it asked for that.
    pub(super) fn pass(&self, duration: Duration) {
        self.clock.fetch_add(duration.as_nanos() as u64, Ordering::SeqCst);
        let context = &mut Context::from_waker(Waker::noop());
        if self.controller.poll_deadline(context).is_some_and(|at| at <= self.now()) {
            self.controller.on_capacity(self.now());
        }
    }

    pub(super) fn set_time(&self, now: Timestamp) {
        self.clock.store(now.as_nanos(), Ordering::SeqCst);
    }

    pub(super) fn set_capacity(&self, capacity: i64) {
        self.places.capacity.store(capacity, Ordering::SeqCst);
        self.controller.on_capacity(self.now());
    }

    pub(super) fn set_empty(&self, is_empty: bool) {
        self.places.is_empty.store(is_empty, Ordering::SeqCst);
        self.controller.on_capacity(self.now());
    }

    pub(super) fn arrival<'a>(&self, fairness_id: &'a str, priority: i32) -> Arrival<'a> {
        Arrival {
            fairness_id,
            priority,
            bytes: 100,
            tokens: 10,
            received_at: self.now(),
            ttl: None,
            ttft_slo: None,
        }
    }

    /// A request of 100 bytes.
    pub(super) fn ask(&self, fairness_id: &str, priority: i32) -> Request {
        self.ask_as(&self.arrival(fairness_id, priority))
    }

    pub(super) fn ask_as(&self, arrival: &Arrival<'_>) -> Request {
        let state = match self.controller.admit(arrival, self.now()) {
            Admission::Go(permit) => State::Permitted(permit),
            Admission::Wait(ticket) => State::Waiting(ticket),
            Admission::Reject(rejection) => State::Rejected(rejection),
        };
        let wakes = Arc::<Wakes>::default();
        Request { state, places: self.places.clone(), waker: wakes.clone().into(), wakes }
    }

    /// One that runs, in a place of its own.
    pub(super) fn run(&self, fairness_id: &str, priority: i32) -> Request {
        let mut request = self.ask(fairness_id, priority);
        request.start();
        assert!(request.is_running(), "there was no place");
        request
    }
}

/// A client's request and how far it is.
pub(super) struct Request {
    pub(super) state: State,
    places: Arc<Places>,
    pub(super) wakes: Arc<Wakes>,
    waker: Waker,
}

pub(super) enum State {
    Waiting(Ticket),
    Permitted(Permit),
    Running(Running),
    Rejected(Rejection),
    Ended,
}

impl Request {
    /// Asks what became of it; true where that is known.
    pub(super) fn poll(&mut self) -> bool {
        let State::Waiting(ticket) = &mut self.state else { return true };
        match Pin::new(ticket).poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => false,
            Poll::Ready(Ok(permit)) => {
                self.state = State::Permitted(permit);
                true
            }
            Poll::Ready(Err(rejection)) => {
                self.state = State::Rejected(rejection);
                true
            }
        }
    }

    /// Takes a place if it may.
    pub(super) fn start(&mut self) -> bool {
        self.poll();
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Permitted(permit) => {
                self.places.take();
                self.state = State::Running(permit.reserved([]));
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    /// Ends it, wherever it is.
    pub(super) fn end(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Ended);
        if matches!(state, State::Running(_)) {
            self.places.release();
        }
    }

    pub(super) fn waits(&mut self) -> bool {
        !self.poll()
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    pub(super) fn rejection(&mut self) -> Option<Rejection> {
        self.poll();
        match self.state {
            State::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    pub(super) fn is_evicted(&self) -> bool {
        match &self.state {
            State::Running(running) => {
                running.poll_evicted(&Context::from_waker(&self.waker)).is_ready()
            }
            _ => false,
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end();
    }
}
