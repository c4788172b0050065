//! Up to which saturation each band may use the pool.

mod priority_holdback;
mod soft_reflective_ceiling;
mod static_limit;

use std::fmt::Debug;

use smallvec::SmallVec;

pub use priority_holdback::{HoldbackDomain, PriorityHoldback};
pub use soft_reflective_ceiling::SoftReflectiveCeiling;
pub use static_limit::StaticUsageLimit;

/// A ceiling for each band, in the order of the bands.
pub type Ceilings = SmallVec<[f64; 8]>;

/// Sets the ceilings. A request of a band goes while the saturation is below the band's ceiling.
pub trait UsageLimit: Debug + Send + Sync {
    /// One ceiling for each of `priorities`, which fall from the highest band to the lowest.
    /// Called for each request that might go, so a policy may count its calls.
    fn ceilings(&self, saturation: f64, priorities: &[i32]) -> Ceilings;
}
