use std::fmt::Debug;

use crate::scheduling::Cycle;

/// Says whether a stage of a request is worth an endpoint of its own.
pub(in crate::plugins) trait DisaggregationDecider: Debug + Send + Sync {
    /// `decode` is the candidate that was chosen to answer; `None` where that is chosen later.
    fn disaggregates(&self, cycle: &Cycle<'_>, decode: Option<u32>) -> bool;
}
