use std::time::Duration;

use super::drain_rate::RateMeter;
use crate::clock::Timestamp;

/// What is learned from one request whose answer begins.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// From sending it to the first token.
    pub ttft: Duration,
    /// Requests in flight at its endpoint when it was sent, itself included.
    pub in_flight: i64,
    /// Prompt tokens the endpoint had to work on; 0 where unknown.
    pub tokens: i64,
    /// Endpoints that share the requests.
    pub endpoints: usize,
}

/// How many requests an endpoint can have in flight before more of them only make its queue
/// longer, learned from the time to the first token (TTFT).
///
/// What a request waits in its engine's queue is its TTFT beyond what requests of its size take
/// while the engine has room. By Little's law, that excess times the rate at which first tokens
/// come is the length of the queue. The limit rises while that queue is shorter than a quarter
/// of the limit (and [`ALLOWED_QUEUE`] requests), so that the engine never runs dry, and falls
/// while it is longer: additive steps of a few per cent a round, as congestion control does.
///
/// What a request takes while there is room is remembered by size of prompt (by powers of two)
/// as a low quantile. It is raised only by requests that were sent while half of the limit was
/// free, so that a pool that is full for hours does not take its queue for normal.
#[derive(Debug)]
pub struct LearnedLimit {
    limit: f64,
    /// Until the queue was too long for the first time, the limit rises fast.
    is_starting: bool,
    /// ln of seconds, by size class; NaN before the first observation.
    floors: [f64; SIZE_CLASSES],
    /// First tokens a second, of all endpoints.
    rate: RateMeter,
    /// Mean length of an endpoint's queue.
    queue: f64,
    /// Mean of what the requests seen take while there is room, seconds.
    unhurried: f64,
    observations: u64,
}

const SIZE_CLASSES: usize = 32;
/// A limit to begin with: less than what any engine in use keeps busy with.
const FIRST_LIMIT: f64 = 16.0;
const LIMITS: (f64, f64) = (1.0, 8192.0);
/// Over how long the rate of first tokens is averaged, seconds.
const RATE_WINDOW_S: f64 = 5.0;
/// How long requests may wait in an engine's queue, seconds: more than the pauses between the ends
/// of requests, so that it does not run dry, and less than people notice.
const QUEUE_S: f64 = 0.25;
/// Requests that may wait in an engine's queue, whatever the limit, so that it does not run dry.
const ALLOWED_QUEUE: f64 = 2.0;
/// Share of the limit that may wait there on top.
const ALLOWED_SHARE: f64 = 0.25;
/// How far the limit moves in a round, which is one observation for each request of the limit.
const STEP_START: f64 = 0.5;
const STEP_UP: f64 = 0.05;
const STEP_DOWN: f64 = 0.1;
/// The limit rises only where at least this share of it was in use.
const IN_USE: f64 = 0.7;
/// An observation says what an unhurried request takes if at most this share was in use.
const UNHURRIED: f64 = 0.5;
/// Which quantile of unhurried requests counts as what they take, and how fast it is followed.
const FLOOR_QUANTILE: f64 = 0.25;
const FLOOR_STEP: f64 = 0.1;
/// From so many observations on the limit means something.
const ENOUGH: u64 = 32;

impl Default for LearnedLimit {
    fn default() -> Self {
        Self {
            limit: FIRST_LIMIT,
            is_starting: true,
            floors: [f64::NAN; SIZE_CLASSES],
            rate: RateMeter::new(RATE_WINDOW_S),
            queue: 0.0,
            unhurried: 0.0,
            observations: 0,
        }
    }
}

impl LearnedLimit {
    /// Requests an endpoint can have in flight; `None` before enough was seen.
    pub fn limit(&self) -> Option<f64> {
        (self.observations >= ENOUGH).then_some(self.limit)
    }

    /// Mean length of an endpoint's queue, requests.
    pub fn queue(&self) -> f64 {
        self.queue
    }

    /// How many requests may wait for their first token at one of `endpoints`: by Little's law, the
    /// rate of first tokens times what they take while there is room, and [`QUEUE_S`] on top, or
    /// one request where that is less.
    pub fn allowed_unanswered(&self, endpoints: usize, now: Timestamp) -> f64 {
        let rate = self.rate.rate(now) / endpoints.max(1) as f64;
        rate * self.unhurried + (rate * QUEUE_S).max(1.0)
    }

    /// Learns from a request whose answer begins at `now`. Requests that are not streamed must
    /// not be given: their first token comes with their last.
    pub fn observe(&mut self, observation: Observation, now: Timestamp) {
        let endpoints = observation.endpoints.max(1) as f64;
        let in_flight = observation.in_flight.max(1) as f64;
        let ttft = observation.ttft.as_secs_f64().max(1e-6);
        self.rate.note(now);
        self.observations += 1;
        let unhurried = in_flight <= (self.limit * UNHURRIED).max(1.0);
        let floor = self.follow_floor(observation.tokens, ttft, unhurried);
        let weight = (1.0 / self.observations as f64).max(0.01);
        self.unhurried += weight * (floor - self.unhurried);

        let length = self.rate.rate(now) / endpoints * (ttft - floor).max(0.0);
        // The mean over a good part of a round of all endpoints.
        let weight = 1.0 / (self.limit * endpoints / 2.0).clamp(4.0, 500.0);
        self.queue += weight * (length - self.queue);

        let allowed = ALLOWED_QUEUE + ALLOWED_SHARE * self.limit;
        let step = if self.queue > allowed {
            self.is_starting = false;
            -STEP_DOWN
        } else if in_flight < IN_USE * self.limit {
            0.0
        } else if self.is_starting {
            STEP_START
        } else {
            STEP_UP
        };
        self.limit = (self.limit + step / endpoints).clamp(LIMITS.0, LIMITS.1);
    }

