use std::time::Duration;

use crate::clock::Timestamp;

/// Over how long the drain rate is averaged, seconds.
const DRAIN_WINDOW_S: f64 = 10.0;
/// The range of what a client is told, seconds.
const RETRY_AFTER_S: (f64, f64) = (1.0, 300.0);

/// How often something happens, as an exponentially weighted average.
#[derive(Debug)]
pub(super) struct RateMeter {
    /// Time constant of the average, seconds: what is older counts little.
    window_s: f64,
    /// Events, each weighing e^(-age / window).
    weight: f64,
    at: Timestamp,
    /// When the first event was seen: before a window has passed, the average is over the time
    /// since.
    since: Option<Timestamp>,
}

impl RateMeter {
    pub(super) fn new(window_s: f64) -> Self {
        Self { window_s, weight: 0.0, at: Timestamp::START, since: None }
    }

    pub(super) fn note(&mut self, now: Timestamp) {
        self.weight = self.decayed(now) + 1.0;
        self.at = self.at.max(now);
        self.since.get_or_insert(now);
    }

    fn decayed(&self, now: Timestamp) -> f64 {
        self.weight * (-now.since(self.at).as_secs_f64() / self.window_s).exp()
    }

    /// Events a second.
    pub(super) fn rate(&self, now: Timestamp) -> f64 {
        let Some(since) = self.since else { return 0.0 };
        // What one event a second would weigh over the time watched.
        let watched = now.since(since).as_secs_f64().max(1.0);
        let unit = self.window_s * (1.0 - (-watched / self.window_s).exp());
        self.decayed(now) / unit
    }
}

/// How many requests leave the queue for an endpoint in a second.
#[derive(Debug)]
pub(super) struct DrainRate(RateMeter);

impl Default for DrainRate {
    fn default() -> Self {
        Self(RateMeter::new(DRAIN_WINDOW_S))
    }
}

impl DrainRate {
    /// A request left.
    pub(super) fn note(&mut self, now: Timestamp) {
        self.0.note(now);
    }

    /// When `ahead` requests will have left, in whole seconds within what a client is told;
    /// `None` where next to nothing left lately.
    pub(super) fn retry_after(&self, ahead: u64, now: Timestamp) -> Option<Duration> {
        let rate = self.0.rate(now);
        if rate < 1e-3 {
            return None;
        }
        let (least, most) = RETRY_AFTER_S;
        Some(Duration::from_secs_f64((ahead as f64 / rate).ceil().clamp(least, most)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::START + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_wait_told_is_what_is_ahead_over_the_rate() {
        for (per_second, seconds, ahead, told) in
            [(10, 60, 100, 10), (2, 60, 100, 50), (50, 3, 100, 2), (1, 60, 9999, 300)]
        {
            let mut rate = DrainRate::default();
            for n in 0..per_second * seconds {
                rate.note(at(f64::from(n) / f64::from(per_second)));
            }
            let got = rate.retry_after(ahead, at(f64::from(seconds))).map_or(0, |d| d.as_secs());
            assert!(got.abs_diff(told) <= 1 + told / 8, "{per_second}/s: {got}, not {told}");
        }
    }

    #[test]
    fn nothing_is_told_where_nothing_left() {
        let mut rate = DrainRate::default();
        assert_eq!(rate.retry_after(5, at(1.0)), None);
        rate.note(at(1.0));
        assert!(rate.retry_after(5, at(2.0)).is_some());
        assert_eq!(rate.retry_after(5, at(500.0)), None);
    }
}
