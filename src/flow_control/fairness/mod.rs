//! Which flow of a band goes next.

mod global_strict;
mod program;
mod program_aware;
mod round_robin;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

pub use global_strict::GlobalStrict;
pub use program::{ProgramAwareConfig, ProgramStrategy};
pub use program_aware::ProgramAware;
pub use round_robin::RoundRobin;

use super::OrderKey;
use crate::clock::Timestamp;

/// A flow of a band, for as long as something of it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey(pub u32);

/// The request of a flow that goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    pub key: OrderKey,
    /// Rises in the order in which requests begin to wait.
    pub seq: u64,
    pub enqueued_at: Timestamp,
}

/// What a request came to, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// A fairness policy as the configuration names it. Bands that name the same one share what it
/// remembers of fairness ids.
pub trait FairnessPolicy: Debug + Send + Sync {
    /// Its state for one band.
    fn band(&self) -> Box<dyn BandFairness>;

    /// True where it wants to hear of [`FairnessPolicy::dispatched`] and
    /// [`FairnessPolicy::finished`].
    fn remembers(&self) -> bool {
        false
    }

    /// A request of this id was let through after it had waited for so long.
    fn dispatched(&self, fairness_id: &str, waited: Duration, now: Timestamp) {
        let _ = (fairness_id, waited, now);
    }

    /// Its exchange ended, however it did.
    fn finished(&self, fairness_id: &str, served: Served, now: Timestamp) {
        let _ = (fairness_id, served, now);
    }
}

/// A fairness policy's view of the flows of one band.
pub trait BandFairness: Debug + Send {
    /// The flow has another head than before. `None` before: nothing of it waited. `None` now:
    /// nothing waits any more, and its key may come to mean another flow.
    fn head_changed(
        &mut self,
        flow: FlowKey,
        fairness_id: &Arc<str>,
        before: Option<Head>,
        now: Option<Head>,
    );

    /// The flow whose head goes now; `None` only where no flow has one. Whatever is returned
    /// goes.
    fn next(&mut self, now: Timestamp) -> Option<FlowKey>;
}
