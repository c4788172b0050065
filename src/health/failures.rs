//! How often an endpoint fails, and whether that is more than chance beside the others.

/// How fast the short memory forgets: one outcome counts 0.3, the one before it 0.21, and so on.
const SHORT: f64 = 0.3;
/// The long memory holds about so many outcomes.
const LONG: f64 = 32.0;
/// Outcomes in the long memory before it is asked.
const ENOUGH: f64 = 10.0;
/// What an endpoint is taken to fail before anything is known of it: the long memory of the
/// others begins with one outcome that failed so much.
const PRIOR: f64 = 0.05;
/// A run of failures is no chance where an endpoint that fails as often as the others would have
/// such a run less often than this.
const CHANCE: f64 = 1e-3;
/// How many standard deviations the share of failures has to lie above the others'.
const DEVIATIONS: f64 = 4.0;
/// The others are never taken to fail less than this, so that no deviation is infinite.
const LEAST_SHARE: f64 = 0.02;

/// What is remembered of the outcomes of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Failures {
    /// Failures since the last success.
    pub in_a_row: u32,
    pub memory: Memory,
}

/// The part of it that other endpoints are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// Average of the last few outcomes; 1 is a failure.
    pub short: f64,
    /// Failures among the last [`LONG`] outcomes or so, and those outcomes.
    pub failed: f64,
    pub outcomes: f64,
}

impl Failures {
    pub(super) fn note(&mut self, failed: bool) {
        let value = f64::from(u8::from(failed));
        self.in_a_row = if failed { self.in_a_row.saturating_add(1) } else { 0 };
        let memory = &mut self.memory;
        memory.short += SHORT * (value - memory.short);
        memory.failed = memory.failed * (1.0 - 1.0 / LONG) + value;
        memory.outcomes = memory.outcomes * (1.0 - 1.0 / LONG) + 1.0;
    }

    /// Share of failures in the long memory.
    pub(super) fn share(&self) -> f64 {
        self.memory.failed / self.memory.outcomes.max(1.0)
    }

    /// True for a run of at least `least` failures that the others' share does not explain: if
    /// each request failed with their probability `p`, a run of `n` would have the probability
    /// `p^n`.
    pub(super) fn is_run(&self, least: u32, others: f64) -> bool {
        let n = i32::try_from(self.in_a_row).unwrap_or(i32::MAX);
        self.in_a_row >= least.max(1) && others.powi(n) < CHANCE
    }

    /// True where at least the share `least` of many outcomes failed, and that lies far above the
    /// others' share `p`, in standard deviations of as many tosses: `sqrt(p * (1 - p) / n)`.
    pub(super) fn is_often(&self, least: f64, others: f64) -> bool {
        let (share, n) = (self.share(), self.memory.outcomes);
        let p = others.clamp(LEAST_SHARE, 1.0);
        n >= ENOUGH && share >= least && share - p >= DEVIATIONS * (p * (1.0 - p) / n).sqrt()
    }
}

/// The share of failures of a group of endpoints, from their memories: the greater of what they
/// did in the long run and of their last few outcomes, so that what befalls all of them at once
/// is seen at once.
pub(super) fn share_of(memories: impl Iterator<Item = Memory>) -> f64 {
    let (mut short, mut known, mut failed, mut outcomes) = (0.0, 0.0_f64, PRIOR, 1.0);
    for memory in memories.filter(|m| m.outcomes > 0.0) {
        short += memory.short;
        known += 1.0;
        failed += memory.failed;
        outcomes += memory.outcomes;
    }
    (failed / outcomes).max(short / known.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(outcomes: &str) -> Failures {
        let mut failures = Failures::default();
        outcomes.chars().for_each(|c| failures.note(c == 'x'));
        failures
    }

    #[test]
    fn a_run_is_held_against_the_others() {
        let cases = [
            ("..xx", 0.0, false, "two are no run"),
            ("..xxx", 0.0, true, "three are, where nobody else fails"),
            ("..xx.x", 0.0, false, "a success ends the run"),
            ("xxx", 0.05, true, "nothing is known of the others"),
            ("xxx", 0.3, false, "three in a row happen where one in three fails"),
            ("xxxxxx", 0.3, true, "six do not"),
            ("xxxxxxxxx", 0.5, false, "nine in a row where half fail"),
            ("xxxxxxxxxxxxxxxxxxxx", 1.0, false, "all fail"),
        ];
        for (outcomes, others, expected, why) in cases {
            assert_eq!(after(outcomes).is_run(3, others), expected, "{outcomes}: {why}");
        }
    }

    #[test]
    fn often_is_held_against_the_others() {
        let cases = [
            ("x.x.x", 0.0, false, "too few outcomes"),
            ("x..x..x..x..x..x..", 0.0, true, "one in three, and nobody else fails"),
            (".x.........x........", 0.0, false, "one in ten is below the least share"),
            ("x.x.x.x.x.x.x.x.x.x.", 0.5, false, "the others fail as often"),
            ("x.x.x.x.x.x.x.x.x.x.", 0.1, true, "the others fail now and then"),
        ];
        for (outcomes, others, expected, why) in cases {
            assert_eq!(after(outcomes).is_often(0.2, others), expected, "{outcomes}: {why}");
        }
    }

    #[test]
    fn what_befalls_all_is_seen_at_once() {
        let healthy = after(&".".repeat(60)).memory;
        let hit = after(&format!("{}xx", ".".repeat(60))).memory;
        assert!(share_of([healthy; 3].into_iter()) < 0.01);
        assert!(share_of([hit; 3].into_iter()) > 0.5);
        assert!(share_of([healthy, healthy, hit].into_iter()) < 0.2);
        assert!((share_of(std::iter::empty()) - PRIOR).abs() < 1e-9);
    }
}
