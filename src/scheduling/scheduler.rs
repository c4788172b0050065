use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use super::plugin_times::{Laps, ScheduleTimers};
use super::trace::Plan;
use super::{
    Admitter, Belief, Candidate, Cycle, Decision, DecisionOptions, DecisionTrace, Directions,
    InferenceRequest, PickObserver, Picked, PrefixMatch, Producer, Profile, ProfileDecision,
    ProfileHandler, ProfileResult, ProfileResults, Refusal, RequestData, RequestHook, Screener,
    Target, TokenLoad,
};
use crate::clock::Timestamp;
use crate::endpoints::{Reservation, ReservationTerms};
use crate::error::{Code, DropReason, RequestError};

/// The pipeline of one configuration, ready to pick.
#[derive(Debug)]
pub struct Scheduler {
    pub profiles: Vec<Profile>,
    pub handler: Arc<dyn ProfileHandler>,
    pub screeners: Vec<Arc<dyn Screener>>,
    /// In the order of what they read and give.
    pub producers: Vec<Arc<dyn Producer>>,
    pub admitters: Vec<Arc<dyn Admitter>>,
    pub observers: Vec<Arc<dyn PickObserver>>,
    pub request_hooks: Vec<Arc<dyn RequestHook>>,
    /// Measures what the handler and the profiles' plugins take; `None`: nobody does.
    pub timers: Option<ScheduleTimers>,
    /// What the steps are called, for traces.
    pub(super) plan: OnceLock<Arc<Plan>>,
}

/// What is asked of the scheduler.
#[derive(Debug)]
pub struct Ask<'a> {
    pub request: &'a InferenceRequest,
    pub candidates: &'a [Candidate<'a>],
    /// What is known of the request before producers run.
    pub data: RequestData,
    pub now: Timestamp,
    pub rng: &'a RefCell<fastrand::Rng>,
    pub options: DecisionOptions,
}

type Targets = SmallVec<[Target; 2]>;

impl Scheduler {
    /// A pipeline of profiles alone, without hooks.
    pub fn new(profiles: Vec<Profile>, handler: Arc<dyn ProfileHandler>) -> Self {
        Self {
            profiles,
            handler,
            screeners: Vec::new(),
            producers: Vec::new(),
            admitters: Vec::new(),
            observers: Vec::new(),
            request_hooks: Vec::new(),
            timers: None,
            plan: OnceLock::new(),
        }
    }

    /// Picks among the candidates, records what the pick implies and reserves the targets.
    ///
    /// # Errors
    /// 503 where there is no candidate, 429 where the profiles' filters leave none, 412 where the
    /// request is to be served from a cache that the target does not have, whatever an admitter
    /// or the profile handler says, and 500 where no profile runs.
    pub fn schedule(&self, ask: Ask<'_>) -> Result<Decision, Refusal> {
        if !self.screeners.is_empty() {
            let screened = self.screen(&ask);
            let out = screened_out(&ask, &screened);
            return self.schedule_screened(Ask { candidates: &screened, ..ask }, out);
        }
        self.schedule_screened(ask, Vec::new())
    }

