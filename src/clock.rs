//! Time as the core sees it: moments on a monotonic clock. Only the outermost layers ask the
//! system what time it is; everything below is handed the time, so that simulations can run on a
//! clock of their own. Durations are [`std::time::Duration`].

use std::ops::{Add, AddAssign};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A moment: nanoseconds since a clock started, the process's or a simulation's. Moments of
/// different clocks must not be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// When the clock started.
    pub const START: Self = Self(0);

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock started.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The last moment there is where the sum lies beyond it.
impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// A duration in whole nanoseconds, `u64::MAX` (584 years) at most.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The moment of now on the process's clock, which starts when it is first asked.
pub fn now() -> Timestamp {
    Timestamp(nanos(START.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_durations() {
        let (early, late) = (Timestamp::from_nanos(5), Timestamp::from_nanos(12));
        assert_eq!(late.since(early), Duration::from_nanos(7));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early + Duration::from_nanos(7), late);
        assert_eq!(late + Duration::MAX, Timestamp::from_nanos(u64::MAX));
        assert!(now() <= now());
    }
}
