/// How long a limit's windows are. All begin where the clock or the calendar does, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Month,
}

const DAY: u64 = 86_400;

/// A span of time, in whole seconds since 1970; `end` is the first second after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: u64,
    pub end: u64,
}

impl Unit {
    pub const ALL: [Self; 5] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Month];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "Second",
            Self::Minute => "Minute",
            Self::Hour => "Hour",
            Self::Day => "Day",
            Self::Month => "Month",
        }
    }

    /// The unit of this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str().eq_ignore_ascii_case(name))
    }

    /// The window that `now` is in, seconds since 1970.
    pub fn window(self, now: u64) -> Window {
        let every = |length: u64| {
            let start = now - now % length;
            Window { start, end: start.saturating_add(length) }
        };
        match self {
            Self::Second => every(1),
            Self::Minute => every(60),
            Self::Hour => every(3600),
            Self::Day => every(DAY),
            Self::Month => month(now),
        }
    }
}

impl Window {
    /// Seconds.
    pub const fn length(self) -> u64 {
        self.end - self.start
    }
}

/// The month of the calendar that `now` is in.
///
/// Days become a year that begins in March, so that February is last and the lengths of all others
/// follow one formula (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`).
fn month(now: u64) -> Window {
    // Days since March 1st of the year 0, in eras of 400 years.
    let days = now / DAY + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let first_of_year = 365 * year + year / 4 - year / 100;
    let of_year = of_era - first_of_year;
    // 0 is March, 11 February.
    let month = (5 * of_year + 2) / 153;
    let begins = |month: u64| (153 * month + 2) / 5;
    let leap = (year + 1).is_multiple_of(4)
        && (!(year + 1).is_multiple_of(100) || (year + 1).is_multiple_of(400));
    let ends = if month == 11 { 365 + u64::from(leap) } else { begins(month + 1) };
    let seconds = |day: u64| (era * 146_097 + first_of_year + day - 719_468).saturating_mul(DAY);
    Window { start: seconds(begins(month)), end: seconds(ends) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_follow_the_calendar() {
        // `date -u -d @NOW`, and `date -u -d DATE +%s` for the ends.
        for (unit, now, start, end) in [
            (Unit::Second, 1_764_028_805, 1_764_028_805, 1_764_028_806),
            (Unit::Minute, 1_764_028_805, 1_764_028_800, 1_764_028_860),
            (Unit::Hour, 1_764_028_805, 1_764_028_800, 1_764_032_400),
            (Unit::Day, 1_764_028_805, 1_764_028_800, 1_764_115_200),
            // 25 November 2025.
            (Unit::Month, 1_764_028_805, 1_761_955_200, 1_764_547_200),
            (Unit::Month, 0, 0, 2_678_400),
            // 29 February 2024, 28 February 2025, and 2100, which is no leap year.
            (Unit::Month, 1_709_164_800, 1_706_745_600, 1_709_251_200),
            (Unit::Month, 1_740_700_800, 1_738_368_000, 1_740_787_200),
            (Unit::Month, 4_107_456_000, 4_105_123_200, 4_107_542_400),
            // The last second of a year and the first of the next.
            (Unit::Month, 1_767_225_599, 1_764_547_200, 1_767_225_600),
            (Unit::Month, 1_767_225_600, 1_767_225_600, 1_769_904_000),
        ] {
            assert_eq!(unit.window(now), Window { start, end }, "{unit:?} {now}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(Unit::named("hour"), Some(Unit::Hour));
        assert_eq!(Unit::named("Month"), Some(Unit::Month));
        assert_eq!(Unit::named("Year"), None);
    }

    proptest! {
        /// Windows follow each other without a gap, and every second is in one.
        #[test]
        fn windows_join(now in 0u64..1 << 40, unit in prop::sample::select(Unit::ALL.to_vec())) {
            let window = unit.window(now);
            prop_assert!(window.start <= now && now < window.end);
            prop_assert_eq!(unit.window(window.end).start, window.end);
            prop_assert_eq!(unit.window(window.end - 1), window);
            if unit == Unit::Month {
                prop_assert!((28 * DAY..=31 * DAY).contains(&window.length()));
            }
        }
    }
}