    /// The candidates that every screener leaves.
    fn screen<'a>(&self, ask: &Ask<'a>) -> Vec<Candidate<'a>> {
        let mut kept: Vec<u32> = (0..ask.candidates.len() as u32).collect();
        for screener in &self.screeners {
            screener.screen(ask.request, ask.candidates, ask.now, &mut kept);
        }
        kept.into_iter().filter_map(|i| ask.candidates.get(i as usize).copied()).collect()
    }

    fn schedule_screened(
        &self,
        ask: Ask<'_>,
        screened_out: Vec<Arc<str>>,
    ) -> Result<Decision, Refusal> {
        let Ask { request, candidates, mut data, now, rng, options } = ask;
        if candidates.is_empty() {
            return Err(RequestError::no_candidates().into());
        }
        let nothing_yet = RequestData::default();
        let results = ProfileResults::NONE;
        let cycle =
            Cycle { request, candidates, data: &nothing_yet, results, peer: None, now, rng };
        for producer in &self.producers {
            producer.produce(&cycle, &mut data);
        }
        let cycle = Cycle { data: &data, ..cycle };
        let mut trace = options.explanation.then(|| {
            let plan = || Arc::new(Plan::of(&self.profiles, self.timers.as_ref()));
            let plan = self.plan.get_or_init(plan);
            DecisionTrace::begin(plan.clone(), candidates, screened_out, &data)
        });
        let decided = self.decide(&cycle, options, trace.as_mut());
        let trace = trace.map(Arc::new);
        match decided {
            Ok(decision) => {
                let data = if options.data { data } else { RequestData::default() };
                Ok(Decision { trace, data, ..decision })
            }
            Err(error) => Err(Refusal { error, trace }),
        }
    }

    fn decide(
        &self,
        cycle: &Cycle<'_>,
        options: DecisionOptions,
        mut trace: Option<&mut DecisionTrace>,
    ) -> Result<Decision, RequestError> {
        for admitter in &self.admitters {
            admitter.admit(cycle)?;
        }
        let mut by_index: SmallVec<[Option<ProfileResult>; 2]> =
            SmallVec::from_elem(None, self.profiles.len());
        let laps = &mut Laps::begin(self.timers.as_ref(), cycle.now);
        loop {
            let next = self.handler.next(&self.with_results(cycle, &by_index));
            laps.lap(|timers| Some(&timers.picks_profiles));
            let mut ran = false;
            for i in next {
                let (Some(profile), Some(None)) = (self.profiles.get(i), by_index.get(i)) else {
                    continue;
                };
                let cycle = self.with_results(cycle, &by_index);
                let cycle = Cycle { peer: self.handler.peer(&cycle), ..cycle };
                let result = profile.run(&cycle, options.scores, i, laps, trace.as_deref_mut());
                by_index[i] = Some(result);
                ran = true;
            }
            if !ran {
                break;
            }
        }
        let cycle = &self.with_results(cycle, &by_index);
        if cycle.results.is_empty() {
            let fault = || RequestError::new(Code::Internal, "failed to run any scheduler profile");
            return Err(self.handler.runs_nothing().unwrap_or_else(fault));
        }
        let mut directions = Directions::default();
        let primary = self.handler.conclude(cycle, &mut directions);
        laps.lap(|timers| Some(&timers.concludes));
        let primary = primary?;
        let targets = self.targets(cycle, primary)?;
        let belief = |p: &PrefixMatch| Belief {
            source: p.source,
            cached: p.blocks(targets[0].candidate),
            total: p.total,
            block_tokens: p.block_tokens(),
        };
        let beliefs: SmallVec<[Belief; 1]> = cycle.data.all().map(belief).collect();
        let prefix_blocks = beliefs.first().map(|belief| (belief.cached, belief.total));
        if cycle.request.cached_only && prefix_blocks.is_none_or(|(cached, _)| cached == 0) {
            // Before anything is recorded: the prompt goes nowhere.
            return Err(RequestError::not_cached());
        }
        // Reserved before anybody takes note, so that the next request sees it.
        let profiles = targets.iter().map(|target| {
            let terms = terms(cycle.data, target.candidate);
            let terms = self.handler.reserve(cycle, target.profile, terms);
            self.profile_decision(cycle, target.profile, target.candidate, terms)
        });
        let profiles = profiles.collect();
        let picked = Picked { targets: &targets };
        for observer in &self.observers {
            observer.picked(cycle, picked);
        }
        for hook in &self.request_hooks {
            hook.before_request(cycle, picked, &mut directions);
        }
        let scores = cycle.results.get(primary).map(|r| r.scores.as_slice()).unwrap_or_default();
        let host_port = |i: u32| cycle.candidates[i as usize].endpoint.host_port.clone();
        Ok(Decision {
            profiles,
            scores: scores.iter().map(|&(i, score)| (host_port(i), score)).collect(),
            trace: None,
            beliefs,
            prefix_blocks,
            data: RequestData::default(),
            directions,
        })
    }

    /// The first pick of every profile that succeeded, the primary one's first.
    fn targets(&self, cycle: &Cycle<'_>, primary: usize) -> Result<Targets, RequestError> {
        let results = cycle.results;
        if results.target(primary).is_none() {
            return Err(RequestError::no_endpoint_left());
        }
        let others = (0..results.len()).filter(|&i| i != primary);
        let target = |profile: usize| {
            let candidate = results.target(profile)?;
            let holds_prompt = self.handler.holds_prompt(profile);
            Some(Target { profile, candidate, holds_prompt })
        };
        Ok(std::iter::once(primary).chain(others).filter_map(target).collect())
    }

    fn with_results<'a>(
        &'a self,
        cycle: &Cycle<'a>,
        by_index: &'a [Option<ProfileResult>],
    ) -> Cycle<'a> {
        Cycle { results: ProfileResults { profiles: &self.profiles, by_index }, ..*cycle }
    }

    fn profile_decision(
        &self,
        cycle: &Cycle<'_>,
        profile: usize,
        target: u32,
        terms: ReservationTerms,
    ) -> ProfileDecision {
        let endpoint = |i: u32| cycle.candidates[i as usize].endpoint.clone();
        let picks = cycle.results.get(profile).map(|r| r.picks.as_slice()).unwrap_or_default();
        let request = cycle.request;
        let (fairness_id, priority) = (request.fairness_id(), request.priority);
        let held = Reservation::of(endpoint(target), terms, fairness_id, priority);
        ProfileDecision {
            profile: self.profiles[profile].name.clone(),
            endpoints: picks.iter().map(|&i| endpoint(i)).collect(),
            reservation: Some(held),
        }
    }
}

/// What a request that one endpoint serves alone holds there.
fn terms(data: &RequestData, target: u32) -> ReservationTerms {
    data.first::<TokenLoad>().map_or(ReservationTerms::default(), |load| ReservationTerms {
        tokens: load.uncached(target),
        prompt_tokens: load.prompt,
        tokens_until_end: load.until_end,
        until_answer: false,
    })
}

/// Those that a trace is to say were screened out.
fn screened_out(ask: &Ask<'_>, left: &[Candidate<'_>]) -> Vec<Arc<str>> {
    if !ask.options.explanation || left.len() == ask.candidates.len() {
        return Vec::new();
    }
    let is_left = |c: &&Candidate<'_>| left.iter().any(|l| Arc::ptr_eq(l.endpoint, c.endpoint));
    let out = ask.candidates.iter().filter(|c| !is_left(c));
    out.map(|c| c.endpoint.host_port.clone()).collect()
}

impl RequestError {
    /// A profile's filters left nothing to pick from.
    pub fn no_endpoint_left() -> Self {
        Self::new(Code::ResourceExhausted, "no endpoints available for the given request")
            .with_reason(DropReason::Saturated)
    }
}
