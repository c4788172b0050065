use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use smallvec::SmallVec;

use super::endpoint::EndpointHealth;
use super::failures::share_of;
use super::first_byte::FirstBytes;
use super::machine::Surroundings;
use super::observation::{Attempt, Change, Observation, Scrape, Standing};
use super::policy::HealthPolicy;
use super::speed;
use crate::clock::{Timestamp, nanos};

/// After so many answers what the pool has in common is worked out again.
const ANSWERS_PER_REVIEW: u64 = 32;

/// The health of a pool: what its endpoints have in common, and the decision whom a request may
/// be sent to. The endpoints' own health is handed in with each call.
#[derive(Debug)]
pub struct Health {
    policy: HealthPolicy,
    first_bytes: FirstBytes,
    answers: AtomicU64,
    /// Requests screened while an endpoint was out of service.
    requests: AtomicU64,
    /// Nanoseconds of silence that count as hanging; `u64::MAX` while that is not known.
    hang_limit: AtomicU64,
    /// Bits of the `f32` that endpoints' speeds are held against; not a number while unknown.
    reference: AtomicU32,
}

/// Whom a request may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Everyone.
    All,
    /// Everyone but these candidates, by index in ascending order.
    Without(SmallVec<[u32; 8]>),
    /// This candidate alone: it is tried whether it is back. If it is not picked after all, give
    /// the claim back with [`Health::probe_not_sent`].
    Probe(u32),
    /// This candidate alone: so many fail that those are used too.
    Panic(u32),
}

/// What [`Health::screen`] decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Screening {
    pub selection: Selection,
    /// Endpoints that were found to hang, by candidate index.
    pub changes: SmallVec<[(u32, Change); 1]>,
}

impl Screening {
    fn plain(selection: Selection) -> Self {
        Self { selection, changes: SmallVec::new() }
    }
}

impl Health {
    pub fn new(policy: HealthPolicy) -> Self {
        Self {
            policy,
            first_bytes: FirstBytes::default(),
            answers: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            hang_limit: AtomicU64::new(u64::MAX),
            reference: AtomicU32::new(f32::NAN.to_bits()),
        }
    }

    pub fn policy(&self) -> &HealthPolicy {
        &self.policy
    }

    /// Decides whom a request may be sent to. `may_probe` is false for requests that cannot try
    /// an endpoint. Lock-free while nobody is ill.
    pub fn screen<'e>(
        &self,
        candidates: impl Iterator<Item = &'e EndpointHealth> + Clone,
        may_probe: bool,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Screening {
        let limit = self.hang_limit();
        let mut count = 0;
        let mut is_any_ill = false;
        for endpoint in candidates.clone() {
            count += 1;
            let silent = |since| now.since(since) > limit;
            is_any_ill |= endpoint.standing() != Standing::Healthy
                || endpoint.silent_since().is_some_and(silent);
        }
        if !is_any_ill || count < 2 {
            return Screening::plain(Selection::All);
        }
        let changes = self.find_silent(candidates.clone(), now, rng);
        Screening { selection: self.choose(candidates, count, may_probe, now, rng), changes }
    }

    fn choose<'e>(
        &self,
        candidates: impl Iterator<Item = &'e EndpointHealth> + Clone,
        count: usize,
        may_probe: bool,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Selection {
        let requests = self.requests.fetch_add(1, Relaxed);
        let mut out: SmallVec<[u32; 8]> = SmallVec::new();
        for (i, endpoint) in (0..).zip(candidates.clone()).filter(|(_, e)| e.is_out()) {
            if may_probe && endpoint.is_probe_due(requests, now) && self.probe(endpoint, now) {
                return Selection::Probe(i);
            }
            out.push(i);
        }
        let may_leave_out = self.policy.may_leave_out(count);
        if out.len() == count {
            return Selection::All;
        }
        // More are out than may be: each request goes with such a chance to one of them that
        // those in excess get what round robin would give them, and no more, however fast they
        // fail. A pool that wrongly thinks most of itself ill finds out at once.
        if rng.usize(..count) < out.len().saturating_sub(may_leave_out) {
            return rng.choice(&out).map_or(Selection::All, |&i| Selection::Panic(i));
        }
        for (i, endpoint) in (0..).zip(candidates) {
            if out.len() < may_leave_out && endpoint.standing() == Standing::Returning {
                let share = endpoint.returning_share(self.policy.return_time, now);
                if rng.f64() >= share {
                    out.push(i);
                }
            }
        }
        if out.is_empty() {
            return Selection::All;
        }
        out.sort_unstable();
        Selection::Without(out)
    }

    fn probe(&self, endpoint: &EndpointHealth, now: Timestamp) -> bool {
        let around = self.surroundings(now, 0.0, 0.0);
        let mut taken = false;
        endpoint.step(&self.policy, |machine| {
            taken = machine.claim_probe(&around);
            None
        });
        taken
    }

    /// The request that [`Selection::Probe`] was told to was not sent there.
    pub fn probe_not_sent(&self, endpoint: &EndpointHealth) {
        endpoint.step(&self.policy, |machine| {
            machine.unclaim_probe();
            None
        });
    }

