use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;

use super::rig::Rig;
use crate::clock::Timestamp;
use crate::flow_control::{
    Admission, BandConfig, FlowControlConfig, FlowController, LoadReading, LoadSource, Pending,
    RoundRobin, Ticket,
};

/// Wakes a thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for the ticket; where it takes too long, a wake-up was lost.
fn wait(ticket: Ticket) -> <Ticket as Future>::Output {
    let mut ticket = pin!(ticket);
    let waker: Waker = Arc::new(Unpark(thread::current())).into();
    let started = std::time::Instant::now();
    loop {
        if let Poll::Ready(result) = ticket.as_mut().poll(&mut Context::from_waker(&waker)) {
            return result;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "never woken");
        // Not the way it is woken: only to notice that it is not.
        thread::park_timeout(Duration::from_secs(61));
    }
}

/// Threads that ask, run and end without any other event: each end must wake another, or all
/// come to a stand. Some give up while they wait, some just as they were let through.
#[test]
fn no_wake_up_is_lost_and_no_place_taken_twice() {
    const THREADS: usize = 16;
    const EACH: usize = 1500;
    const PLACES: i64 = 3;
    let fairness = Arc::new(RoundRobin);
    let rig = Arc::new(Rig::new(
        PLACES,
        FlowControlConfig {
            default_ttl: None,
            default_band: BandConfig { fairness, ..BandConfig::default() },
            ..FlowControlConfig::default()
        },
    ));
    let ran = AtomicUsize::new(0);
    let gave_up = AtomicUsize::new(0);
    thread::scope(|scope| {
        for n in 0..THREADS {
            let (rig, ran, gave_up) = (&rig, &ran, &gave_up);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(n as u64);
                let id = format!("flow {}", n % 5);
                for _ in 0..EACH {
                    let arrival = rig.arrival(&id, [0, 0, -1][n % 3]);
                    let permit = match rig.controller.admit(&arrival, rig.now()) {
                        Admission::Go(permit) => permit,
                        Admission::Wait(ticket) if rng.u8(..) < 40 => {
                            thread::yield_now();
                            drop(ticket);
                            gave_up.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        Admission::Wait(ticket) => wait(ticket).expect("nothing expires"),
                        Admission::Reject(rejection) => panic!("{rejection:?}"),
                    };
                    if rng.u8(..) < 20 {
                        drop(permit);
                        gave_up.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    rig.places.take();
                    let running = permit.reserved([]);
                    if rng.bool() {
                        thread::yield_now();
                    }
                    ran.fetch_add(1, Ordering::Relaxed);
                    rig.places.release();
                    drop(running);
                }
            });
        }
    });
    let all = ran.load(Ordering::Relaxed) + gave_up.load(Ordering::Relaxed);
    assert_eq!(all, THREADS * EACH);
    assert!(rig.places.peak.load(Ordering::SeqCst) <= PLACES);
    assert!(rig.controller.is_tidy());
}

/// A pool of one place.
#[derive(Debug)]
struct OnePlace {
    /// The thread that lets requests out of the queue, and what it waits for after it has looked.
    within: OnceLock<ThreadId>,
    looks: AtomicUsize,
    looked: Barrier,
    counted: Barrier,
}

impl LoadSource for Arc<OnePlace> {
    fn read(&self, pending: Pending, _: Timestamp) -> LoadReading {
        let is_within = self.within.get() == Some(&thread::current().id());
        let look = if is_within { self.looks.fetch_add(1, Ordering::SeqCst) } else { 0 };
        // Its first look, without the lock, finds the place taken, the second finds it free.
        let taken = if is_within && look == 0 { 1.0 } else { 0.0 };
        if is_within && look == 1 {
            self.looked.wait();
            self.counted.wait();
        }
        LoadReading { effective: taken + pending.requests as f64, ..LoadReading::default() }
    }
}

/// A request that finds the queue empty meets one that comes out of it just then: between finding
/// it empty and being counted itself, the other is put into the queue and finds the one place free.
#[test]
fn a_place_is_not_given_to_one_that_waited_and_one_that_comes() {
    let place = Arc::new(OnePlace {
        within: OnceLock::new(),
        looks: AtomicUsize::new(0),
        looked: Barrier::new(2),
        counted: Barrier::new(2),
    });
    let now = Timestamp::from_nanos(1);
    let clock = Arc::new(move || now);
    let config = FlowControlConfig::default();
    let controller = FlowController::new(config, Box::new(place.clone()), clock);
    let arrival = Rig::new(1, FlowControlConfig::default()).arrival("flow", 0);
    let outside = thread::current().id();
    let (enter, entered) = mpsc::channel();
    let meet = place.clone();
    let enter = Mutex::new(enter);
    let interleave = move |moment| {
        if thread::current().id() != outside {
            return;
        }
        match moment {
            "queue found empty" => {
                enter.lock().send(()).unwrap();
                meet.looked.wait();
            }
            _ => drop(meet.counted.wait()),
        }
    };
    assert!(controller.interleave.set(Box::new(interleave)).is_ok());
    let goes = thread::scope(|scope| {
        let (place, controller, arrival) = (&place, &controller, &arrival);
        let inner = scope.spawn(move || {
            place.within.set(thread::current().id()).unwrap();
            entered.recv().unwrap();
            controller.admit(arrival, now)
        });
        let outer = controller.admit(arrival, now);
        [outer, inner.join().unwrap()].map(|admission| matches!(admission, Admission::Go(_)))
    });
    assert_eq!(goes.iter().filter(|goes| **goes).count(), 1, "{goes:?}");
}
