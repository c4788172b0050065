//! The parts of a scheduling profile, and who says which profiles run.

use std::fmt::Debug;

use smallvec::SmallVec;

use super::{Cycle, Directions, Profile};
use crate::config::{Position, Severity};
use crate::endpoints::ReservationTerms;
use crate::error::RequestError;

/// Candidate indices in picker order; the first is the target, the rest are fallbacks.
pub type Picks = SmallVec<[u32; 2]>;

/// Narrows the candidates of a profile.
pub trait Filter: Debug + Send + Sync {
    /// Keeps in `candidates` (indices into [`Cycle::candidates`]) those that pass, in order.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>);

    /// False where it looks at nothing that changes with load: an endpoint that it drops is not
    /// one of those that are wanted, however idle it is.
    fn depends_on_load(&self) -> bool {
        true
    }

    /// What an endpoint has to be to pass, for people who ask why one was dropped.
    fn wants(&self) -> String {
        String::new()
    }
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

    /// What decides between equal totals, for people who ask why it was this one.
    fn tie_rule(&self) -> &'static str {
        "chance"
    }
}

/// What one profile came to.
#[derive(Clone, Debug, Default)]
pub struct ProfileResult {
    /// Empty where the profile failed (a filter left nothing).
    pub picks: Picks,
    /// What its scorers gave, by candidate; kept only where somebody asked for scores.
    pub scores: Vec<(u32, f64)>,
    /// It failed because none of the candidates is of the kind it wants, not because those that
    /// are were busy.
    pub none_exists: bool,
}

impl ProfileResult {
    /// The candidate that the profile chose; `None` where it failed.
    pub fn target(&self) -> Option<u32> {
        self.picks.first().copied()
    }
}

/// The results of the profiles that have run so far.
#[derive(Clone, Copy, Debug)]
pub struct ProfileResults<'a> {
    pub(super) profiles: &'a [Profile],
    pub(super) by_index: &'a [Option<ProfileResult>],
}

impl<'a> ProfileResults<'a> {
    /// No profile has run.
    pub const NONE: ProfileResults<'static> = ProfileResults { profiles: &[], by_index: &[] };

    /// The result of a profile by its index in the configuration; `None` where it has not run.
    pub fn get(&self, profile: usize) -> Option<&'a ProfileResult> {
        self.by_index.get(profile)?.as_ref()
    }

    /// The same by the profile's name.
    pub fn named(&self, profile: &str) -> Option<&'a ProfileResult> {
        self.get(self.profiles.iter().position(|p| *p.name == *profile)?)
    }

    /// The candidate that a profile chose; `None` where it has not run or has failed.
    pub fn target(&self, profile: usize) -> Option<u32> {
        self.get(profile)?.target()
    }

    /// How many profiles the configuration has.
    pub fn len(&self) -> usize {
        self.by_index.len()
    }

    /// True where no profile has run.
    pub fn is_empty(&self) -> bool {
        self.by_index.iter().all(Option::is_none)
    }
}

/// A mistake that a profile handler finds in the profiles it is given.
#[derive(Clone, Debug)]
pub struct ProfileMistake {
    pub severity: Severity,
    /// Where the value that asks for what is missing stands; `None`: where the handler does.
    pub at: Option<Position>,
    /// The field it stands in, such as `plugins[2].parameters.profiles.decode`; `None` likewise.
    pub field: Option<String>,
    pub message: String,
}

impl ProfileMistake {
    /// A mistake at the place of the handler itself.
    pub fn of_handler(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, at: None, field: None, message: message.into() }
    }
}

/// Indices of the profiles to run next.
pub type ProfilesToRun = SmallVec<[usize; 2]>;

/// Says which profiles run for a request, and what their results mean.
pub trait ProfileHandler: Debug + Send + Sync {
    /// Told once, when the configuration is loaded, which profiles there are, by name.
    ///
    /// # Errors
    /// What the handler needs and does not find, or cannot use.
    fn bind(&self, profiles: &[&str]) -> Result<(), Vec<ProfileMistake>>;

    /// Asked again and again, with the results so far in [`Cycle::results`], until it returns
    /// none. A profile that has run does not run again.
    fn next(&self, cycle: &Cycle<'_>) -> ProfilesToRun;

    /// Asked when no profile is left to run: the profile whose picks are the destination.
    /// Headers that go with the pick, or another port, go into `directions`.
    ///
    /// # Errors
    /// Where the results make no destination.
    fn conclude(
        &self,
        cycle: &Cycle<'_>,
        directions: &mut Directions,
    ) -> Result<usize, RequestError>;

    /// The candidate that profiles to be run now may want to be near: the one that an earlier stage
    /// chose.
    fn peer(&self, cycle: &Cycle<'_>) -> Option<u32> {
        let _ = cycle;
        None
    }

    /// What the client is told where the first [`ProfileHandler::next`] names no profile; `None`:
    /// that it is our fault.
    fn runs_nothing(&self) -> Option<RequestError> {
        None
    }

    /// The target of this profile will hold the prompt's KV blocks.
    fn holds_prompt(&self, profile: usize) -> bool {
        let _ = profile;
        true
    }

    /// What the request holds on the target of a profile, and until when; `terms` is what a
    /// request that is served by one endpoint alone holds.
    fn reserve(
        &self,
        cycle: &Cycle<'_>,
        profile: usize,
        terms: ReservationTerms,
    ) -> ReservationTerms {
        let _ = (cycle, profile);
        terms
    }
}
