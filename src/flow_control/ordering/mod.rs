//! Which of a flow's requests goes first.

mod earliest_deadline;
mod first_come;
mod slo_deadline;

use std::fmt::Debug;
use std::time::Duration;

pub use earliest_deadline::EarliestDeadline;
pub use first_come::FirstCome;
pub use slo_deadline::SloDeadline;

use super::Arrival;
use crate::clock::Timestamp;

/// A request's place in its flow; the smallest goes first, of equal ones the one that came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(pub Timestamp);

impl OrderKey {
    /// Before everything else.
    pub const FIRST: Self = Self(Timestamp::START);
    /// After everything that is due at some time.
    pub const LAST: Self = Self(Timestamp::from_nanos(u64::MAX));
}

/// Orders the requests of a flow. The key is worked out once, when the request begins to wait.
pub trait OrderingPolicy: Debug + Send + Sync {
    /// `enqueued_at` is when it begins to wait, `ttl` how long it may; `None`: forever.
    fn key(&self, arrival: &Arrival<'_>, enqueued_at: Timestamp, ttl: Option<Duration>)
    -> OrderKey;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_by_policy() {
        let ms = Duration::from_millis;
        let arrival = |ttft_slo| Arrival {
            fairness_id: "a",
            priority: 0,
            bytes: 0,
            tokens: 0,
            received_at: Timestamp::START + ms(100),
            ttl: None,
            ttft_slo,
        };
        let at = |millis| OrderKey(Timestamp::START + ms(millis));
        type Policy<'a> = &'a dyn OrderingPolicy;
        for (policy, ttl, slo, expected) in [
            (&FirstCome as Policy<'_>, Some(60), Some(5), at(130)),
            (&FirstCome, None, None, at(130)),
            (&EarliestDeadline, Some(60), None, at(190)),
            (&EarliestDeadline, None, Some(5), OrderKey::LAST),
            (&SloDeadline, Some(60), Some(5), at(105)),
            (&SloDeadline, Some(60), None, OrderKey::LAST),
        ] {
            let enqueued_at = Timestamp::START + ms(130);
            let key = policy.key(&arrival(slo.map(ms)), enqueued_at, ttl.map(ms));
            assert_eq!(key, expected, "{policy:?} {ttl:?} {slo:?}");
        }
    }
}
