use std::time::Duration;

use super::{OrderKey, OrderingPolicy};
use crate::clock::Timestamp;
use crate::flow_control::Arrival;

/// `edf-ordering-policy`: whose time in the queue runs out first goes first; who may wait
/// forever goes last.
#[derive(Clone, Copy, Debug, Default)]
pub struct EarliestDeadline;

impl OrderingPolicy for EarliestDeadline {
    fn key(&self, _: &Arrival<'_>, enqueued_at: Timestamp, ttl: Option<Duration>) -> OrderKey {
        ttl.map_or(OrderKey::LAST, |ttl| OrderKey(enqueued_at + ttl))
    }
}
