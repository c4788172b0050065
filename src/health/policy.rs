use std::time::Duration;

/// What makes an endpoint count as ill, and how it comes back. Every field may be changed by an
/// operator; the defaults are meant to be left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthPolicy {
    /// Failures in a row, at least, before an endpoint is ejected. More are asked for where the
    /// rest of the pool fails too. Default 3.
    pub failures_in_a_row: u32,
    /// Share of failures, at least, at which an endpoint that fails only now and then is ejected.
    /// It must be far above the rest of the pool as well. Default 0.2.
    pub failure_share: f64,
    /// Share of the candidates, at most, that are left out; beyond it all are used. Default 0.5.
    pub max_ejected_share: f64,
    /// Wait before the first probe of an endpoint that was ejected for the first time. It doubles
    /// each time the endpoint fails again. Default 1 s.
    pub base_ejection: Duration,
    /// Longest such wait. Default 5 s.
    pub max_ejection: Duration,
    /// Share of the requests, at most, that are spent on probing one endpoint, as long as that
    /// keeps it waiting no longer than `max_probe_wait`. Default 0.005.
    pub probe_share: f64,
    /// However few requests there are, a probe is sent after this time. Default 10 s.
    pub max_probe_wait: Duration,
    /// The same while the endpoint refuses connections to its metrics too: that it is back will
    /// be seen there first. Default 30 s.
    pub refused_probe_wait: Duration,
    /// Time in which the share of an endpoint that came back grows to a full one. Default 3 s.
    pub return_time: Duration,
    /// An endpoint hangs when it has answered nothing for this many times as long as 99 % of the
    /// pool's first bytes take, with requests waiting all the time. Default 3.
    pub hang_factor: f64,
    /// No silence shorter than this counts as hanging. Default 1 s.
    pub min_hang: Duration,
    /// An endpoint that was well for so long is ejected as for the first time. Default 30 s.
    pub forget_after: Duration,
    /// Signals that came in longer ago than this are not believed. Default 2 s.
    pub stale_after: Duration,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            failures_in_a_row: 3,
            failure_share: 0.2,
            max_ejected_share: 0.5,
            base_ejection: Duration::from_secs(1),
            max_ejection: Duration::from_secs(5),
            probe_share: 0.005,
            max_probe_wait: Duration::from_secs(10),
            refused_probe_wait: Duration::from_secs(30),
            return_time: Duration::from_secs(3),
            hang_factor: 3.0,
            min_hang: Duration::from_secs(1),
            forget_after: Duration::from_secs(30),
            stale_after: Duration::from_secs(2),
        }
    }
}

impl HealthPolicy {
    /// Candidates of `count` that may be left out: never all of them.
    pub fn may_leave_out(&self, count: usize) -> usize {
        let share = self.max_ejected_share.clamp(0.0, 1.0);
        ((count as f64 * share) as usize).min(count.saturating_sub(1))
    }

    /// Wait before the first probe at the `repetition`th ejection in a row, counted from 0.
    pub(super) fn ejection(&self, repetition: u32) -> Duration {
        self.base_ejection.saturating_mul(1 << repetition.min(16)).min(self.max_ejection)
    }

    /// Requests to other endpoints that have to pass before that probe: few at first, so that a
    /// short fault is over soon, and [`HealthPolicy::probe_share`] in the long run.
    pub(super) fn requests_per_probe(&self, repetition: u32) -> u64 {
        let in_the_long_run = (1.0 / self.probe_share.max(1e-6)) as u64;
        (in_the_long_run / 8) << repetition.min(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_may_be_left_out() {
        let cases = [
            (0, 0.5, 0),
            (1, 0.5, 0),
            (2, 0.5, 1),
            (3, 0.5, 1),
            (4, 0.5, 2),
            (5, 0.5, 2),
            (4, 1.0, 3),
            (1, 1.0, 0),
            (4, 0.0, 0),
            (4, 0.2, 0),
            (4, 7.0, 3),
            (4, f64::NAN, 0),
        ];
        for (count, max_ejected_share, expected) in cases {
            let policy = HealthPolicy { max_ejected_share, ..HealthPolicy::default() };
            assert_eq!(policy.may_leave_out(count), expected, "{max_ejected_share} of {count}");
        }
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let policy = HealthPolicy::default();
        let waits: Vec<u64> = (0..5).map(|n| policy.ejection(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        let requests: Vec<u64> = (0..5).map(|n| policy.requests_per_probe(n)).collect();
        assert_eq!(requests, [25, 50, 100, 200, 200]);
    }
}
