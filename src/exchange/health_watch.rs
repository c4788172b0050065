//! Health at work in a pool: what exchanges come to is told to [`Health`], and its judgement is
//! put between the candidates and the scheduler.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::context::Randomness;
use super::{BodySight, Ending, Outcome, OutcomeListener};
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

    /// The same with chance from elsewhere, so that a simulation repeats itself.
    #[must_use]
    pub fn with_randomness(self, randomness: Randomness) -> Self {
        Self { randomness, ..self }
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
        let is_unseen = so_far.response.body != BodySight::Seen;
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
            Some(_) if is_unseen => Observation::Acknowledged,
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

    fn goes_by_unseen(&self, so_far: &Outcome<'_>) {
        self.observe(so_far, false, so_far.times.response.unwrap_or(so_far.times.ended));
    }

    fn answer_begins(&self, so_far: &Outcome<'_>) {
        self.has_bodies.store(true, Ordering::Relaxed);
        if so_far.response.body != BodySight::Seen {
            return;
        }
        let now = so_far.times.first_byte.unwrap_or(so_far.times.ended);
        self.observe(so_far, false, now);
    }

    /// After a first byte everything was said: who cut the answer short after that, the endpoint
    /// or the client, the gateway does not tell.
    fn ended(&self, outcome: &Outcome<'_>) {
        if outcome.times.first_byte.is_none() && outcome.response.body == BodySight::Seen {
            self.observe(outcome, true, outcome.times.ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::endpoints::test_support::spec;
    use crate::endpoints::{EndpointSpec, SignalValues};
    use crate::exchange::{Director, EndpointSubset, Kept, Response, ShedWhenSaturated, Times};
    use crate::health::Standing;
    use crate::loader::{LoadOptions, load};
    use crate::scheduling::{DecisionOptions, Directions, RequestData};

    #[derive(Debug)]
    struct Silent;

    impl HealthListener for Silent {
        fn changed(&self, _: &Endpoint, _: &Change) {}
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::START + Duration::from_millis(ms)
    }

    fn watch(specs: Vec<EndpointSpec>) -> (Arc<Pool>, Arc<HealthWatch>) {
        let pool = Arc::new(Pool::new());
        pool.replace(specs);
        let policy = HealthPolicy::default();
        (pool.clone(), Arc::new(HealthWatch::new(policy, pool, true, Arc::new(Silent))))
    }

    fn four() -> Vec<EndpointSpec> {
        (1..=4).map(|n| spec(&format!("w{n}"), n)).collect()
    }

    fn decision() -> Decision {
        Decision {
            profiles: Default::default(),
            scores: Vec::new(),
            trace: None,
            beliefs: Default::default(),
            prefix_blocks: None,
            data: Default::default(),
            directions: Directions::default(),
        }
    }

    /// An exchange with an endpoint from its pick to its end.
    struct Seen {
        status: Option<u16>,
        first_byte: bool,
        ending: Ending,
        is_inference: bool,
    }

    impl Seen {
        fn tell(&self, watch: &HealthWatch, endpoint: &Arc<Endpoint>, now: Timestamp) {
            let decision = decision();
            let response = Response { status: self.status, ..Response::default() };
            let mut outcome = Outcome {
                request: &InferenceRequest::default(),
                has_body: true,
                endpoint: Some(endpoint),
                decision: self.is_inference.then_some(&decision),
                refusal: None,
                rewritten_by: None,
                times: Times { decided: Some(now), ..Times::default() },
                response: &response,
                ending: Ending::CutInResponse,
                kept: &Kept::default(),
            };
            watch.routed(&outcome);
            if self.first_byte {
                outcome.times.first_byte = Some(now + Duration::from_millis(1));
                watch.answer_begins(&outcome);
            }
            outcome.ending = self.ending;
            outcome.times.ended = now + Duration::from_millis(2);
            watch.ended(&outcome);
        }
    }

    const FAILED: Seen =
        Seen { status: Some(503), first_byte: true, ending: Ending::Complete, is_inference: true };

    fn eject(watch: &HealthWatch, endpoint: &Arc<Endpoint>) {
        (0..3).for_each(|i| FAILED.tell(watch, endpoint, at(i)));
        assert!(watch.of(endpoint).is_out());
    }

    #[test]
    fn what_ten_exchanges_of_a_kind_do() {
        use Ending::*;
        // Status, whether a byte of the body came, how it ended, whether it was an inference
        // request; whether the endpoint is ejected.
        let cases = [
            (Some(200), true, Complete, true, false),
            (Some(200), true, CutInResponse, true, false),
            (None, true, Complete, true, false),
            (Some(500), true, Complete, true, true),
            (Some(503), false, Complete, true, true),
            (Some(504), false, CutInResponse, true, true),
            (Some(500), true, Complete, false, true),
            (Some(501), true, Complete, true, false),
            (Some(429), true, Complete, true, false),
            (Some(404), false, Complete, true, false),
            (None, false, CutBeforeResponse, true, false),
            (Some(200), false, CutInResponse, true, false),
            (None, false, GatewayAlone, true, false),
        ];
        for (status, first_byte, ending, is_inference, ejected) in cases {
            let (pool, watch) = watch(four());
            let endpoint = &pool.snapshot().endpoints[0];
            let seen = Seen { status, first_byte, ending, is_inference };
            (0..10).for_each(|i| seen.tell(&watch, endpoint, at(i * 10)));
            let what = format!("{status:?}, body {first_byte}, {ending:?}, {is_inference}");
            assert_eq!(watch.of(endpoint).is_out(), ejected, "{what}");
            assert_eq!(watch.of(endpoint).waiting(), 0, "{what}");
        }
    }

    #[test]
    fn headers_of_an_answer_that_goes_by_unseen_are_a_sign_of_life() {
        // Status, and whether ten of them get the endpoint ejected.
        for (status, ejected) in [(200, false), (404, false), (503, true)] {
            let (pool, watch) = watch(four());
            let endpoint = &pool.snapshot().endpoints[0];
            let response =
                Response { status: Some(status), body: BodySight::Unseen, ..Response::default() };
            let (decision, request, kept) =
                (decision(), InferenceRequest::default(), Kept::default());
            for n in 0..10 {
                let outcome = |ending| Outcome {
                    request: &request,
                    has_body: true,
                    endpoint: Some(endpoint),
                    decision: Some(&decision),
                    refusal: None,
                    rewritten_by: None,
                    times: Times {
                        decided: Some(at(n * 10)),
                        response: Some(at(n * 10 + 1)),
                        ..Times::default()
                    },
                    response: &response,
                    ending,
                    kept: &kept,
                };
                watch.routed(&outcome(Ending::CutInResponse));
                watch.goes_by_unseen(&outcome(Ending::CutInResponse));
                assert_eq!(watch.of(endpoint).waiting(), 0, "{status}: it has answered");
                watch.ended(&outcome(Ending::Unobserved));
            }
            assert_eq!(watch.of(endpoint).is_out(), ejected, "{status}");
            assert_eq!(watch.of(endpoint).waiting(), 0, "{status}");
            // Nothing is learned of how fast it is.
            assert!((watch.speed(endpoint, at(200)) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn headers_alone_are_an_answer_only_where_no_bodies_are_sent() {
        for (bodies, expected) in [(false, Standing::Returning), (true, Standing::Ejected)] {
            let (pool, watch) = watch(four());
            let endpoint = &pool.snapshot().endpoints[0];
            let failed = Seen { first_byte: bodies, ..FAILED };
            (0..3).for_each(|i| failed.tell(&watch, endpoint, at(i)));
            let headers = Seen {
                status: Some(200),
                first_byte: false,
                ending: Ending::CutInResponse,
                is_inference: true,
            };
            headers.tell(&watch, endpoint, at(5000));
            assert_eq!(watch.of(endpoint).standing(), expected, "bodies {bodies}");
        }
    }

    fn director(pool: &Arc<Pool>, watch: &Arc<HealthWatch>, config: &str) -> Director {
        let (pipeline, found) = load("test", Some(config), &LoadOptions::default(), pool.ids());
        let pipeline = pipeline.unwrap_or_else(|| panic!("{found}"));
        let admission = Arc::new(ShedWhenSaturated(pipeline.saturation));
        Director {
            health: Some(watch.clone()),
            options: DecisionOptions { explanation: true, ..DecisionOptions::default() },
            randomness: Randomness::seeded(1),
            ..Director::new(pool.clone(), pipeline.scheduler, admission)
        }
    }

    fn schedule(director: &Director, subset: Option<&EndpointSubset>) -> Decision {
        let request = InferenceRequest::default();
        let decided = director.schedule(&request, RequestData::default(), subset, at(100));
        decided.unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    #[test]
    fn an_ejected_endpoint_is_no_candidate_and_the_explanation_says_so() {
        let (pool, watch) = watch(four());
        let ill = pool.snapshot().endpoints[2].clone();
        eject(&watch, &ill);
        let director = director(&pool, &watch, "");
        for _ in 0..20 {
            let decision = schedule(&director, None);
            assert!(!Arc::ptr_eq(decision.target().unwrap(), &ill));
            let trace = decision.trace.unwrap();
            let health = trace.health().unwrap();
            let left_out = &health.left_out[0];
            assert_eq!((&*left_out.endpoint, left_out.standing), (&*ill.host_port, "ejected"));
            assert!(!Arc::ptr_eq(&director.any_endpoint(None).unwrap(), &ill));
        }
        let mut only = EndpointSubset::default();
        only.allow(&ill.host_port);
        let decision = schedule(&director, Some(&only));
        assert!(Arc::ptr_eq(decision.target().unwrap(), &ill), "nobody else is allowed");
        assert!(Arc::ptr_eq(&director.any_endpoint(Some(&only)).unwrap(), &ill));
    }

    #[test]
    fn an_ejected_endpoint_is_used_where_no_other_is_of_its_kind() {
        let role = |n: u8, role: &str| {
            let labels = [("llm-d.ai/role".to_owned(), role.to_owned())].into();
            EndpointSpec { placement: Default::default(), labels, ..spec(&format!("w{n}"), n) }
        };
        let specs = vec![role(1, "decode"), role(2, "prefill"), role(3, "prefill")];
        let (pool, watch) = watch(specs);
        let decode = pool.snapshot().endpoints[0].clone();
        eject(&watch, &decode);
        let config = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, plugins: [\
            {type: decode-filter}], schedulingProfiles: [{name: p, plugins: [\
            {pluginRef: decode-filter}]}]}";
        let decision = schedule(&director(&pool, &watch, config), None);
        assert!(Arc::ptr_eq(decision.target().unwrap(), &decode));
        assert!(decision.trace.unwrap().health().unwrap().all_the_same);
    }

    #[test]
    fn stale_signals_are_replaced_where_metrics_are_collected() {
        let (pool, watch) = watch(four());
        let snapshot = pool.snapshot();
        for endpoint in &snapshot.endpoints[1..] {
            let updated_at = Some(at(10_000));
            let signals =
                SignalValues { waiting: 6, kv_usage: 0.5, updated_at, ..Default::default() };
            endpoint.signals.store(signals);
        }
        let mut candidates: Vec<Candidate<'_>> =
            snapshot.endpoints.iter().map(Candidate::new).collect();
        watch.correct(&mut candidates, at(10_500));
        let seen = |i: usize| (candidates[i].signals.waiting, candidates[i].signals.kv_usage);
        assert_eq!((seen(0), seen(1)), ((6, 0.5), (6, 0.5)));
        assert_eq!(candidates[0].signals.updated_at, None, "it is not taken for fresh");
    }
}
