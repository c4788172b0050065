use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::{EvictionConfig, LoadReading};
use crate::clock::Timestamp;

/// How many are ended in one round, at most (llm-d-router main at ebab6879, as is the rest).
const MAX_ROUND: usize = 2;
/// After so long one that was asked to end is not waited for any more.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells a running request to end.
#[derive(Debug, Default)]
pub(super) struct EvictionSignal {
    is_set: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl EvictionSignal {
    /// Returns whom to wake, which must happen outside of any lock.
    fn set(&self) -> Option<Waker> {
        self.is_set.store(true, Ordering::Release);
        self.waker.lock().take()
    }

    /// True once set; until then the waker is kept.
    pub(super) fn poll(&self, context: &Context<'_>) -> bool {
        let mut waker = self.waker.lock();
        if self.is_set.load(Ordering::Acquire) {
            return true;
        }
        *waker = Some(context.waker().clone());
        false
    }
}

/// A running request that may be ended. The order of the map is the order of eviction: lowest
/// priority first, of equal ones the newest.
type VictimKey = (i32, Reverse<u64>);

/// Ends running requests of negative priority for the sake of waiting ones of higher priority:
/// a few at a time, and the next only when those have ended and the detector can see it.
#[derive(Debug, Default)]
pub(super) struct Evictor {
    config: Option<EvictionConfig>,
    victims: BTreeMap<VictimKey, Arc<EvictionSignal>>,
    next_seq: u64,
    /// Those asked to end, by number, and when they were.
    asked: HashMap<u64, Timestamp>,
    /// No other is asked before; `None` once that has passed.
    hold_until: Option<Timestamp>,
    pub(super) target: u64,
    /// Asked to end so far, by priority.
    pub(super) issued: BTreeMap<i32, u64>,
    pub(super) confirmed: u64,
    pub(super) timed_out: u64,
}

impl Evictor {
    pub(super) fn new(config: Option<EvictionConfig>) -> Self {
        Self { config, ..Self::default() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.config.is_some()
    }

    pub(super) fn evictable(&self) -> usize {
        self.victims.len()
    }

    pub(super) fn pending(&self) -> usize {
        self.asked.len()
    }

    /// A request of negative priority runs from now on; the number is for [`Evictor::end`].
    pub(super) fn begin(&mut self, priority: i32) -> (u64, Arc<EvictionSignal>) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let signal = Arc::<EvictionSignal>::default();
        self.victims.insert((priority, Reverse(seq)), signal.clone());
        (seq, signal)
    }

    /// It ended; how long after it was asked to, if it was.
    pub(super) fn end(&mut self, priority: i32, seq: u64, now: Timestamp) -> Option<Duration> {
        self.victims.remove(&(priority, Reverse(seq)));
        let asked_at = self.asked.remove(&seq)?;
        self.confirmed += 1;
        if self.asked.is_empty() {
            self.hold_until = self.config.map(|config| now + config.grace);
        }
        Some(now.since(asked_at))
    }

    /// Asks as many running requests to end as a band needs that waits while the pool's
    /// saturation is at or over its ceiling; returns whom to wake.
    pub(super) fn reclaim(
        &mut self,
        demanding: i32,
        ceiling: f64,
        load: &LoadReading,
        now: Timestamp,
    ) -> Vec<Waker> {
        self.tick(now);
        let may_ask = self.is_on() && self.asked.is_empty() && self.hold_until.is_none();
        if !may_ask {
            return Vec::new();
        }
        let lower = self.victims.keys().take_while(|(priority, _)| *priority < demanding);
        let round: Vec<VictimKey> = lower.take(Self::wanted(ceiling, load)).copied().collect();
        self.target = round.len() as u64;
        let mut wakers = Vec::new();
        for key in round {
            let (priority, Reverse(seq)) = key;
            if let Some(signal) = self.victims.remove(&key) {
                self.asked.insert(seq, now);
                *self.issued.entry(priority).or_default() += 1;
                wakers.extend(signal.set());
            }
        }
        wakers
    }

