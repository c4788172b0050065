use std::time::Duration;

use crate::clock::Timestamp;

/// A request that asks to be let through: all that its place in the queue depends on.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Who shares fairly: requests of one id are one flow in their band.
    pub fairness_id: &'a str,
    /// Larger is more important; negative may be evicted while it runs.
    pub priority: i32,
    /// What the request occupies while it waits: the size of its body, bytes.
    pub bytes: u64,
    /// Tokens it will put in flight, as far as known; 0 where nobody counts.
    pub tokens: u64,
    /// When its headers came in.
    pub received_at: Timestamp,
    /// How long it is willing to wait, where it says so: counts where that is less than what
    /// the configuration allows. Zero says nothing.
    pub ttl: Option<Duration>,
    /// When its first token is due, counted from `received_at`.
    pub ttft_slo: Option<Duration>,
}