    /// Ejects those that have been silent for too long while most others that were asked were
    /// not: what befalls all is the fault of none.
    fn find_silent<'e>(
        &self,
        candidates: impl Iterator<Item = &'e EndpointHealth> + Clone,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> SmallVec<[(u32, Change); 1]> {
        let limit = self.hang_limit();
        let mut changes = SmallVec::new();
        for (i, endpoint) in (0..).zip(candidates.clone()).filter(|(_, e)| !e.is_out()) {
            let Some(since) = endpoint.silent_since() else { continue };
            let silent_for = now.since(since);
            if silent_for <= limit {
                continue;
            }
            let others = candidates.clone().filter(|e| !std::ptr::eq(*e, endpoint));
            let (mut asked, mut alive) = (0, 0);
            for other in others.filter(|e| !e.is_out()) {
                let is_alive = other.alive_at().is_some_and(|at| at > since);
                alive += usize::from(is_alive);
                asked += usize::from(is_alive || other.silent_since().is_some());
            }
            if alive == 0 || alive * 2 < asked {
                continue;
            }
            let around = self.surroundings(now, 0.0, rng.f64());
            let change = endpoint.step(&self.policy, |m| m.fell_silent(silent_for, &around));
            changes.extend(change.map(|change| (i, change)));
        }
        changes
    }

    /// A request is sent to `endpoint`.
    pub fn sent(&self, endpoint: &EndpointHealth, now: Timestamp) -> Attempt {
        endpoint.step(&self.policy, |machine| {
            machine.sent(now);
            None
        });
        Attempt::new(now)
    }

    /// Takes in what became of a request to `endpoint`. `pool` are all endpoints, it among them.
    pub fn observe<'e>(
        &self,
        endpoint: &EndpointHealth,
        attempt: &mut Attempt,
        observation: Observation,
        pool: impl Iterator<Item = &'e EndpointHealth> + Clone,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Option<Change> {
        if let (Observation::Acknowledged, true) = (observation, attempt.is_waiting()) {
            endpoint.alive(now);
        }
        if let (Observation::Answered { .. }, true) = (observation, attempt.is_waiting()) {
            endpoint.alive(now);
            self.first_bytes.note(now.since(attempt.sent_at));
            let answers = self.answers.fetch_add(1, Relaxed) + 1;
            if answers.is_multiple_of(ANSWERS_PER_REVIEW) {
                self.review(pool.clone());
            }
        }
        let others = match observation {
            Observation::Failed(_) | Observation::Abandoned => others_fail(endpoint, pool),
            Observation::Answered { .. } | Observation::Acknowledged | Observation::Rejected => 0.0,
        };
        let around = self.surroundings(now, others, rng.f64());
        endpoint.step(&self.policy, |machine| machine.observe(attempt, observation, &around))
    }

    /// Takes in how reading the metrics of `endpoint` went; `in_flight` requests of ours were
    /// there then.
    pub fn scraped(
        &self,
        endpoint: &EndpointHealth,
        scrape: Scrape,
        in_flight: i64,
        now: Timestamp,
    ) -> Option<Change> {
        let around = self.surroundings(now, 0.0, 0.0);
        endpoint.step(&self.policy, |machine| machine.scraped(scrape, in_flight, &around))
    }

    /// How fast an endpoint is beside the others, by its time to first byte per unit of work: 1
    /// for as fast as they or not known, 0.5 for one that takes twice as long; 0.1 at least.
    pub fn speed_factor(&self, endpoint: &EndpointHealth, now: Timestamp) -> f64 {
        let reference = f32::from_bits(self.reference.load(Relaxed));
        if reference.is_nan() { 1.0 } else { endpoint.speed_factor(f64::from(reference), now) }
    }

    fn review<'e>(&self, pool: impl Iterator<Item = &'e EndpointHealth>) {
        if let Some(usual) = self.first_bytes.quantile(0.99) {
            let limit = usual.mul_f64(self.policy.hang_factor.max(1.0)).max(self.policy.min_hang);
            self.hang_limit.store(nanos(limit), Relaxed);
        }
        let reference = speed::reference(pool.filter_map(EndpointHealth::speed_log));
        let bits = reference.map_or(f32::NAN, |log| log as f32).to_bits();
        self.reference.store(bits, Relaxed);
    }

    fn hang_limit(&self) -> Duration {
        Duration::from_nanos(self.hang_limit.load(Relaxed))
    }

    fn surroundings(&self, now: Timestamp, others: f64, random: f64) -> Surroundings<'_> {
        Surroundings {
            policy: &self.policy,
            now,
            requests: self.requests.load(Relaxed),
            others,
            hang_limit: self.hang_limit(),
            random,
        }
    }
}

/// What the others fail, of those in service; where none is, of all others.
fn others_fail<'e>(
    endpoint: &EndpointHealth,
    pool: impl Iterator<Item = &'e EndpointHealth> + Clone,
) -> f64 {
    let others = pool.filter(|e| !std::ptr::eq(*e, endpoint));
    let in_service = others.clone().filter(|e| !e.is_out());
    if in_service.clone().next().is_some() {
        share_of(in_service.map(EndpointHealth::memory))
    } else {
        share_of(others.map(EndpointHealth::memory))
    }
}
