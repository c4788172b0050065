//! Whether a request may go now, and in which order those go that have to wait.
//!
//! A [`FlowController`] is asked once for each request. While the pool keeps up
//! ([`SaturationDetector`]) it answers with a [`Permit`] at once; otherwise the request waits as
//! a [`Ticket`]. Requests wait in bands by priority, in each band in flows by fairness id, in
//! each flow in the order of the band's [`OrderingPolicy`]. The band's [`FairnessPolicy`] says
//! which flow is next, the [`UsageLimit`] up to which saturation a band may use the pool.
//!
//! Nothing ticks. Whatever may let a request go calls [`FlowController::on_capacity`]: the end of
//! an exchange, new metrics, an endpoint that appears, and the moment that
//! [`FlowController::poll_deadline`] names. What waits costs memory and no CPU.
//!
//! The order to read it in: [`arrival`] and [`outcome`] say what comes in and goes out, `queue`
//! is the state machine, `controller` puts a lock and wakers around it, `ticket` is what callers
//! hold. Nothing here knows a runtime, Envoy or HTTP.

mod arrival;
mod band;
mod band_table;
mod concurrency;
mod config;
mod controller;
mod detector;
mod drain_rate;
mod eviction;
mod fairness;
mod learned;
mod learned_limit;
mod ordering;
mod outcome;
mod pool_load;
mod queue;
mod saturation;
mod snapshot;
mod stage;
mod ticket;
mod usage;

#[cfg(test)]
mod tests;

pub use arrival::Arrival;
pub use concurrency::{ConcurrencyConfig, ConcurrencyMode};
pub use config::{BandConfig, EvictionConfig, FlowControlConfig, FlowObserver};
pub use controller::{Admission, Clock, FlowController};
pub use detector::{CurrentDetector, Pending, SaturationDetector, Sent};
pub use fairness::{
    BandFairness, FairnessPolicy, FlowKey, GlobalStrict, Head, ProgramAware, ProgramAwareConfig,
    ProgramStrategy, RoundRobin, Served,
};
pub use learned::LearnedDetector;
pub use learned_limit::{LearnedLimit, Observation};
pub use ordering::{EarliestDeadline, FirstCome, OrderKey, OrderingPolicy, SloDeadline};
pub use outcome::{Outcome, Rejection};
pub use pool_load::{LoadReading, LoadSource, PoolLoad};
pub use saturation::SaturationConfig;
pub use snapshot::{BandSnapshot, FlowSnapshot, QueueSnapshot};
pub use ticket::{Permit, Running, Ticket};
pub use usage::{
    Ceilings, HoldbackDomain, PriorityHoldback, SoftReflectiveCeiling, StaticUsageLimit, UsageLimit,
};
