//! The vocabulary of picking, and the cycle that picks.
//!
//! A request meets the candidates of one pool snapshot: screeners narrow them, producers work out
//! what several plugins need, admitters let the request in, the profile handler says which
//! profiles run, each profile filters, scores and picks, the targets are reserved, observers take
//! note, and request hooks add what is to leave with the request. Nothing here knows Envoy, HTTP
//! or tokio, so the harness runs the very same code in virtual time.
//!
//! Read `scheduler.rs` for the order of steps, `plugin.rs` and `hooks.rs` for what a plugin may
//! be, `data.rs` for how plugins hand things to each other.

mod candidate;
mod cycle;
mod data;
mod decision;
mod directions;
mod explain;
mod histogram;
mod hooks;
mod plugin;
mod plugin_metrics;
mod plugin_times;
mod profile;
mod prompt;
mod request;
mod scheduler;
mod timed;
mod trace;

pub use candidate::Candidate;
pub use cycle::Cycle;
pub use data::{
    DataKey, PrefixMatch, PrefixSource, RequestData, RequestDatum, TierBlocks, TokenLoad,
};
pub use decision::{Belief, Decision, DecisionOptions, ProfileDecision, Refusal};
pub use directions::{Directions, MetadataEntry, MetadataValue};
pub use explain::{
    Explanation, FilterStep, HealthStep, LeftOut, PickerStep, PrefixStep, ProfileExplanation,
    ScorerStep, SeenStep, StepTimes,
};
pub use histogram::{Histogram, Tally};
pub use hooks::{
    Admitter, AnswerSoFar, AskForUsage, AwaitingProducer, BoxFuture, CountTokens, DebugState,
    EndpointHook, Lifecycle, PickObserver, Picked, Producer, Put, ReadsAnswers, RequestHook,
    RequestProcessor, ResponseHook, RoutedRequest, Runtime, Screener, Target, TokenUsage,
};
pub use plugin::{
    Filter, Picker, Picks, ProfileHandler, ProfileMistake, ProfileResult, ProfileResults,
    ProfilesToRun, Scorer,
};
pub use plugin_metrics::{MetricFamily, MetricKind, MetricSample, MetricValue, PluginMetrics};
pub use plugin_times::{Clock, PluginTimes, ProfileTimers, ScheduleTimers, StepTimer, point};
pub use profile::{Profile, WeightedScorer};
pub use prompt::{Piece, Prompt, PromptBuilder};
pub use request::{DEFAULT_FAIRNESS_ID, InferenceRequest};
pub use scheduler::{Ask, Scheduler};
pub use timed::{Timed, TimedResponseHook};
pub use trace::DecisionTrace;
