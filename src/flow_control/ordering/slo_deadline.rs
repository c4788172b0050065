use std::time::Duration;

use super::{OrderKey, OrderingPolicy};
use crate::clock::Timestamp;
use crate::flow_control::Arrival;

/// `slo-deadline-ordering-policy`: whose first token is due first goes first; who names no time
/// goes last.
#[derive(Clone, Copy, Debug, Default)]
pub struct SloDeadline;

impl OrderingPolicy for SloDeadline {
    fn key(&self, arrival: &Arrival<'_>, _: Timestamp, _: Option<Duration>) -> OrderKey {
        arrival.ttft_slo.map_or(OrderKey::LAST, |slo| OrderKey(arrival.received_at + slo))
    }
}
