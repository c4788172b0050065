//! The vocabulary of picking, and the cycle that picks.
//!
//! A request meets the candidates of one pool snapshot: producers work out what several plugins
//! need, the profile handler says which profiles run, each profile filters, scores and picks,
//! observers take note of the outcome. Nothing here knows Envoy, HTTP or tokio, so the harness
//! runs the very same code in virtual time.

mod cycle;
mod data;
mod explain;
mod plugin;
mod profile;
mod prompt;
mod request;

pub use cycle::{Cycle, Decision, DecisionOptions, Scheduler};
pub use data::{PrefixMatch, PrefixSlot, RequestData};
pub use explain::{Explanation, FilterStep, ProfileExplanation, ScorerStep};
pub use plugin::{
    Candidate, Filter, Observer, Picker, Picks, Producer, ProfileHandler, ProfileResult, Scorer,
};
pub use profile::{Profile, WeightedScorer};
pub use prompt::{Piece, Prompt, PromptBuilder};
pub use request::{Headers, InferenceRequest};
