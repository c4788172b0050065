//! The order of steps between a parsed request and its endpoint: admission, the candidates that
//! the gateway allows, scheduling. The reference calls this the director.

use std::cell::RefCell;
use std::sync::Arc;

use super::context::Randomness;
use super::{Admission, Admitted, Arrival, EndpointSubset, HealthWatch};
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Pool};
use crate::error::{DropReason, RequestError};
use crate::headers;
use crate::objectives::Objectives;
use crate::scheduling::{
    Ask, Candidate, Decision, DecisionOptions, DecisionTrace, InferenceRequest, Refusal,
    RequestData, Scheduler,
};

/// What decides for one pool.
#[derive(Debug)]
pub struct Director {
    pub pool: Arc<Pool>,
    pub scheduler: Scheduler,
    pub objectives: Arc<Objectives>,
    pub admission: Arc<dyn Admission>,
    /// Keeps requests away from endpoints that are ill; `None`: nobody is taken to be.
    pub health: Option<Arc<HealthWatch>>,
    /// `--disable-endpoint-subset-filter`: whatever the gateway allows, use the whole pool.
    pub ignore_subset: bool,
    /// What every decision is to tell.
    pub options: DecisionOptions,
    /// Share of the requests whose decisions are taken down step by step, where that is wanted at
    /// all; the others are where their headers ask for it.
    pub explained_share: f64,
    pub randomness: Randomness,
}

impl Director {
    /// Decides for `pool` where nothing else is said: no objectives, no health, no scores told.
    pub fn new(pool: Arc<Pool>, scheduler: Scheduler, admission: Arc<dyn Admission>) -> Self {
        Self {
            pool,
            scheduler,
            objectives: Arc::default(),
            admission,
            health: None,
            ignore_subset: false,
            options: DecisionOptions::default(),
            explained_share: 1.0,
            randomness: Randomness::default(),
        }
    }

    /// The model a request is to be sent on with: what rewriting rules say, else what the
    /// rewrite header says, else what the client asked for. With it the name of the rule's
    /// object, where one applied.
    pub fn target_model(
        &self,
        incoming: Option<&str>,
        header: Option<&str>,
    ) -> (Option<String>, Option<String>) {
        let ruled = self
            .randomness
            .with(|rng| self.objectives.rewrite(incoming.unwrap_or(""), &mut rng.borrow_mut()));
        let (target, rule) = match ruled {
            Some(ruled) => (Some(ruled.model), Some(ruled.by)),
            None => (header.or(incoming).map(str::to_owned), None),
        };
        (target.filter(|m| !m.is_empty()), rule)
    }

    /// Whether the request may go on.
    pub fn admit(
        &self,
        request: &Arc<InferenceRequest>,
        subset: Option<&EndpointSubset>,
        now: Timestamp,
    ) -> Admitted {
        let subset = self.effective(subset);
        self.admission.admit(Arrival { request, pool: &self.pool, subset, now })
    }

    /// Picks the endpoints of a request that was admitted, and reserves them.
    ///
    /// # Errors
    /// 503 where there is no endpoint to pick from, and the scheduler's
    /// ([`Scheduler::schedule`]).
    pub fn schedule(
        &self,
        request: &InferenceRequest,
        data: RequestData,
        subset: Option<&EndpointSubset>,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let snapshot = self.pool.snapshot();
        let mut candidates: Vec<Candidate<'_>> = match self.effective(subset) {
            None => snapshot.endpoints.iter().map(Candidate::new).collect(),
            Some(subset) => {
                subset.of(&snapshot.endpoints).into_iter().map(Candidate::new).collect()
            }
        };
        let mut decided = self.pick_healthy(request, &mut candidates, data, now);
        with_trace(&mut decided, |trace| trace.pool_size = snapshot.endpoints.len());
        decided
    }

    /// Picks among the candidates whose health allows it.
    fn pick_healthy(
        &self,
        request: &InferenceRequest,
        candidates: &mut [Candidate<'_>],
        data: RequestData,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let Some(watch) = &self.health else { return self.pick(request, candidates, data, now) };
        watch.correct(candidates, now);
        let candidates = &*candidates;
        let screened = self
            .randomness
            .with(|rng| watch.screen(request, candidates, now, &mut rng.borrow_mut()));
        let Some(screened) = screened else { return self.pick(request, candidates, data, now) };
        let mut decided = self.pick(request, &screened.left, data.clone(), now);
        // Those left may all be of the wrong kind, prefill workers for instance: better one that
        // is ill than none.
        let all_the_same = decided.as_ref().is_err_and(is_for_want_of_endpoints);
        if all_the_same {
            decided = self.pick(request, candidates, data, now);
        }
        watch.settle(&screened, decided.as_ref().ok().and_then(Decision::target));
        let health = || Box::new(watch.explain(&screened, candidates, all_the_same));
        with_trace(&mut decided, |trace| trace.health = Some(health()));
        decided
    }

    fn pick(
        &self,
        request: &InferenceRequest,
        candidates: &[Candidate<'_>],
        data: RequestData,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        self.randomness.with(|rng: &RefCell<fastrand::Rng>| {
            let explanation = self.options.explanation && self.explains(request, rng);
            let options = DecisionOptions { explanation, ..self.options };
            self.scheduler.schedule(Ask { request, candidates, data, now, rng, options })
        })
    }

    /// Whether the request's decision is to be taken down step by step.
    fn explains(&self, request: &InferenceRequest, rng: &RefCell<fastrand::Rng>) -> bool {
        self.explained_share >= 1.0
            || request.explained
            || request.headers.get_raw(headers::EXPLAIN).is_some()
            || rng.borrow_mut().f64() < self.explained_share
    }

    /// Any allowed endpoint, for requests without a body (`GET /v1/models`).
    ///
    /// # Errors
    /// 503 where there is none. The reference answers 500 here and ignores the subset.
    pub fn any_endpoint(
        &self,
        subset: Option<&EndpointSubset>,
    ) -> Result<Arc<Endpoint>, RequestError> {
        let snapshot = self.pool.snapshot();
        let mut allowed: Vec<&Arc<Endpoint>> = match self.effective(subset) {
            None => snapshot.endpoints.iter().collect(),
            Some(subset) => subset.of(&snapshot.endpoints),
        };
        if let Some(watch) = &self.health {
            watch.leave_out_ill(&mut allowed);
        }
        let choose =
            |rng: &RefCell<fastrand::Rng>| rng.borrow_mut().choice(&allowed).map(|e| Arc::clone(e));
        self.randomness.with(choose).ok_or_else(RequestError::no_candidates)
    }

    fn effective<'s>(&self, subset: Option<&'s EndpointSubset>) -> Option<&'s EndpointSubset> {
        subset.filter(|_| !self.ignore_subset)
    }
}

/// Adds to the trace of a decision that nobody else has seen yet.
fn with_trace(decided: &mut Result<Decision, Refusal>, add: impl FnOnce(&mut DecisionTrace)) {
    let trace = match decided {
        Ok(decision) => &mut decision.trace,
        Err(refusal) => &mut refusal.trace,
    };
    if let Some(trace) = trace.as_mut().and_then(Arc::get_mut) {
        add(trace);
    }
}

/// True for the refusals of a scheduler that had candidates and found none of them fit.
fn is_for_want_of_endpoints(refusal: &Refusal) -> bool {
    matches!(refusal.error.drop_reason, Some(DropReason::NoEndpoints | DropReason::Saturated))
}
