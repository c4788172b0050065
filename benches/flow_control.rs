//! What flow control costs a request: one that goes at once, and one freed place while 5,000
//! requests wait, by policy. The pool is 16 endpoints.
//!
//! `cargo bench --bench flow_control` prints heap allocations of a request that goes at once
//! first, and of a freed place how long it takes until the next request is woken.

use std::collections::VecDeque;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use epp::bench::allocations::{Counting, of_thread};
use epp::clock::{self, Timestamp};
use epp::endpoints::{Endpoint, EndpointSpec, Pool, Reservation, ReservationTerms};
use epp::flow_control::{
    Admission, Arrival, BandConfig, ConcurrencyConfig, FairnessPolicy, FlowControlConfig,
    FlowController, GlobalStrict, PoolLoad, ProgramAware, ProgramAwareConfig, RoundRobin, Running,
    Ticket,
};

const ENDPOINTS: usize = 16;
const WAITING: usize = 5_000;
const TERMS: ReservationTerms = ReservationTerms {
    tokens: 250,
    prompt_tokens: 250,
    tokens_until_end: false,
    until_answer: false,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn spec(n: usize) -> EndpointSpec {
    EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        name: format!("w{n}"),
        pod_name: format!("w{n}"),
        ip: [10, 0, 0, n as u8].into(),
        port: 8000,
        rank: 0,
        uid: String::new(),
        labels: Default::default(),
    }
}

/// A controller over a pool in which each endpoint is full with so many requests.
fn controller(
    endpoints: usize,
    max_requests: u32,
    fairness: Arc<dyn FairnessPolicy>,
) -> (Arc<FlowController>, Arc<Endpoint>) {
    let pool = Arc::new(Pool::new());
    pool.replace((0..endpoints).map(spec).collect());
    let first = pool.snapshot().endpoints[0].clone();
    let detector = ConcurrencyConfig { max_requests, ..ConcurrencyConfig::default() };
    let config = FlowControlConfig {
        default_band: BandConfig { max_requests: 100_000, fairness, ..BandConfig::default() },
        ..FlowControlConfig::default()
    };
    let load = Box::new(PoolLoad::new(pool, Arc::new(detector)));
    (FlowController::new(config, load, Arc::new(clock::now)), first)
}

fn arrival(fairness_id: &str, now: Timestamp) -> Arrival<'_> {
    Arrival {
        fairness_id,
        priority: 0,
        bytes: 1000,
        tokens: 250,
        received_at: now,
        ttl: None,
        ttft_slo: None,
    }
}

/// A request that goes at once, from its arrival to the end of its exchange.
fn pass(controller: &Arc<FlowController>, endpoint: &Arc<Endpoint>, now: Timestamp) {
    let Admission::Go(permit) = controller.admit(&arrival("tenant", now), now) else {
        panic!("there is room");
    };
    let reservation = Reservation::new(endpoint.clone(), TERMS);
    let running = permit.reserved([&**endpoint]);
    drop(reservation);
    drop(black_box(running));
}

fn unsaturated(c: &mut Criterion) {
    for endpoints in [4, ENDPOINTS, 64] {
        let (controller, endpoint) = controller(endpoints, 1000, Arc::new(GlobalStrict));
        let now = clock::now();
        pass(&controller, &endpoint, now);
        let before = of_thread();
        pass(&controller, &endpoint, now);
        let allocations = (of_thread() - before).calls;
        println!("goes at once, {endpoints} endpoints: {allocations} allocations");
        c.bench_function(&format!("flow control, goes at once/{endpoints} endpoints"), |b| {
            b.iter(|| pass(&controller, &endpoint, black_box(now)));
        });
    }
}

/// What runs and what waits; of what waits, the one that goes is found by looking at the head of
/// each flow, as its own task would.
struct Saturated {
    controller: Arc<FlowController>,
    endpoint: Arc<Endpoint>,
    running: VecDeque<(Reservation, Running)>,
    flows: Vec<(String, VecDeque<Ticket>)>,
}

