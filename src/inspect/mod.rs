//! What an operator is shown of a running pool: what became of the requests to each endpoint, how
//! that went lately, and what is wrong in words.
//!
//! [`Tallies`] count, [`sample`] looks at everything now and then, [`Drift`] says where predicted
//! and delivered cache hits part, [`findings()`] puts into words what is broken, and [`PoolView`]
//! makes one page of all of it.

mod config_in_force;
mod configuration;
mod drift;
mod findings;
mod history;
mod pool_view;
mod tally;

pub use config_in_force::{ConfigInForce, DebugStates, ShownConfig};
pub use configuration::ConfigView;
pub use drift::{Drift, DriftWatch};
pub use findings::{Finding, Level, findings};
pub use history::{INTERVAL as SAMPLE_INTERVAL, Sample, sample};
pub use pool_view::PoolView;
pub use tally::{EndpointTally, Tallies, Tally};
