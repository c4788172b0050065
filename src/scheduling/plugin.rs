use std::fmt::Debug;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Cycle, RequestData};
use crate::endpoints::{Endpoint, SignalValues};

/// One endpoint of the snapshot as this request sees it: everything read once, so that all
/// plugins of the cycle agree.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Borrowed from the snapshot: taking a count of each endpoint for each request would make
    /// all cores write the same cache lines.
    pub endpoint: &'a Arc<Endpoint>,
    pub signals: SignalValues,
    /// Requests we sent there that have not ended.
    pub in_flight_requests: i64,
    /// Those of them whose answer has not begun.
    pub in_flight_unanswered: i64,
    /// Tokens we sent there that have not been worked on.
    pub in_flight_tokens: i64,
    /// Prompt tokens of all requests we sent there that have not ended.
    pub in_flight_prompt_tokens: i64,
}

impl<'a> Candidate<'a> {
    pub fn new(endpoint: &'a Arc<Endpoint>) -> Self {
        Self {
            signals: endpoint.signals.load(),
            in_flight_requests: endpoint.in_flight.requests(),
            in_flight_unanswered: endpoint.in_flight.unanswered(),
            in_flight_tokens: endpoint.in_flight.tokens(),
            in_flight_prompt_tokens: endpoint.in_flight.prompt_tokens(),
            endpoint,
        }
    }
}

/// Candidate indices in picker order; the first is the target, the rest are fallbacks.
pub type Picks = SmallVec<[u32; 2]>;

/// Works out something that several plugins need, once per request, before any profile runs.
pub trait Producer: Debug + Send + Sync {
    /// Producers run in this order; one that reads another's result has the higher number.
    fn stage(&self) -> u8 {
        0
    }

    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData);
}

/// Narrows the candidates of a profile.
pub trait Filter: Debug + Send + Sync {
    /// Keeps in `candidates` (indices into [`Cycle::candidates`]) those that pass, in order.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>);
}

/// Rates the candidates of a profile.
pub trait Scorer: Debug + Send + Sync {
    /// Writes the score of `candidates[i]` to `scores[i]`, which comes in as 0. The profile
    /// limits scores to [0, 1] and multiplies by the weight.
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]);
}

/// Chooses among scored candidates.
pub trait Picker: Debug + Send + Sync {
    /// `totals[i]` is the weighted sum for `candidates[i]`; there is at least one.
    fn pick(&self, cycle: &Cycle<'_>, candidates: &[u32], totals: &[f64]) -> Picks;
}

/// What one profile came to.
#[derive(Clone, Debug, Default)]
pub struct ProfileResult {
    /// Empty where the profile failed (a filter left nothing).
    pub picks: Picks,
    /// What its scorers gave, by candidate; kept only where somebody asked for scores.
    pub scores: Vec<(u32, f64)>,
}

/// Says which profiles run for a request, and which one's result is the destination.
pub trait ProfileHandler: Debug + Send + Sync {
    /// Asked again and again, with the results so far (by profile index), until it returns none.
    fn next(&self, cycle: &Cycle<'_>, results: &[Option<ProfileResult>]) -> SmallVec<[usize; 2]>;

    /// The profile whose picks are the destination.
    fn primary(&self, results: &[Option<ProfileResult>]) -> Option<usize>;

    /// Checks at load time how many profiles there are; the message goes to the user.
    fn check_profiles(&self, count: usize) -> Result<(), String>;
}

/// Takes note of what was picked, after the pick and before the request leaves.
pub trait Observer: Debug + Send + Sync {
    /// `targets` are the first picks of every profile that succeeded, the primary one's first.
    fn picked(&self, cycle: &Cycle<'_>, data: &RequestData, targets: &[u32]);
}