impl Saturated {
    fn new(flows: usize, fairness: Arc<dyn FairnessPolicy>) -> Self {
        let (controller, endpoint) = controller(ENDPOINTS, 4, fairness);
        let flows = (0..flows).map(|n| (format!("tenant {n}"), VecDeque::new())).collect();
        let mut this = Self { controller, endpoint, running: VecDeque::new(), flows };
        for n in 0..WAITING + 4 * ENDPOINTS {
            this.ask(n % this.flows.len());
        }
        this
    }

    fn ask(&mut self, flow: usize) {
        let now = clock::now();
        let (id, waiting) = &mut self.flows[flow];
        match self.controller.admit(&arrival(id, now), now) {
            Admission::Go(permit) => {
                let reservation = Reservation::new(self.endpoint.clone(), TERMS);
                self.running.push_back((reservation, permit.reserved([&*self.endpoint])));
            }
            Admission::Wait(ticket) => waiting.push_back(ticket),
            Admission::Reject(rejection) => panic!("{rejection:?}"),
        }
    }

    /// One ends, one goes, one more comes.
    fn turn(&mut self) {
        drop(self.running.pop_front());
        self.go_on(Waker::noop());
    }

    /// The one that may goes, and one more comes.
    fn go_on(&mut self, waker: &Waker) {
        let context = &mut Context::from_waker(waker);
        let next =
            self.flows.iter_mut().enumerate().find_map(|(n, (_, waiting))| {
                match Pin::new(waiting.front_mut()?).poll(context) {
                    Poll::Ready(Ok(permit)) => Some((n, permit)),
                    _ => None,
                }
            });
        let (flow, permit) = next.expect("one may go");
        self.flows[flow].1.pop_front();
        let reservation = Reservation::new(self.endpoint.clone(), TERMS);
        self.running.push_back((reservation, permit.reserved([&*self.endpoint])));
        self.ask(flow);
    }
}

/// Notes when it was last woken.
#[derive(Default)]
struct Alarm(std::sync::Mutex<Option<Instant>>);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = Some(Instant::now());
    }
}

/// How long it takes from the end of an exchange until the task of the request that goes for it
/// is woken, at 1,000 ends a second, and what share of a core all of that takes.
fn dispatch_delay(rig: &mut Saturated, name: &str) {
    const TURNS: u32 = 5_000;
    const EVERY: Duration = Duration::from_millis(1);
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(alarm.clone());
    // Everybody who may be next has somebody to wake.
    for (_, waiting) in &mut rig.flows {
        for ticket in waiting {
            assert!(Pin::new(ticket).poll(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    let (mut delays, mut busy) = (Vec::new(), Duration::ZERO);
    let mut next = Instant::now();
    for _ in 0..TURNS {
        next += EVERY;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let ends = Instant::now();
        drop(rig.running.pop_front());
        let woken = alarm.0.lock().unwrap().take().expect("the next one is woken");
        delays.push(woken - ends);
        rig.go_on(&waker);
        for (_, waiting) in &mut rig.flows {
            let polled = waiting
                .back_mut()
                .map(|last| Pin::new(last).poll(&mut Context::from_waker(&waker)).is_pending());
            assert_ne!(polled, Some(false));
        }
        busy += ends.elapsed();
    }
    delays.sort();
    let at = |q: f64| delays[(q * f64::from(TURNS - 1)) as usize];
    let core = busy.as_secs_f64() / (TURNS * EVERY).as_secs_f64();
    println!(
        "flow control, {WAITING} waiting, 1,000 ends a second/{name}: the next is woken after \
         {:?} (p50), {:?} (p99), {:?} (max); {core:.4} of a core",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn saturated(c: &mut Criterion) {
    let strict = || Arc::new(GlobalStrict) as Arc<dyn FairnessPolicy>;
    let program = || Arc::new(ProgramAware::new(ProgramAwareConfig::default()));
    for (name, flows, fairness) in [
        ("global-strict, 1 flow", 1, strict()),
        ("global-strict, 10 flows", 10, strict()),
        ("round-robin, 10 flows", 10, Arc::new(RoundRobin)),
        ("program-aware, 10 flows", 10, program()),
    ] {
        let mut rig = Saturated::new(flows, fairness);
        dispatch_delay(&mut rig, name);
        c.bench_function(&format!("flow control, {WAITING} waiting/{name}"), |b| {
            b.iter(|| rig.turn());
        });
    }
}

criterion_group!(benches, unsaturated, saturated);
criterion_main!(benches);
