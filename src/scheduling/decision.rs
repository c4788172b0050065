use std::sync::Arc;

use smallvec::SmallVec;

use super::{DecisionTrace, Directions, PrefixSource, RequestData};
use crate::endpoints::{Endpoint, Reservation};
use crate::error::RequestError;

/// What to tell of a decision beyond the decision itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecisionOptions {
    /// Keep the primary profile's scores of all candidates.
    pub scores: bool,
    /// Record every step.
    pub explanation: bool,
    /// Keep what producers found.
    pub data: bool,
}

/// What one profile chose.
#[derive(Debug)]
pub struct ProfileDecision {
    /// The profile's name in the configuration.
    pub profile: Arc<str>,
    /// In order of preference, at least one; the first is the target.
    pub endpoints: SmallVec<[Arc<Endpoint>; 2]>,
    /// What the request holds on the target; `None` when it has ended.
    pub reservation: Option<Reservation>,
}

impl ProfileDecision {
    /// The endpoint chosen first.
    pub fn target(&self) -> Option<&Arc<Endpoint>> {
        self.endpoints.first()
    }
}

/// How much of a prompt an endpoint is believed to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belief {
    pub source: PrefixSource,
    /// Blocks believed cached, and blocks of the prompt.
    pub cached: u32,
    pub total: u32,
    /// Tokens of a block.
    pub block_tokens: u32,
}

impl Belief {
    /// The share of the prompt that is believed cached, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.total == 0 { 0.0 } else { f64::from(self.cached) / f64::from(self.total) }
    }

    /// Tokens of the prompt that are believed cached.
    pub fn tokens(&self) -> u64 {
        u64::from(self.cached) * u64::from(self.block_tokens)
    }
}

/// Where a request goes.
#[derive(Debug)]
pub struct Decision {
    /// The profiles that chose, the primary one first: its endpoints are the destination.
    pub profiles: SmallVec<[ProfileDecision; 1]>,
    /// `(ip:port, weighted sum)` of every endpoint the primary profile scored, if wanted.
    pub scores: Vec<(Arc<str>, f64)>,
    /// Every step, where it was wanted.
    pub trace: Option<Arc<DecisionTrace>>,
    /// What each producer believed of the prompt at the target.
    pub beliefs: SmallVec<[Belief; 1]>,
    /// Blocks of the prompt believed cached on the target, and blocks in all, where known.
    pub prefix_blocks: Option<(u32, u32)>,
    /// What producers found, where it was wanted.
    pub data: RequestData,
    /// What leaves with the request beside the destination.
    pub directions: Directions,
}

impl Decision {
    /// The destination, in order of preference.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        self.profiles.first().map_or(&[], |primary| &primary.endpoints)
    }

    /// The endpoint that the request goes to.
    pub fn target(&self) -> Option<&Arc<Endpoint>> {
        self.endpoints().first()
    }

    /// What the profile of this name chose; `None` where it did not run or chose nothing.
    pub fn profile(&self, name: &str) -> Option<&ProfileDecision> {
        self.profiles.iter().find(|p| *p.profile == *name)
    }

    /// The answer begins: what is held for the prompt alone is let go of.
    pub fn answer_begins(&mut self) {
        let reservations = self.profiles.iter_mut().filter_map(|p| p.reservation.as_mut());
        reservations.for_each(Reservation::answer_begins);
    }

    /// The request has ended: everything that is held for it is let go of.
    pub fn release(&mut self) {
        self.profiles.iter_mut().for_each(|p| p.reservation = None);
    }
}

/// A request that goes nowhere, and why.
#[derive(Debug)]
pub struct Refusal {
    pub error: RequestError,
    /// What was looked at before it was refused, where explanations are wanted.
    pub trace: Option<Arc<DecisionTrace>>,
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self { error, trace: None }
    }
}
