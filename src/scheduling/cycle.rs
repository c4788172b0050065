use std::cell::RefCell;
use std::sync::Arc;

use smallvec::SmallVec;

use super::plugin::{Candidate, Observer, Producer, ProfileHandler, ProfileResult};
use super::{Explanation, InferenceRequest, Profile, RequestData};
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Reservation};
use crate::error::{Code, DropReason, RequestError};

/// What every plugin may look at while one request is scheduled.
pub struct Cycle<'a> {
    pub request: &'a InferenceRequest,
    pub candidates: &'a [Candidate<'a>],
    /// What producers found; empty while they run.
    pub data: &'a RequestData,
    /// The time of this cycle; the same for all plugins.
    pub now: Timestamp,
    rng: &'a RefCell<fastrand::Rng>,
}

impl Cycle<'_> {
    /// Runs `f` with the cycle's source of randomness; seeded in simulations.
    pub fn with_rng<R>(&self, f: impl FnOnce(&mut fastrand::Rng) -> R) -> R {
        f(&mut self.rng.borrow_mut())
    }
}

/// What to tell of a decision beyond the decision itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecisionOptions {
    /// Keep the primary profile's scores of all candidates.
    pub scores: bool,
    /// Record every step.
    pub explanation: bool,
}

/// Where a request goes.
#[derive(Debug)]
pub struct Decision {
    /// In order of preference; the first is the target and holds the reservation.
    pub endpoints: SmallVec<[Arc<Endpoint>; 2]>,
    /// One per profile that picked, the primary one's first.
    pub reservations: SmallVec<[Reservation; 1]>,
    /// `(ip:port, weighted sum)` of every endpoint the primary profile scored, if wanted.
    pub scores: Vec<(Arc<str>, f64)>,
    pub explanation: Option<Box<Explanation>>,
    /// Blocks of the prompt believed cached on the target, and blocks in all, where known.
    pub prefix_blocks: Option<(u32, u32)>,
}

/// The pipeline of one configuration, ready to pick.
#[derive(Debug)]
pub struct Scheduler {
    pub profiles: Vec<Profile>,
    pub handler: Arc<dyn ProfileHandler>,
    /// In the order of their stages.
    pub producers: Vec<Arc<dyn Producer>>,
    pub observers: Vec<Arc<dyn Observer>>,
}

impl Scheduler {
    /// Picks among `candidates`, records what the pick implies and reserves the target.
    pub fn schedule(
        &self,
        request: &InferenceRequest,
        candidates: &[Candidate<'_>],
        now: Timestamp,
        rng: &RefCell<fastrand::Rng>,
        wants: DecisionOptions,
    ) -> Result<Decision, RequestError> {
        if candidates.is_empty() {
            return Err(RequestError::no_candidates());
        }
        let mut data = RequestData::default();
        let nothing_yet = RequestData::default();
        let cycle = Cycle { request, candidates, data: &nothing_yet, now, rng };
        for producer in &self.producers {
            producer.produce(&cycle, &mut data);
        }
        let cycle = Cycle { request, candidates, data: &data, now, rng };
        let mut explanation = wants.explanation.then(|| {
            Box::new(Explanation {
                candidates: candidates.iter().map(|c| c.endpoint.host_port.to_string()).collect(),
                profiles: Vec::new(),
            })
        });

        let mut results: SmallVec<[Option<ProfileResult>; 2]> =
            SmallVec::from_elem(None, self.profiles.len());
        loop {
            let next = self.handler.next(&cycle, &results);
            if next.is_empty() {
                break;
            }
            for i in next {
                results[i] =
                    Some(self.profiles[i].run(&cycle, wants.scores, explanation.as_deref_mut()));
            }
        }
        let primary = self.handler.primary(&results);
        let Some(result) = primary.and_then(|i| results[i].as_ref()) else {
            return Err(RequestError::new(Code::Internal, "failed to run any scheduler profile"));
        };
        if result.picks.is_empty() {
            return Err(RequestError::new(
                Code::ResourceExhausted,
                "no endpoints available for the given request",
            )
            .with_reason(DropReason::Saturated));
        }

        let targets: SmallVec<[u32; 2]> = std::iter::once(result)
            .chain(
                results
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| Some(*i) != primary)
                    .filter_map(|(_, r)| r.as_ref()),
            )
            .filter_map(|r| r.picks.first().copied())
            .collect();
        let target = targets[0];
        let prefix_blocks = data.first_prefix().map(|p| (p.blocks(target), p.total));
        if request.cached_only && prefix_blocks.is_none_or(|(cached, _)| cached == 0) {
            // Before anything is recorded: the prompt goes nowhere.
            return Err(RequestError::not_cached());
        }
        let reservations = targets
            .iter()
            .map(|&t| {
                let tokens = data.uncached_tokens.as_ref().map_or(0, |u| u[t as usize]);
                let endpoint = candidates[t as usize].endpoint.clone();
                Reservation::with_prompt(endpoint, tokens, data.prompt_tokens)
                    .holding_tokens(data.tokens_until_end)
            })
            .collect();
        for observer in &self.observers {
            observer.picked(&cycle, &data, &targets);
        }
        Ok(Decision {
            endpoints: result
                .picks
                .iter()
                .map(|&i| candidates[i as usize].endpoint.clone())
                .collect(),
            reservations,
            scores: result
                .scores
                .iter()
                .map(|&(i, s)| (candidates[i as usize].endpoint.host_port.clone(), s))
                .collect(),
            explanation,
            prefix_blocks,
        })
    }
}
