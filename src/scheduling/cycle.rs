use std::cell::RefCell;

use super::{Candidate, InferenceRequest, ProfileResults, RequestData};
use crate::clock::Timestamp;

/// What every plugin may look at while one request is scheduled.
#[derive(Clone, Copy)]
pub struct Cycle<'a> {
    pub request: &'a InferenceRequest,
    pub candidates: &'a [Candidate<'a>],
    /// What producers found. A producer sees here what those before it found in
    /// [`super::Producer::produce`]'s own argument; this is empty then.
    pub data: &'a RequestData,
    /// The profiles that have run so far.
    pub results: ProfileResults<'a>,
    /// The candidate that an earlier stage of the request chose, which the one to be chosen now
    /// will work with.
    pub peer: Option<u32>,
    /// The time of this cycle; the same for all plugins.
    pub now: Timestamp,
    pub(super) rng: &'a RefCell<fastrand::Rng>,
}

impl Cycle<'_> {
    /// Runs `f` with the cycle's source of randomness; seeded in simulations.
    pub fn with_rng<R>(&self, f: impl FnOnce(&mut fastrand::Rng) -> R) -> R {
        f(&mut self.rng.borrow_mut())
    }
}
