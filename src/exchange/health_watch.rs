//! Health at work in a pool: what exchanges come to is told to [`Health`], and its judgement is
//! put between the candidates and the scheduler.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::context::Randomness;
use super::{Ending, Outcome, OutcomeListener};
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Pool, Reservation, StateSlot};
use crate::health::{
    Attempt, Change, EndpointHealth, Failure, Health, HealthPolicy, Observation, PoolLoad, Scrape,
    Selection, substitute,
};
use crate::scheduling::{Candidate, Decision, HealthStep, InferenceRequest, LeftOut};

/// What a prompt takes beside its tokens, in tokens, as `expected-delay-scorer` has it.
const PROMPT_OVERHEAD: f64 = 200.0;

/// Told when an endpoint goes out of service, or comes back.
pub trait HealthListener: Debug + Send + Sync {
    fn changed(&self, endpoint: &Endpoint, change: &Change);
}

/// The health of one pool's endpoints.
#[derive(Debug)]
pub struct HealthWatch {
    health: Health,
    pool: Arc<Pool>,
    slot: StateSlot<EndpointHealth>,
    /// The endpoints are asked for their metrics, so missing ones mean something.
    has_metrics: bool,
    /// The gateway sends responses' bodies: one was seen.
    has_bodies: AtomicBool,
    randomness: Randomness,
    listener: Arc<dyn HealthListener>,
    /// Stands for an endpoint that has no place for its health, of which there is none.
    nobody: EndpointHealth,
}

/// What is left of the candidates.
pub(super) struct Screened<'a> {
    pub left: Vec<Candidate<'a>>,
    selection: Selection,
    probed: Option<&'a Arc<Endpoint>>,
}

impl HealthWatch {
    /// Watches the endpoints of `pool`, whose metrics are collected where `has_metrics`.
    pub fn new(
        policy: HealthPolicy,
        pool: Arc<Pool>,
        has_metrics: bool,
        listener: Arc<dyn HealthListener>,
    ) -> Self {
        Self {
            health: Health::new(policy),
            slot: pool.ids().claim_slot(),
            pool,
            has_metrics,
            has_bodies: AtomicBool::new(false),
            randomness: Randomness::default(),
            listener,
            nobody: EndpointHealth::default(),
        }
    }

    /// The health of an endpoint of the pool.
    pub fn of<'e>(&'e self, endpoint: &'e Endpoint) -> &'e EndpointHealth {
        endpoint.state.get_or_init(self.slot, EndpointHealth::default).unwrap_or(&self.nobody)
    }

    /// See [`Health::speed_factor`].
    pub fn speed(&self, endpoint: &Endpoint, now: Timestamp) -> f64 {
        self.health.speed_factor(self.of(endpoint), now)
    }

    /// Takes in how reading an endpoint's metrics went.
    pub fn scraped(&self, endpoint: &Endpoint, scrape: Scrape, now: Timestamp) {
        let in_flight = endpoint.in_flight.requests();
        let change = self.health.scraped(self.of(endpoint), scrape, in_flight, now);
        self.tell(endpoint, change);
    }

    fn tell(&self, endpoint: &Endpoint, change: Option<Change>) {
        if let Some(change) = change {
            self.listener.changed(endpoint, &change);
        }
    }

    /// Replaces signals that cannot be believed by estimates, and fills in the endpoints' speed.
    pub(super) fn correct(&self, candidates: &mut [Candidate<'_>], now: Timestamp) {
        for candidate in candidates.iter_mut() {
            candidate.speed = self.speed(candidate.endpoint, now);
        }
        let stale_after = self.health.policy().stale_after;
        let is_believed = |c: &Candidate<'_>| {
            !c.signals.is_stale(now, stale_after) && !self.of(c.endpoint).metrics_lie()
        };
        if !self.has_metrics || candidates.iter().all(is_believed) {
            return;
        }
        let believed = candidates.iter().filter(|c| is_believed(c));
        let load = PoolLoad::of(believed.map(|c| (c.signals, c.in_flight_requests)));
        for candidate in candidates.iter_mut().filter(|c| !is_believed(c)) {
            let in_flight = candidate.in_flight_requests;
            candidate.signals = substitute(candidate.signals, in_flight, &load);
        }
    }

    /// The candidates that a request may go to; `None`: all of them.
    pub(super) fn screen<'a>(
        &self,
        request: &InferenceRequest,
        candidates: &[Candidate<'a>],
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Option<Screened<'a>> {
        let healths = candidates.iter().map(|c| self.of(c.endpoint));
        // A request that is to be served from a cache or not at all tries nothing.
        let screening = self.health.screen(healths, !request.cached_only, now, rng);
        for (i, change) in screening.changes {
            let endpoint = candidates.get(i as usize).map(|c| c.endpoint);
            endpoint.into_iter().for_each(|endpoint| self.tell(endpoint, Some(change)));
        }
        let selection = screening.selection;
        let is_left = |i: u32| match &selection {
            Selection::All => true,
            Selection::Without(out) => out.binary_search(&i).is_err(),
            Selection::Probe(only) | Selection::Panic(only) => i == *only,
        };
        if selection == Selection::All {
            return None;
        }
        let left: Vec<Candidate<'a>> =
            (0..).zip(candidates).filter(|(i, _)| is_left(*i)).map(|(_, c)| *c).collect();
        let probed = match &selection {
            Selection::Probe(_) => left.first().map(|c| c.endpoint),
            _ => None,
        };
        Some(Screened { left, selection, probed })
    }

