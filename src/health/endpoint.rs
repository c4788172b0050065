use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::failures::Memory;
use super::machine::{Machine, State};
use super::observation::{Change, Standing};
use super::policy::HealthPolicy;
use super::speed;
use crate::clock::Timestamp;
use crate::endpoints::EndpointMemory;

/// The health of one endpoint instance.
///
/// Observations take its lock, which no two endpoints share. What every request reads is also
/// published in atomics: a reader that sees a part of the newer state does no harm, since
/// whatever has to be exact is decided under the lock.
#[derive(Debug, Default)]
pub struct EndpointHealth {
    machine: Mutex<Machine>,
    published: Published,
    ejections: AtomicU64,
    returns: AtomicU64,
}

impl EndpointMemory for EndpointHealth {}

/// Moments are stored plus one; 0 is none.
#[derive(Debug, Default)]
struct Published {
    standing: AtomicU8,
    returning_since: AtomicU64,
    probe_from: AtomicU64,
    probe_requests: AtomicU64,
    probe_latest: AtomicU64,
    silent_since: AtomicU64,
    alive_at: AtomicU64,
    /// Bits of `f32`s.
    short: AtomicU32,
    failed: AtomicU32,
    outcomes: AtomicU32,
    speed: AtomicU32,
    speed_at: AtomicU64,
    lies: AtomicBool,
}

impl EndpointHealth {
    /// Where it stands. An endpoint whose share has grown to a full one is still `Returning`
    /// until it is next heard of.
    pub fn standing(&self) -> Standing {
        match self.published.standing.load(Relaxed) {
            0 => Standing::Healthy,
            1 => Standing::Suspect,
            2 => Standing::Ejected,
            _ => Standing::Returning,
        }
    }

    /// True while it is out of service.
    pub fn is_out(&self) -> bool {
        matches!(self.standing(), Standing::Suspect | Standing::Ejected)
    }

    /// How often it was ejected.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    /// How often it came back after an ejection.
    pub fn returns(&self) -> u64 {
        self.returns.load(Relaxed)
    }

    /// Its metrics show far fewer requests than we have there, and have for a while: they are
    /// not to be believed.
    pub fn metrics_lie(&self) -> bool {
        self.published.lies.load(Relaxed)
    }

    /// Runs `step` under the lock, publishes what came of it and counts the change.
    pub(super) fn step(
        &self,
        policy: &HealthPolicy,
        step: impl FnOnce(&mut Machine) -> Option<Change>,
    ) -> Option<Change> {
        let mut machine = self.machine.lock();
        let change = step(&mut machine);
        self.publish(&machine, policy);
        match change {
            Some(Change { to: Standing::Ejected, .. }) => {
                self.ejections.fetch_add(1, Relaxed);
            }
            Some(Change { from: Standing::Ejected, .. }) => {
                self.returns.fetch_add(1, Relaxed);
            }
            _ => {}
        }
        change
    }

    fn publish(&self, machine: &Machine, policy: &HealthPolicy) {
        let p = &self.published;
        p.standing.store(
            match machine.standing() {
                Standing::Healthy => 0,
                Standing::Suspect => 1,
                Standing::Ejected => 2,
                Standing::Returning => 3,
            },
            Relaxed,
        );
        if let State::Returning { since } = machine.state {
            store(&p.returning_since, Some(since));
        }
        let due = machine.probe_due(policy);
        store(&p.probe_from, due.map(|(from, ..)| from));
        store(&p.probe_latest, due.map(|(.., latest)| latest));
        p.probe_requests.store(due.map_or(0, |(_, requests, _)| requests), Relaxed);
        store(&p.silent_since, machine.silence.since());
        let Memory { short, failed, outcomes } = machine.failures.memory;
        for (place, value) in [(&p.short, short), (&p.failed, failed), (&p.outcomes, outcomes)] {
            place.store((value as f32).to_bits(), Relaxed);
        }
        p.speed.store(machine.speed.log().map_or(f32::NAN, |log| log as f32).to_bits(), Relaxed);
        store(&p.speed_at, Some(machine.speed.at()));
        p.lies.store(machine.lies, Relaxed);
    }

    /// It answered something.
    pub(super) fn alive(&self, now: Timestamp) {
        store(&self.published.alive_at, Some(now));
    }

    pub(super) fn alive_at(&self) -> Option<Timestamp> {
        load(&self.published.alive_at)
    }

    /// Since when requests wait for it and nothing was said.
    pub(super) fn silent_since(&self) -> Option<Timestamp> {
        load(&self.published.silent_since)
    }

    /// True where a probe seems due; the lock has the last word.
    pub(super) fn is_probe_due(&self, requests: u64, now: Timestamp) -> bool {
        let p = &self.published;
        let soon = load(&p.probe_from).is_some_and(|from| now >= from)
            && requests >= p.probe_requests.load(Relaxed);
        soon || load(&p.probe_latest).is_some_and(|latest| now >= latest)
    }

    /// The share of its requests that a returning endpoint gets: from 0.1 to 1 in `return_time`.
    pub(super) fn returning_share(&self, return_time: Duration, now: Timestamp) -> f64 {
        const FIRST: f64 = 0.1;
        let since = load(&self.published.returning_since).unwrap_or_default();
        let grown = now.since(since).as_secs_f64() / return_time.as_secs_f64().max(1e-9);
        (FIRST + (1.0 - FIRST) * grown).min(1.0)
    }

    pub(super) fn memory(&self) -> Memory {
        let read = |place: &AtomicU32| f64::from(f32::from_bits(place.load(Relaxed)));
        let p = &self.published;
        Memory { short: read(&p.short), failed: read(&p.failed), outcomes: read(&p.outcomes) }
    }

    /// Logarithm of its time to first byte per unit of work, where enough is known.
    pub(super) fn speed_log(&self) -> Option<f64> {
        let log = f64::from(f32::from_bits(self.published.speed.load(Relaxed)));
        // Nothing was published yet where there is no moment.
        (load(&self.published.speed_at).is_some() && !log.is_nan()).then_some(log)
    }

    /// See [`super::Health::speed_factor`].
    pub(super) fn speed_factor(&self, reference: f64, now: Timestamp) -> f64 {
        match (self.speed_log(), load(&self.published.speed_at)) {
            (Some(log), Some(at)) => speed::factor(log, at, reference, now),
            _ => 1.0,
        }
    }

    /// Its last change of standing, and when that was. An endpoint that was tried in vain changed
    /// from ejected to ejected.
    pub fn last_change(&self) -> Option<(Change, Timestamp)> {
        self.machine.lock().last_change
    }

    /// Requests sent there of which nothing was heard yet.
    pub fn waiting(&self) -> u32 {
        self.machine.lock().silence.waiting()
    }
}

fn store(place: &AtomicU64, moment: Option<Timestamp>) {
    place.store(moment.map_or(0, |at| at.as_nanos().saturating_add(1)), Relaxed);
}

fn load(place: &AtomicU64) -> Option<Timestamp> {
    place.load(Relaxed).checked_sub(1).map(Timestamp::from_nanos)
}
