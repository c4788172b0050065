use std::sync::Arc;

use super::LoadReading;
use crate::clock::Timestamp;

/// What waits, for metrics and for people.
#[derive(Clone, Debug, Default)]
pub struct QueueSnapshot {
    /// Requests that wait.
    pub requests: u64,
    /// Their bytes.
    pub bytes: u64,
    pub max_requests: Option<u64>,
    pub max_bytes: Option<u64>,
    /// How full the pool was when it was last looked at.
    pub load: Option<LoadReading>,
    /// Endpoints whose metrics are too old for the detector.
    pub stale_endpoints: usize,
    /// From the highest priority to the lowest.
    pub bands: Vec<BandSnapshot>,
    /// Running requests that may be ended for others.
    pub evictable: u64,
    /// Running requests that were asked to end and have not.
    pub pending_reclaim: u64,
    /// How many the last round wanted to end.
    pub reclaim_target: u64,
    /// Running requests that were asked to end, so far, by priority.
    pub revocations_issued: Vec<(i32, u64)>,
    /// Those that did.
    pub revocations_confirmed: u64,
    /// Those that did not in time.
    pub revocations_timed_out: u64,
}

/// One band.
#[derive(Clone, Debug)]
pub struct BandSnapshot {
    pub priority: i32,
    pub requests: u64,
    pub bytes: u64,
    pub max_requests: u64,
    pub max_bytes: u64,
    /// Those of which something waits, by fairness id.
    pub flows: Vec<FlowSnapshot>,
}

/// One flow.
#[derive(Clone, Debug)]
pub struct FlowSnapshot {
    pub fairness_id: Arc<str>,
    pub requests: u64,
    pub bytes: u64,
    /// When the one that goes first began to wait.
    pub head_since: Timestamp,
}
