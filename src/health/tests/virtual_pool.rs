//! Four endpoints and eight clients in virtual time, with a picker that loves what fails fast.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::endpoints::SignalValues;

pub(super) const ENDPOINTS: usize = 4;
const CLIENTS: usize = 8;
/// How long a client waits for a first byte.
const PATIENCE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(50);
/// What refusing or failing at once takes.
const AT_ONCE: Duration = Duration::from_millis(1);

/// What endpoint 0 does while it is ill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    Dies,
    FailsFast,
    FailsOneInTwo,
    TwiceAsSlow,
    Hangs,
    /// Dies and comes back every half second.
    Flaps,
    /// Its metrics say that it is idle.
    MetricsLie,
    /// Its metrics are the same for ever.
    MetricsDie,
}

/// How a request's endpoint is chosen among those left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Picker {
    RoundRobin,
    /// By what we sent there ourselves.
    LeastInFlight,
    /// By what metrics say of requests running and waiting.
    LeastReported,
}

pub(super) struct Setup {
    pub fault: Fault,
    pub picker: Picker,
    pub health: bool,
    /// When the fault begins, and when it ends.
    pub ill: (Timestamp, Timestamp),
    pub end: Timestamp,
}

/// One request as it came out.
#[derive(Clone, Copy)]
pub(super) struct Done {
    pub sent_at: Timestamp,
    pub endpoint: usize,
    pub lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Scrape,
    Begin(usize),
    FirstByte(u64),
    End(u64),
    GiveUp(u64),
}

struct Request {
    id: u64,
    client: usize,
    endpoint: usize,
    sent_at: Timestamp,
    attempt: Attempt,
    rest: Duration,
    fails: bool,
}

pub(super) struct VirtualPool {
    setup: Setup,
    pool: Driven,
    now: Timestamp,
    events: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    next: u64,
    open: Vec<Request>,
    signals: [SignalValues; ENDPOINTS],
    pub done: Vec<Done>,
    pub most_in_flight: usize,
    turn: usize,
    rng: fastrand::Rng,
}

impl VirtualPool {
    pub(super) fn run(setup: Setup) -> Self {
        let mut this = Self {
            pool: Driven::new(ENDPOINTS),
            now: at(0),
            events: BinaryHeap::new(),
            next: 0,
            open: vec![],
            signals: [SignalValues::default(); ENDPOINTS],
            done: vec![],
            most_in_flight: 0,
            turn: 0,
            rng: fastrand::Rng::with_seed(3),
            setup,
        };
        (0..CLIENTS).for_each(|client| this.push(Duration::ZERO, Event::Begin(client)));
        this.push(Duration::ZERO, Event::Scrape);
        while let Some(Reverse((now, _, event))) = this.events.pop() {
            if now > this.setup.end {
                break;
            }
            this.now = now;
            this.step(event);
        }
        this
    }

    fn push(&mut self, after: Duration, event: Event) {
        self.next += 1;
        self.events.push(Reverse((self.now + after, self.next, event)));
    }

    fn fault(&self, endpoint: usize) -> Fault {
        let (from, to) = self.setup.ill;
        if endpoint != 0 || self.now < from || self.now >= to {
            return Fault::None;
        }
        match self.setup.fault {
            Fault::Flaps => {
                let down = (self.now.since(from).as_millis() / 500).is_multiple_of(2);
                if down { Fault::Dies } else { Fault::None }
            }
            fault => fault,
        }
    }

