//! Says when a pool saturates, and when it has room again.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::endpoints::Pool;
use crate::flow_control::{Pending, SaturationDetector};
use crate::scheduling::Candidate;

/// How often the pool is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks with room, one after the other, until the pool counts as having room again: one that
/// comes and goes is no news each time.
const CALM_LOOKS: u32 = 5;

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Saturated,
    HasRoom,
}

/// Whether the pool was saturated when it was last told of.
#[derive(Debug, Default)]
struct Told {
    saturated: bool,
    calm_looks: u32,
}

impl Told {
    /// Takes note of a look, and says what is new.
    fn look(&mut self, saturated: bool) -> Option<News> {
        self.calm_looks = if saturated { 0 } else { self.calm_looks.saturating_add(1) };
        if saturated && !self.saturated {
            self.saturated = true;
            Some(News::Saturated)
        } else if self.saturated && self.calm_looks >= CALM_LOOKS {
            self.saturated = false;
            Some(News::HasRoom)
        } else {
            None
        }
    }
}

/// Logs one line when `detector` finds the pool saturated and one when it has room again, for as
/// long as the pool is there.
pub(super) fn watch(pool: &Arc<Pool>, detector: Arc<dyn SaturationDetector>, staleness: Duration) {
    let pool = Arc::downgrade(pool);
    tokio::spawn(async move {
        let mut told = Told::default();
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(pool) = pool.upgrade() else { return };
            let (snapshot, now) = (pool.snapshot(), clock::now());
            // Nothing to saturate: that there is no endpoint is told elsewhere.
            if snapshot.endpoints.is_empty() {
                continue;
            }
            let candidates: Vec<Candidate<'_>> =
                snapshot.endpoints.iter().map(Candidate::new).collect();
            let saturation = detector.saturation(&candidates, Pending::default(), now);
            let unread = candidates.iter().filter(|c| c.signals.is_stale(now, staleness)).count();
            let endpoints = candidates.len();
            match told.look(saturation >= 1.0) {
                Some(News::Saturated) => {
                    tracing::warn!(saturation, endpoints, unread, "The pool is saturated");
                }
                Some(News::HasRoom) => {
                    tracing::info!(saturation, endpoints, unread, "The pool has room again");
                }
                None => {}
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_when_it_saturates_and_one_when_that_is_over() {
        let mut told = Told::default();
        // S: saturated, a dot: room; what is told of each look is below it.
        let looks = "..SSS.S..S.....SS.......";
        let said = "  s           rs     r  ";
        for (at, (look, news)) in looks.chars().zip(said.chars()).enumerate() {
            let expected = match news {
                's' => Some(News::Saturated),
                'r' => Some(News::HasRoom),
                _ => None,
            };
            assert_eq!(told.look(look == 'S'), expected, "look {at}");
        }
    }
}