    /// How many have to end until the saturation is below the ceiling, if each running request
    /// has an equal share in it.
    fn wanted(ceiling: f64, load: &LoadReading) -> usize {
        let share = load.effective / load.in_flight.max(1) as f64;
        let excess = (load.effective - ceiling).max(0.0);
        let wanted = if share > 0.0 { (excess / share).ceil() } else { 1.0 };
        wanted.clamp(1.0, MAX_ROUND as f64) as usize
    }

    /// Forgets what is over at `now`.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let before = self.asked.len();
        self.asked.retain(|_, asked_at| now.since(*asked_at) < CONFIRMATION_TIMEOUT);
        self.timed_out += (before - self.asked.len()) as u64;
        self.hold_until = self.hold_until.filter(|until| now < *until);
    }

    /// When [`Evictor::reclaim`] may do something that it may not do now, though nothing ends.
    /// It may have passed: then [`Evictor::tick`] has not been called since.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        if self.victims.is_empty() {
            return None;
        }
        let timeout = self.asked.values().min().map(|asked_at| *asked_at + CONFIRMATION_TIMEOUT);
        timeout.or(self.hold_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::START + Duration::from_millis(ms)
    }

    fn load(effective: f64, in_flight: i64) -> LoadReading {
        LoadReading { effective, in_flight, ..LoadReading::default() }
    }

    /// What is set of the signals, in order.
    fn set(signals: &[(u64, Arc<EvictionSignal>)]) -> Vec<bool> {
        signals.iter().map(|(_, s)| s.is_set.load(Ordering::Relaxed)).collect()
    }

    fn evictor() -> Evictor {
        Evictor::new(Some(EvictionConfig { grace: Duration::from_millis(10) }))
    }

    #[test]
    fn the_lowest_go_first_and_of_those_the_newest() {
        // Priorities of what runs, who demands, saturation; who is asked to end.
        for (running, demanding, saturation, expected) in [
            (&[-1, -5, -5, -1][..], 0, 1.0, &[false, false, true, false][..]),
            (&[-1, -5, -5, -1], 0, 1.5, &[false, true, true, false]),
            (&[-1, -1, -5, -1], 0, 2.0, &[false, false, true, true]),
            (&[-1, -5], -1, 9.0, &[false, true]),
            (&[-1, -5], -5, 9.0, &[false, false]),
            (&[], 0, 9.0, &[]),
        ] {
            let mut evictor = evictor();
            let signals: Vec<_> = running.iter().map(|p| evictor.begin(*p)).collect();
            evictor.reclaim(demanding, 1.0, &load(saturation, 4), at(0));
            assert_eq!(set(&signals), expected, "{running:?} {demanding} {saturation}");
        }
    }

    #[test]
    fn the_next_round_waits_until_the_last_one_shows() {
        let mut evictor = evictor();
        let signals: Vec<_> = (0..3).map(|_| evictor.begin(-1)).collect();
        let full = load(1.0, 3);
        let ask = |evictor: &mut Evictor, ms| evictor.reclaim(0, 1.0, &full, at(ms));
        ask(&mut evictor, 0);
        ask(&mut evictor, 1);
        assert_eq!(set(&signals), [false, false, true], "one, and no other before it ended");
        assert_eq!(evictor.next_deadline(), Some(at(10_000)));
        evictor.end(-1, signals[2].0, at(5));
        ask(&mut evictor, 14);
        assert_eq!(set(&signals), [false, false, true], "nor before the grace is over");
        assert_eq!(evictor.next_deadline(), Some(at(15)));
        ask(&mut evictor, 15);
        assert_eq!(set(&signals), [false, true, true]);
        ask(&mut evictor, 10_015);
        assert_eq!(set(&signals), [true, true, true], "the second never ended");
        assert_eq!((evictor.confirmed, evictor.timed_out), (1, 1));
        evictor.end(-1, signals[1].0, at(11_000));
        evictor.end(-1, signals[0].0, at(11_000));
        assert_eq!((evictor.evictable(), evictor.pending()), (0, 0));
    }

    #[test]
    fn nothing_is_ended_unless_configured() {
        let mut evictor = Evictor::new(None);
        let signals = [evictor.begin(-1)];
        evictor.reclaim(0, 1.0, &load(5.0, 1), at(0));
        assert_eq!(set(&signals), [false]);
    }
}
