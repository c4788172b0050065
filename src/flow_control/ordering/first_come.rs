use std::time::Duration;

use super::{OrderKey, OrderingPolicy};
use crate::clock::Timestamp;
use crate::flow_control::Arrival;

/// `fcfs-ordering-policy`: who began to wait first goes first.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstCome;

impl OrderingPolicy for FirstCome {
    fn key(&self, _: &Arrival<'_>, enqueued_at: Timestamp, _: Option<Duration>) -> OrderKey {
        OrderKey(enqueued_at)
    }
}