    fn in_flight(&self, endpoint: usize) -> usize {
        self.open.iter().filter(|r| r.endpoint == endpoint).count()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Scrape => self.scrape(),
            Event::Begin(client) => self.begin(client),
            Event::FirstByte(id) => self.first_byte(id),
            Event::End(id) => self.end(id, false, None),
            Event::GiveUp(id) => {
                if self.open.iter().any(|r| r.id == id && r.attempt.is_waiting()) {
                    self.end(id, true, Some(Observation::Abandoned));
                }
            }
        }
    }

    fn scrape(&mut self) {
        for i in 0..ENDPOINTS {
            let busy = self.in_flight(i) as u32;
            let (scrape, running) = match self.fault(i) {
                Fault::Dies => (Scrape::Refused, None),
                Fault::MetricsDie | Fault::Hangs => (Scrape::Failed, None),
                Fault::MetricsLie => (Scrape::Read { busy: Some(0) }, Some(0)),
                _ => (Scrape::Read { busy: Some(busy) }, Some(busy)),
            };
            if let Some(running) = running {
                let updated_at = Some(self.now);
                self.signals[i] = SignalValues { running, updated_at, ..self.signals[i] };
            }
            let endpoint = &self.pool.endpoints[i];
            self.pool.health.scraped(endpoint, scrape, busy.into(), self.now);
        }
        if self.fault(0) == Fault::Dies {
            // Whatever was there is lost with it.
            let lost: Vec<u64> =
                self.open.iter().filter(|r| r.endpoint == 0 && !r.fails).map(|r| r.id).collect();
            for id in lost {
                self.end(id, true, Some(Observation::Failed(Failure::Status(503))));
            }
        }
        self.push(TICK, Event::Scrape);
    }

    fn begin(&mut self, client: usize) {
        let admitted: Vec<usize> = match self.pool.screen(self.now) {
            _ if !self.setup.health => (0..ENDPOINTS).collect(),
            Selection::All => (0..ENDPOINTS).collect(),
            Selection::Without(out) => {
                (0..ENDPOINTS).filter(|&i| !out.contains(&(i as u32))).collect()
            }
            Selection::Probe(i) | Selection::Panic(i) => vec![i as usize],
        };
        let endpoint = self.pick(&admitted);
        let busy = self.in_flight(endpoint) as f64;
        let fault = self.fault(endpoint);
        let fails = match fault {
            Fault::Dies | Fault::FailsFast => true,
            Fault::FailsOneInTwo => self.rng.bool(),
            _ => false,
        };
        let slow = if fault == Fault::TwiceAsSlow { 2.0 } else { 1.0 };
        let took = 0.08 * slow * (0.8 + 0.4 * self.rng.f64()) * (1.0 + 0.2 * busy);
        let took = Duration::from_secs_f64(took);
        self.next += 1;
        let id = self.next;
        let attempt = self.pool.sent(endpoint, self.now);
        let (sent_at, rest) = (self.now, took / 2);
        self.open.push(Request { id, client, endpoint, sent_at, attempt, rest, fails });
        self.most_in_flight = self.most_in_flight.max(self.in_flight(0));
        self.push(if fails { AT_ONCE } else { took / 2 }, Event::FirstByte(id));
        self.push(PATIENCE, Event::GiveUp(id));
    }

    fn pick(&mut self, admitted: &[usize]) -> usize {
        let load = |this: &Self, i: usize| match this.setup.picker {
            Picker::RoundRobin => 0,
            Picker::LeastInFlight => this.in_flight(i) as u32,
            Picker::LeastReported => this.reported(i),
        };
        let loads: Vec<u32> = admitted.iter().map(|&i| load(self, i)).collect();
        let least = loads.iter().copied().min().unwrap_or(0);
        let best: Vec<usize> =
            admitted.iter().zip(&loads).filter(|(_, l)| **l == least).map(|(i, _)| *i).collect();
        self.turn += 1;
        match self.setup.picker {
            Picker::RoundRobin => best[self.turn % best.len()],
            _ => best[self.rng.usize(..best.len())],
        }
    }

    /// What is taken for an endpoint's metrics.
    fn reported(&self, i: usize) -> u32 {
        let stale_after = self.pool.health.policy().stale_after;
        let is_believed = |i: usize| {
            let lies = self.pool.endpoints[i].metrics_lie();
            !lies && !self.signals[i].is_stale(self.now, stale_after)
        };
        if !self.setup.health || is_believed(i) {
            return self.signals[i].running;
        }
        let believed = (0..ENDPOINTS).filter(|&i| is_believed(i));
        let load = PoolLoad::of(believed.map(|i| (self.signals[i], self.in_flight(i) as i64)));
        substitute(self.signals[i], self.in_flight(i) as i64, &load).running
    }

    fn first_byte(&mut self, id: u64) {
        let Some(n) = self.open.iter().position(|r| r.id == id) else { return };
        if self.open[n].fails {
            return self.end(id, true, Some(BAD));
        }
        if self.fault(self.open[n].endpoint) == Fault::Hangs {
            // Looks again later: it goes on where it stopped.
            return self.push(TICK, Event::FirstByte(id));
        }
        let (endpoint, rest) = (self.open[n].endpoint, self.open[n].rest);
        let mut request = self.open.swap_remove(n);
        self.pool.observe(endpoint, &mut request.attempt, GOOD, self.now);
        self.open.push(request);
        self.push(rest, Event::End(id));
    }

    fn end(&mut self, id: u64, lost: bool, outcome: Option<Observation>) {
        let Some(n) = self.open.iter().position(|r| r.id == id) else { return };
        let mut request = self.open.swap_remove(n);
        if let Some(outcome) = outcome {
            self.pool.observe(request.endpoint, &mut request.attempt, outcome, self.now);
        }
        let Request { sent_at, endpoint, client, .. } = request;
        self.done.push(Done { sent_at, endpoint, lost });
        self.push(Duration::ZERO, Event::Begin(client));
    }

    /// Share of the requests sent in that time for which `is` holds.
    pub(super) fn share(
        &self,
        (from, to): (Timestamp, Timestamp),
        is: impl Fn(&Done) -> bool,
    ) -> f64 {
        let sent = self.done.iter().filter(|d| d.sent_at >= from && d.sent_at < to);
        let (all, hits) = sent.fold((0, 0), |(all, hits), d| (all + 1, hits + u32::from(is(d))));
        f64::from(hits) / f64::from(all.max(1))
    }
}
