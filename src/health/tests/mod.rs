//! Health as a whole: by example, under any events, and with pickers on top in virtual time.

mod cases;
mod experiment;
mod properties;
mod virtual_pool;

use std::time::Duration;

use super::*;
use crate::clock::Timestamp;

/// The moment so many milliseconds after the start.
fn at(ms: u64) -> Timestamp {
    Timestamp::START + Duration::from_millis(ms)
}

/// A pool to be driven by hand.
struct Driven {
    health: Health,
    endpoints: Vec<EndpointHealth>,
    rng: fastrand::Rng,
}

impl Driven {
    fn new(count: usize) -> Self {
        Self {
            health: Health::new(HealthPolicy::default()),
            endpoints: (0..count).map(|_| EndpointHealth::default()).collect(),
            rng: fastrand::Rng::with_seed(7),
        }
    }

    fn screen(&mut self, now: Timestamp) -> Selection {
        self.health.screen(self.endpoints.iter(), true, now, &mut self.rng).selection
    }

    fn sent(&self, i: usize, now: Timestamp) -> Attempt {
        self.health.sent(&self.endpoints[i], now)
    }

    fn observe(
        &mut self,
        i: usize,
        attempt: &mut Attempt,
        outcome: Observation,
        now: Timestamp,
    ) -> Option<Change> {
        let all = self.endpoints.iter();
        self.health.observe(&self.endpoints[i], attempt, outcome, all, now, &mut self.rng)
    }

    /// A request from its start to its outcome.
    fn exchange(&mut self, i: usize, outcome: Observation, now: Timestamp) -> Option<Change> {
        let mut attempt = self.sent(i, now);
        self.observe(i, &mut attempt, outcome, now + Duration::from_millis(1))
    }

    fn scraped(&self, i: usize, scrape: Scrape, now: Timestamp) -> Option<Change> {
        self.health.scraped(&self.endpoints[i], scrape, 0, now)
    }

    fn standings(&self) -> Vec<Standing> {
        self.endpoints.iter().map(EndpointHealth::standing).collect()
    }
}

const GOOD: Observation = Observation::Answered { work: 1.0 };
const BAD: Observation = Observation::Failed(Failure::Status(500));
