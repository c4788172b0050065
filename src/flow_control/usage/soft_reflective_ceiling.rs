use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::smallvec;

use super::{Ceilings, UsageLimit};

/// `soft-reflective-ceiling-policy`: the fuller the pool, the earlier lower bands are held back,
/// and the less often they may go all the same. Formulas of llm-d-router main at ebab6879.
#[derive(Debug, Default)]
pub struct SoftReflectiveCeiling {
    /// Calls at a saturation of at least [`COUNTED_FROM`].
    calls: AtomicU64,
}

/// Below this the period is 1, so that nothing has to be counted.
const COUNTED_FROM: f64 = 0.5;
const OPEN: f64 = 1.0;
const CLOSED: f64 = 0.0;

impl SoftReflectiveCeiling {
    /// Whether it is the turn of bands at or past their ceiling: once in round(S / (1 - S)) calls.
    fn is_turn(saturation: f64, call: u64) -> bool {
        let period = (saturation / (1.0 - saturation)).round().max(1.0);
        call.is_multiple_of(period as u64)
    }
}

impl UsageLimit for SoftReflectiveCeiling {
    fn ceilings(&self, saturation: f64, priorities: &[i32]) -> Ceilings {
        let bands = priorities.len();
        let mut ceilings: Ceilings = smallvec![OPEN; bands];
        if bands < 2 {
            return ceilings;
        }
        let counted = saturation >= COUNTED_FROM;
        let call = if counted { self.calls.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        for (rank, ceiling) in ceilings.iter_mut().enumerate().skip(1) {
            let reflected = 1.0 - rank as f64 * saturation / (bands - 1) as f64;
            let is_open =
                saturation < reflected || saturation < 1.0 && Self::is_turn(saturation, call);
            *ceiling = if is_open { OPEN } else { CLOSED };
        }
        ceilings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 1000 calls find each band open.
    fn opened(saturation: f64, priorities: &[i32]) -> Vec<usize> {
        let policy = SoftReflectiveCeiling::default();
        let mut opened = vec![0; priorities.len()];
        for _ in 0..1000 {
            for (count, ceiling) in opened.iter_mut().zip(policy.ceilings(saturation, priorities)) {
                *count += usize::from(saturation < ceiling);
            }
        }
        opened
    }

    #[test]
    fn lower_bands_go_the_less_often_the_fuller_the_pool() {
        for (saturation, priorities, expected) in [
            (0.0, &[1, 0, -1][..], &[1000, 1000, 1000][..]),
            (0.45, &[1, 0, -1], &[1000, 1000, 1000]),
            (0.65, &[1, 0, -1], &[1000, 1000, 500]),
            (0.75, &[1, 0, -1], &[1000, 333, 333]),
            (0.9, &[1, 0, -1], &[1000, 111, 111]),
            (1.0, &[1, 0, -1], &[0, 0, 0]),
            (0.99, &[5], &[1000]),
        ] {
            assert_eq!(opened(saturation, priorities), expected, "{saturation}");
        }
    }
}
