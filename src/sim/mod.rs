//! A model of a vLLM worker: what a router needs one for, without a GPU.
//!
//! [`Engine`] is the model itself. It runs on whatever clock it is handed, so the benchmark
//! harness replays hours of traffic in seconds, and [`worker`] puts the same engine behind
//! vLLM's HTTP interface in real time. Read `engine.rs`, then `step.rs`.

/// Nanoseconds, of a simulation's clock or between two of its moments.
pub type Nanos = u64;

mod blocks;
mod config;
mod config_error;
mod cost;
mod engine;
mod profile;
mod prompt;
mod remote;
mod running;
mod sequence;
mod step;
#[cfg(test)]
mod tests;
mod transfer;
pub mod worker;

pub use config::EngineConfig;
pub use config_error::ConfigError;
pub use cost::CostModel;
pub use engine::{Engine, Event, EventKind, Stats, SubmitError, Summary, Totals};
pub use profile::{EngineProfile, PROFILES, ProfileError};
pub use prompt::{BYTES_PER_TOKEN, Prompt};
pub use sequence::{PrefillState, RequestId, RequestSpec};
pub use transfer::{DEFAULT_GBPS, DEFAULT_LATENCY_MS, KvTransfer};
