//! The controller as a whole, over a pool that is nothing but a number of places.

mod bands;
mod eviction;
mod expiry;
mod limits;
mod model;
mod rig;
mod shares;
mod threads;

/// See `FlowController::interleave`.
pub(super) type Interleave = Box<dyn Fn(&'static str) + Send + Sync>;
