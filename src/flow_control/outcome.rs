use std::time::Duration;

/// What became of a request at the queue, under the names that the reference (llm-d-router main
/// at ebab6879) publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Dispatched,
    /// No room to wait: the band's, or the queue's, requests or bytes are used up.
    RejectedCapacity,
    /// Waited for as long as it was allowed to.
    EvictedTtl,
    /// Waited for an endpoint to appear for as long as it was allowed to.
    EvictedNoEndpoints,
    /// The client went away while its request waited.
    EvictedCancelled,
    /// The process is shutting down.
    RejectedShuttingDown,
}

impl Outcome {
    pub const ALL: [Self; 6] = [
        Self::Dispatched,
        Self::RejectedCapacity,
        Self::EvictedTtl,
        Self::EvictedNoEndpoints,
        Self::EvictedCancelled,
        Self::RejectedShuttingDown,
    ];

    /// The value of the `outcome` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dispatched => "Dispatched",
            Self::RejectedCapacity => "RejectedCapacity",
            Self::EvictedTtl => "EvictedTTL",
            Self::EvictedNoEndpoints => "EvictedNoEndpoints",
            Self::EvictedCancelled => "EvictedContextCancelled",
            Self::RejectedShuttingDown => "RejectedOther",
        }
    }
}

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Anything but [`Outcome::Dispatched`] and [`Outcome::EvictedCancelled`].
    pub outcome: Outcome,
    /// When it is worth trying again, from how fast the queue drains; `None` where nothing
    /// drained lately.
    pub retry_after: Option<Duration>,
}
