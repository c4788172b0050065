//! What goes wrong in a replay, and when.

use crate::config;
use crate::sim::Nanos;

/// A worker that dies and comes back empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub start: Nanos,
    pub down: Nanos,
}

/// Reads `START,DOWN`.
pub fn loss(text: &str) -> Result<Loss, String> {
    let time = |t: &str| config::parse_duration(t.trim()).map(|d| d.as_nanos() as Nanos);
    text.split_once(',')
        .and_then(|(start, down)| Some(Loss { start: time(start)?, down: time(down)? }))
        .ok_or_else(|| "expected two durations such as 60s,30s".to_owned())
}

/// All that goes wrong in one simulation.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The first takes worker 0, the next worker 1, and so on.
    pub losses: Vec<Loss>,
    /// Sessions that start within this time of each other start at once; 0 leaves them alone.
    pub waves: Nanos,
}

impl Faults {
    /// When a session starts that was to start at `at`.
    pub fn start(&self, at: Nanos) -> Nanos {
        if self.waves == 0 { at } else { at - at % self.waves }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_two_durations() {
        for (text, want) in [
            ("1s,500ms", Some((1_000_000_000, 500_000_000))),
            ("1m, 0", Some((60_000_000_000, 0))),
            ("1s", None),
            ("1s,", None),
            ("soon,1s", None),
        ] {
            assert_eq!(loss(text).ok().map(|l| (l.start, l.down)), want, "{text}");
        }
    }

    #[test]
    fn waves_gather_starts() {
        let faults = Faults { waves: 100, ..Default::default() };
        assert_eq!([0, 99, 100, 250].map(|at| faults.start(at)), [0, 0, 100, 200]);
        assert_eq!(Faults::default().start(77), 77);
    }
}
