use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::Served;
use crate::clock::Timestamp;

/// An output token costs about twice what a prompt token does (llm-d-router main at ebab6879).
const COMPLETION_WEIGHT: u64 = 2;

/// Parameters of [`super::ProgramAware`], with the reference's defaults (llm-d-router main at
/// ebab6879; turn priority came after it).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProgramAwareConfig {
    pub strategy: ProgramStrategy,
    /// A program of which nothing completed for so long is forgotten.
    pub eviction_ttl: Duration,
    /// How often it is looked for such programs.
    pub eviction_sweep: Duration,
    /// After this time half of the attained service is forgotten; zero: never.
    pub half_life: Duration,
}

/// Which program goes first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ProgramStrategy {
    /// `las`: who attained the least service, and among them who waited longest.
    LeastAttainedService { weight_service: f64, weight_head_wait: f64 },
    /// `turn-priority`: whose session took the most turns, with so many turns for each second
    /// that it waits. A session that rests for `inactivity` starts at turn one.
    TurnPriority { time_weight: f64, inactivity: Duration },
}

impl Default for ProgramAwareConfig {
    fn default() -> Self {
        Self {
            strategy: ProgramStrategy::LeastAttainedService {
                weight_service: 0.8,
                weight_head_wait: 0.2,
            },
            eviction_ttl: Duration::from_secs(3600),
            eviction_sweep: Duration::from_secs(300),
            half_life: Duration::from_secs(60),
        }
    }
}

/// What is remembered of one program: all requests of one fairness id.
#[derive(Clone, Debug)]
pub(super) struct Program {
    id: Arc<str>,
    /// Attained service at `service_at`, in prompt tokens.
    service: f64,
    service_at: Timestamp,
    dispatched: u64,
    in_flight: u64,
    last_completion: Option<Timestamp>,
    last_seen: Timestamp,
    /// Bands in which something of it waits.
    waiting: u32,
    waited_s: f64,
}

impl Program {
    fn decay(&mut self, half_life: Duration, now: Timestamp) {
        if !half_life.is_zero() {
            let halves = now.since(self.service_at).as_secs_f64() / half_life.as_secs_f64();
            self.service *= (-halves).exp2();
        }
        self.service_at = self.service_at.max(now);
    }

    pub(super) fn attained_service(&mut self, half_life: Duration, now: Timestamp) -> f64 {
        self.decay(half_life, now);
        self.service
    }

    /// The turn that its next request is.
    pub(super) fn turn(&self, inactivity: Duration, now: Timestamp) -> u64 {
        let rests = |at: Timestamp| !inactivity.is_zero() && now.since(at) > inactivity;
        if self.in_flight == 0 && self.last_completion.is_some_and(rests) {
            return 1;
        }
        self.dispatched + 1
    }
}

/// All programs that are remembered.
#[derive(Debug, Default)]
pub(super) struct Programs {
    by_id: HashMap<Arc<str>, usize>,
    programs: Slab<Program>,
    swept_at: Timestamp,
}

impl Programs {
    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Program> {
        self.programs.get_mut(key)
    }

    fn entry(&mut self, id: &str, now: Timestamp) -> &mut Program {
        let key = self.by_id.get(id).copied().filter(|key| self.programs.contains(*key));
        let key = key.unwrap_or_else(|| {
            let id: Arc<str> = id.into();
            let key = self.programs.insert(Program {
                id: id.clone(),
                service: 0.0,
                service_at: now,
                dispatched: 0,
                in_flight: 0,
                last_completion: None,
                last_seen: now,
                waiting: 0,
                waited_s: 0.0,
            });
            self.by_id.insert(id, key);
            key
        });
        let program = &mut self.programs[key];
        program.last_seen = program.last_seen.max(now);
        program
    }

    /// Something of the program begins to wait in a band; it is not forgotten until
    /// [`Programs::rest`]. Returns its key.
    pub(super) fn wait(&mut self, id: &str, now: Timestamp) -> usize {
        self.entry(id, now).waiting += 1;
        self.by_id.get(id).copied().unwrap_or_default()
    }

    pub(super) fn rest(&mut self, key: usize) {
        if let Some(program) = self.programs.get_mut(key) {
            program.waiting = program.waiting.saturating_sub(1);
        }
    }

    pub(super) fn dispatched(&mut self, id: &str, waited: Duration, now: Timestamp) {
        let program = self.entry(id, now);
        program.dispatched += 1;
        program.in_flight += 1;
        program.waited_s += waited.as_secs_f64();
    }

    pub(super) fn finished(
        &mut self,
        id: &str,
        served: Served,
        config: &ProgramAwareConfig,
        now: Timestamp,
    ) {
        let program = self.entry(id, now);
        program.in_flight = program.in_flight.saturating_sub(1);
        program.last_completion = Some(now);
        program.decay(config.half_life, now);
        let completion = served.completion_tokens.saturating_mul(COMPLETION_WEIGHT);
        program.service += served.prompt_tokens.saturating_add(completion) as f64;
        if now.since(self.swept_at) >= config.eviction_sweep {
            self.forget_idle(config.eviction_ttl, now);
        }
    }

    fn forget_idle(&mut self, ttl: Duration, now: Timestamp) {
        self.swept_at = now;
        let by_id = &mut self.by_id;
        self.programs.retain(|_, program| {
            let stays =
                program.waiting > 0 || program.in_flight > 0 || now.since(program.last_seen) <= ttl;
            if !stays {
                by_id.remove(&program.id);
            }
            stays
        });
    }

    /// How equal the programs' mean waits are: Jain's index, 1 where all are the same.
    pub(super) fn fairness_index(&self) -> f64 {
        let waits = self.programs.iter().filter(|(_, p)| p.dispatched > 0);
        let waits = waits.map(|(_, p)| p.waited_s / p.dispatched as f64);
        let (n, sum, squares) =
            waits.fold((0.0, 0.0, 0.0), |(n, sum, sq), w| (n + 1.0, sum + w, sq + w * w));
        if squares > 0.0 { sum * sum / (n * squares) } else { 1.0 }
    }

    /// Id, mean wait and attained service of each program.
    pub(super) fn list(
        &self,
        half_life: Duration,
        now: Timestamp,
    ) -> Vec<(Arc<str>, Duration, f64)> {
        let row = |(_, p): (usize, &Program)| {
            let mean = p.waited_s / p.dispatched.max(1) as f64;
            let service = p.clone().attained_service(half_life, now);
            (p.id.clone(), Duration::try_from_secs_f64(mean).unwrap_or_default(), service)
        };
        self.programs.iter().map(row).collect()
    }
}