    /// Brings the floor of the prompt's size up to date; returns it in seconds.
    fn follow_floor(&mut self, tokens: i64, ttft: f64, unhurried: bool) -> f64 {
        let class = 64 - tokens.max(0).leading_zeros() as usize;
        let floor = &mut self.floors[class.min(SIZE_CLASSES - 1)];
        let seen = ttft.ln();
        if floor.is_nan() {
            *floor = seen;
        } else if seen < *floor {
            *floor -= FLOOR_STEP * (1.0 - FLOOR_QUANTILE);
        } else if unhurried {
            *floor += FLOOR_STEP * FLOOR_QUANTILE;
        }
        floor.exp()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One engine that runs `slots` requests at once, each for about `service_s` after a prefill
    /// of `prefill_s`, behind a gate that keeps as many in flight as the limit allows.
    struct Engine {
        slots: usize,
        prefill_s: f64,
        service_s: f64,
        rng: fastrand::Rng,
    }

    impl Engine {
        /// Offers more than it can take for so many requests; returns when the last began.
        fn overload(&mut self, limit: &mut LearnedLimit, requests: usize, from: f64) -> f64 {
            // When each slot is free, when each request in flight ends.
            let mut slots = vec![from; self.slots];
            let mut ends: Vec<f64> = Vec::new();
            let mut begun: Vec<(f64, Observation)> = Vec::new();
            let mut now = from;
            for _ in 0..requests {
                while ends.len() as f64 >= limit.limit.floor().max(1.0) {
                    let next = ends.iter().copied().fold(f64::INFINITY, f64::min);
                    now = now.max(next);
                    ends.retain(|end| *end > now);
                    begun.sort_by(|a, b| a.0.total_cmp(&b.0));
                    let due = begun.partition_point(|(at, _)| *at <= now);
                    for (at, observation) in begun.drain(..due) {
                        limit.observe(observation, Timestamp::START + Duration::from_secs_f64(at));
                    }
                }
                let slot = (0..slots.len()).min_by(|a, b| slots[*a].total_cmp(&slots[*b])).unwrap();
                let start = now.max(slots[slot]);
                let first = start + self.prefill_s * (0.8 + 0.4 * self.rng.f64());
                let end = first + self.service_s * (0.2 + 1.6 * self.rng.f64());
                slots[slot] = end;
                ends.push(end);
                let observation = Observation {
                    ttft: Duration::from_secs_f64(first - now),
                    in_flight: ends.len() as i64,
                    tokens: 500,
                    endpoints: 1,
                };
                begun.push((first, observation));
            }
            now
        }
    }

    fn engine(slots: usize, prefill_s: f64, service_s: f64, seed: u64) -> Engine {
        Engine { slots, prefill_s, service_s, rng: fastrand::Rng::with_seed(seed) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Wherever the engine's capacity lies, the limit keeps all of it busy and holds no more
        /// than half as much again in the engine's queue.
        #[test]
        fn the_limit_settles_just_above_the_slots(
            slots in 4usize..300,
            prefill_ms in 20u32..400,
            service_s in 1u32..12,
            seed: u64,
        ) {
            let mut limit = LearnedLimit::default();
            let prefill_s = f64::from(prefill_ms) / 1e3;
            let mut engine = engine(slots, prefill_s, f64::from(service_s), seed);
            engine.overload(&mut limit, 40 * slots + 2000, 0.0);
            let learned = limit.limit().unwrap();
            let slots = slots as f64;
            prop_assert!(learned >= slots * 0.98, "{learned} of {slots}");
            prop_assert!(learned <= slots * 1.6 + 8.0, "{learned} of {slots}");
        }

        /// Nothing that is observed makes it useless.
        #[test]
        fn the_limit_stays_in_its_range(
            observations in prop::collection::vec((0u64..100_000, any::<i64>(), any::<i64>(), 0usize..9), 1..400),
        ) {
            let mut limit = LearnedLimit::default();
            for (n, (ms, in_flight, tokens, endpoints)) in observations.into_iter().enumerate() {
                let ttft = Duration::from_millis(ms);
                let now = Timestamp::START + Duration::from_millis(n as u64 * ms % 977);
                limit.observe(Observation { ttft, in_flight, tokens, endpoints }, now);
                prop_assert!((LIMITS.0..=LIMITS.1).contains(&limit.limit));
                prop_assert!(limit.queue().is_finite() && limit.queue() >= 0.0);
            }
        }
    }

    #[test]
    fn it_follows_an_engine_that_changes() {
        let mut limit = LearnedLimit::default();
        let mut now = 0.0;
        for slots in [32, 96, 24] {
            now = engine(slots, 0.1, 4.0, 7).overload(&mut limit, 12_000, now + 60.0);
            let learned = limit.limit().unwrap();
            let slots = slots as f64;
            assert!((slots * 0.98..slots * 1.6 + 8.0).contains(&learned), "{learned} of {slots}");
        }
    }

    #[test]
    fn it_knows_nothing_before_it_saw_enough_and_does_not_grow_unused() {
        let mut limit = LearnedLimit::default();
        assert_eq!(limit.limit(), None);
        for n in 0..1000u64 {
            let observation = Observation {
                ttft: Duration::from_millis(50),
                in_flight: 2,
                tokens: 100,
                endpoints: 1,
            };
            limit.observe(observation, Timestamp::START + Duration::from_millis(n * 100));
        }
        assert_eq!(limit.limit(), Some(FIRST_LIMIT));
    }
}
