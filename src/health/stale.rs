//! What to take for the signals of an endpoint whose metrics are dead, or lie.

use crate::endpoints::SignalValues;

/// What the endpoints whose signals can be believed have on average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolLoad {
    pub waiting: f64,
    pub running: f64,
    pub kv_usage: f64,
    /// Requests that we have there.
    pub in_flight: f64,
}

impl PoolLoad {
    /// The averages over endpoints, each with the requests that we have there; all zero where
    /// there are none.
    pub fn of(believed: impl Iterator<Item = (SignalValues, i64)>) -> Self {
        let mut sum = Self::default();
        let mut count = 0.0_f64;
        for (signals, in_flight) in believed {
            count += 1.0;
            sum.waiting += f64::from(signals.waiting);
            sum.running += f64::from(signals.running);
            sum.kv_usage += if signals.kv_usage.is_nan() { 1.0 } else { signals.kv_usage };
            sum.in_flight += in_flight.max(0) as f64;
        }
        let count = count.max(1.0);
        Self {
            waiting: sum.waiting / count,
            running: sum.running / count,
            kv_usage: sum.kv_usage / count,
            in_flight: sum.in_flight / count,
        }
    }
}

/// An estimate of what an endpoint with `in_flight` requests of ours would tell, if it could be
/// believed: the pool's averages, and each request that it has more or fewer than the others on
/// average. Its cache is never taken to be emptier than the others' are on average.
///
/// The last values of a dead `/metrics` are no estimate: they stay what they were while requests
/// pile up. With the default configuration and one of eight workers blind since its start, 115 of
/// 116 requests in flight were at the blind one, whose queue looked empty for ever. By this
/// estimate an endpoint wins for having few requests, never for saying nothing, and each request
/// sent there makes it worse. It is not shut out either, so it can be seen to be well again.
/// What other pickers send there is taken to be what they send to the others.
///
/// Where nobody can be believed, `pool` is all zero and the requests in flight alone decide.
///
/// `updated_at` and the size of the cache stay as they were.
pub fn substitute(signals: SignalValues, in_flight: i64, pool: &PoolLoad) -> SignalValues {
    let own = in_flight.max(0) as f64;
    let more = own - pool.in_flight;
    // Requests and what they hold in the cache go together.
    let ratio = if pool.in_flight >= 1.0 { (own / pool.in_flight).max(1.0) } else { 1.0 };
    SignalValues {
        // A negative number becomes 0.
        waiting: (pool.waiting + more).round() as u32,
        running: (pool.running + more).round() as u32,
        kv_usage: (pool.kv_usage * ratio).clamp(0.0, 1.0),
        ..signals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(waiting: u32, running: u32, kv_usage: f64) -> SignalValues {
        SignalValues { waiting, running, kv_usage, block_size: 16, ..SignalValues::default() }
    }

    #[test]
    fn a_blind_endpoint_looks_like_the_others_and_worse_for_what_it_has_more() {
        let pool = PoolLoad::of([(signals(2, 8, 0.4), 10), (signals(4, 8, 0.6), 14)].into_iter());
        assert_eq!(pool, PoolLoad { waiting: 3.0, running: 8.0, kv_usage: 0.5, in_flight: 12.0 });
        let cases = [
            (11, (2, 7, 0.5), "one fewer than the others"),
            (0, (0, 0, 0.5), "nothing of ours, and the others have nothing else either"),
            (12, (3, 8, 0.5), "as loaded as the others: no worse"),
            (18, (9, 14, 0.75), "six more than the others"),
            (1000, (991, 996, 1.0), "bounded"),
            (-5, (0, 0, 0.5), "a count that is not one"),
        ];
        for (in_flight, (waiting, running, kv_usage), why) in cases {
            let expected = signals(waiting, running, kv_usage);
            assert_eq!(substitute(signals(0, 0, 0.0), in_flight, &pool), expected, "{why}");
        }
    }

    #[test]
    fn what_others_send_is_taken_to_be_the_same_everywhere() {
        let pool = PoolLoad::of([(signals(5, 20, 0.5), 5)].into_iter());
        let estimate = substitute(signals(0, 0, 0.0), 0, &pool);
        assert_eq!((estimate.waiting, estimate.running), (0, 15));
    }

    #[test]
    fn where_nobody_is_believed_the_requests_in_flight_decide() {
        let nobody = PoolLoad::of(std::iter::empty());
        let waiting = |n| substitute(signals(7, 7, 0.7), n, &nobody).waiting;
        assert_eq!((waiting(0), waiting(3)), (0, 3));
    }
}