    /// The request goes to `target`, if anywhere.
    pub(super) fn settle(&self, screened: &Screened<'_>, target: Option<&Arc<Endpoint>>) {
        if let Some(probed) = screened.probed
            && target.is_none_or(|target| !Arc::ptr_eq(target, probed))
        {
            self.health.probe_not_sent(self.of(probed));
        }
    }

    pub(super) fn explain(
        &self,
        screened: &Screened<'_>,
        candidates: &[Candidate<'_>],
        all_the_same: bool,
    ) -> HealthStep {
        let host_port = |i: u32| candidates.get(i as usize).map(|c| c.endpoint.host_port.as_ref());
        let left_out = |&i: &u32| {
            let candidate = candidates.get(i as usize)?;
            Some(LeftOut {
                endpoint: candidate.endpoint.host_port.to_string(),
                standing: self.of(candidate.endpoint).standing().as_str(),
            })
        };
        match &screened.selection {
            Selection::All => HealthStep::default(),
            Selection::Without(out) => {
                let left_out = out.iter().filter_map(left_out).collect();
                HealthStep { left_out, all_the_same, tried: None }
            }
            Selection::Probe(i) | Selection::Panic(i) => {
                let tried = host_port(*i).map(str::to_owned);
                HealthStep { tried, all_the_same, left_out: Vec::new() }
            }
        }
    }

    /// Leaves out endpoints that are out of service, unless that are all.
    pub(super) fn leave_out_ill(&self, endpoints: &mut Vec<&Arc<Endpoint>>) {
        if endpoints.iter().any(|e| !self.of(e).is_out()) {
            endpoints.retain(|e| !self.of(e).is_out());
        }
    }

    /// What the exchange came to as far as the endpoint is concerned, from what is known when the
    /// answer begins or when it is over without one.
    fn judge(&self, so_far: &Outcome<'_>, is_over: bool) -> Observation {
        let status = so_far.response.status;
        if let Some(failure) = status.and_then(Failure::of_status) {
            return Observation::Failed(failure);
        }
        if status.is_some_and(|status| status >= 400) {
            return Observation::Rejected;
        }
        // Headers alone are no sign of work done: an engine that hangs may still send them.
        // Where the gateway sends no bodies, there is nothing else to go by.
        let is_answer = match so_far.ending {
            Ending::Complete => true,
            Ending::CutInResponse if !is_over => true,
            Ending::CutInResponse => status.is_some() && !self.has_bodies.load(Ordering::Relaxed),
            _ => false,
        };
        match so_far.decision {
            _ if !is_answer => Observation::Abandoned,
            // A list of models costs nothing, and says nothing of the engine.
            None => Observation::Rejected,
            Some(decision) => Observation::Answered { work: work(decision) },
        }
    }

    fn observe(&self, so_far: &Outcome<'_>, is_over: bool, now: Timestamp) {
        let (Some(endpoint), Some(sent_at)) = (so_far.endpoint, so_far.times.decided) else {
            return;
        };
        let mut attempt = Attempt::resumed(sent_at);
        let observation = self.judge(so_far, is_over);
        let snapshot = self.pool.snapshot();
        let pool = snapshot.endpoints.iter().map(|e| self.of(e));
        let change = self.randomness.with(|rng| {
            let health = self.of(endpoint);
            self.health.observe(health, &mut attempt, observation, pool, now, &mut rng.borrow_mut())
        });
        self.tell(endpoint, change);
    }
}

/// What the endpoint had to do until it answered, in tokens.
fn work(decision: &Decision) -> f64 {
    let reservation = decision.profiles.first().and_then(|profile| profile.reservation.as_ref());
    let (requests, tokens) = reservation.map_or((1, 0), Reservation::work);
    tokens as f64 + PROMPT_OVERHEAD * requests as f64
}

impl OutcomeListener for HealthWatch {
    fn routed(&self, so_far: &Outcome<'_>) {
        if let (Some(endpoint), Some(sent_at)) = (so_far.endpoint, so_far.times.decided) {
            _ = self.health.sent(self.of(endpoint), sent_at);
        }
    }

    fn answer_begins(&self, so_far: &Outcome<'_>) {
        self.has_bodies.store(true, Ordering::Relaxed);
        let now = so_far.times.first_byte.unwrap_or(so_far.times.ended);
        self.observe(so_far, false, now);
    }

    /// After a first byte everything was said: who cut the answer short after that, the endpoint
    /// or the client, the gateway does not tell.
    fn ended(&self, outcome: &Outcome<'_>) {
        if outcome.times.first_byte.is_none() {
            self.observe(outcome, true, outcome.times.ended);
        }
    }
}
