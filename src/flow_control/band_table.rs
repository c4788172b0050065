use std::sync::Arc;

use super::FairnessPolicy;

/// The bands there are, for those that only have to know that: read without a lock.
#[derive(Debug, Default)]
pub(super) struct BandTable {
    /// From the highest to the lowest.
    pub(super) priorities: Vec<i32>,
    /// The band's policy where it wants to hear what becomes of requests.
    pub(super) listening: Vec<Option<Arc<dyn FairnessPolicy>>>,
}

impl BandTable {
    /// The band that a request of this priority waits in: its own, or else the nearest lower
    /// one. None where there is none as low.
    pub(super) fn band_of(&self, priority: i32) -> Option<usize> {
        band_of(&self.priorities, priority)
    }
}

/// See [`BandTable::band_of`]; `priorities` fall.
pub(super) fn band_of(priorities: &[i32], priority: i32) -> Option<usize> {
    let at = priorities.partition_point(|p| *p > priority);
    (at < priorities.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_priority_goes_down_and_never_up() {
        for (priorities, priority, expected) in [
            (&[100, 0, -10][..], 100, Some(0)),
            (&[100, 0, -10], 101, Some(0)),
            (&[100, 0, -10], 99, Some(1)),
            (&[100, 0, -10], -1, Some(2)),
            (&[100, 0, -10], -11, None),
            (&[0], i32::MIN, None),
            (&[], 0, None),
        ] {
            assert_eq!(band_of(priorities, priority), expected, "{priorities:?} {priority}");
        }
    }
}
