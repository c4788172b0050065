use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::program::{ProgramAwareConfig, ProgramStrategy, Programs};
use super::{BandFairness, FairnessPolicy, FlowKey, Head, Served};
use crate::clock::Timestamp;

/// `program-aware-fairness`: looks at what each program (fairness id) was served so far, not
/// only at what waits. Formulas of llm-d-router main at ebab6879.
#[derive(Clone, Debug)]
pub struct ProgramAware {
    config: ProgramAwareConfig,
    programs: Arc<Mutex<Programs>>,
}

impl ProgramAware {
    pub fn new(config: ProgramAwareConfig) -> Self {
        Self { config, programs: Arc::default() }
    }

    /// How equal the programs' mean waits are: Jain's index, 1 where all are the same.
    pub fn fairness_index(&self) -> f64 {
        self.programs.lock().fairness_index()
    }

    /// Id, mean wait and attained service (in prompt tokens) of each remembered program.
    pub fn programs(&self, now: Timestamp) -> Vec<(Arc<str>, Duration, f64)> {
        self.programs.lock().list(self.config.half_life, now)
    }
}

impl FairnessPolicy for ProgramAware {
    fn band(&self) -> Box<dyn BandFairness> {
        let Self { config, programs } = self.clone();
        Box::new(Band { config, programs, entries: Vec::new(), places: HashMap::new() })
    }

    fn remembers(&self) -> bool {
        true
    }

    fn dispatched(&self, fairness_id: &str, waited: Duration, now: Timestamp) {
        self.programs.lock().dispatched(fairness_id, waited, now);
    }

    fn finished(&self, fairness_id: &str, served: Served, now: Timestamp) {
        self.programs.lock().finished(fairness_id, served, &self.config, now);
    }
}

/// The flows of one band that have something waiting, side by side to be looked through.
#[derive(Debug)]
struct Band {
    config: ProgramAwareConfig,
    programs: Arc<Mutex<Programs>>,
    entries: Vec<Entry>,
    /// Where in `entries` a flow is.
    places: HashMap<FlowKey, usize>,
}

#[derive(Debug)]
struct Entry {
    flow: FlowKey,
    /// Key into the programs.
    program: usize,
    head: Head,
}

impl BandFairness for Band {
    fn head_changed(
        &mut self,
        flow: FlowKey,
        fairness_id: &Arc<str>,
        _: Option<Head>,
        now: Option<Head>,
    ) {
        match (self.places.get(&flow).copied(), now) {
            (Some(place), Some(head)) => self.entries[place].head = head,
            (None, Some(head)) => {
                let program = self.programs.lock().wait(fairness_id, head.enqueued_at);
                self.places.insert(flow, self.entries.len());
                self.entries.push(Entry { flow, program, head });
            }
            (Some(place), None) => {
                self.places.remove(&flow);
                let entry = self.entries.swap_remove(place);
                self.programs.lock().rest(entry.program);
                if let Some(moved) = self.entries.get(place) {
                    self.places.insert(moved.flow, place);
                }
            }
            (None, None) => {}
        }
    }

    fn next(&mut self, now: Timestamp) -> Option<FlowKey> {
        let mut programs = self.programs.lock();
        match self.config.strategy {
            ProgramStrategy::LeastAttainedService { weight_service, weight_head_wait } => {
                let half_life = self.config.half_life;
                let signals: Vec<(f64, f64)> = (self.entries.iter())
                    .map(|e| {
                        let program = programs.get_mut(e.program);
                        let service = program.map_or(0.0, |p| p.attained_service(half_life, now));
                        (service, now.since(e.head.enqueued_at).as_secs_f64())
                    })
                    .collect();
                let service = Range::of(signals.iter().map(|s| s.0));
                let wait = Range::of(signals.iter().map(|s| s.1));
                let scores = signals.iter().map(|(s, w)| {
                    weight_service * (1.0 - service.place(*s)) + weight_head_wait * wait.place(*w)
                });
                self.best(scores)
            }
            ProgramStrategy::TurnPriority { time_weight, inactivity } => {
                let scores = self.entries.iter().map(|e| {
                    let turn = programs.get_mut(e.program).map_or(1, |p| p.turn(inactivity, now));
                    turn as f64 + time_weight * now.since(e.head.enqueued_at).as_secs_f64()
                });
                self.best(scores)
            }
        }
    }
}

impl Band {
    /// The flow of the highest score; of equal ones the one whose head came first, so that
    /// nothing depends on where a flow happens to lie.
    fn best(&self, scores: impl Iterator<Item = f64>) -> Option<FlowKey> {
        let scored = scores.zip(&self.entries);
        let best = scored.max_by(|(a, x), (b, y)| a.total_cmp(b).then(y.head.seq.cmp(&x.head.seq)));
        best.map(|(_, entry)| entry.flow)
    }
}

/// The values of one signal over all flows.
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = (f64::INFINITY, f64::NEG_INFINITY);
        values.fold(Self { low, high }, |r, v| Self { low: r.low.min(v), high: r.high.max(v) })
    }

    /// 0 at the low end, 1 at the high one, one half where all are the same.
    fn place(&self, value: f64) -> f64 {
        if self.high == self.low { 0.5 } else { (value - self.low) / (self.high - self.low) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_control::OrderKey;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::START + Duration::from_secs(seconds)
    }

    fn wait(band: &mut Box<dyn BandFairness>, flow: u32, id: &str, seconds: u64) {
        let (key, enqueued_at) = (OrderKey(at(seconds)), at(seconds));
        let head = Head { key, seq: u64::from(flow), enqueued_at };
        band.head_changed(FlowKey(flow), &id.into(), None, Some(head));
    }

    fn serve(policy: &ProgramAware, id: &str, tokens: u64, seconds: u64) {
        policy.dispatched(id, Duration::ZERO, at(seconds));
        let served = Served { prompt_tokens: tokens, completion_tokens: 0 };
        policy.finished(id, served, at(seconds));
    }

    #[test]
    fn who_attained_least_goes_first() {
        let policy = ProgramAware::new(ProgramAwareConfig::default());
        serve(&policy, "greedy", 10_000, 0);
        serve(&policy, "modest", 100, 0);
        let mut band = policy.band();
        assert_eq!(band.next(at(1)), None);
        wait(&mut band, 1, "greedy", 1);
        assert_eq!(band.next(at(2)), Some(FlowKey(1)));
        wait(&mut band, 2, "modest", 2);
        assert_eq!(band.next(at(2)), Some(FlowKey(2)));
        // As much service, so the wait decides.
        serve(&policy, "modest", 9_900, 0);
        assert_eq!(band.next(at(3)), Some(FlowKey(1)));
        band.head_changed(FlowKey(1), &"greedy".into(), None, None);
        assert_eq!(band.next(at(3)), Some(FlowKey(2)));
    }

    #[test]
    fn service_is_forgotten_by_half_lives() {
        let policy = ProgramAware::new(ProgramAwareConfig::default());
        serve(&policy, "a", 1000, 0);
        let service = |seconds| policy.programs(at(seconds))[0].2;
        assert!((service(60) - 500.0).abs() < 1e-9);
        assert!((service(180) - 125.0).abs() < 1e-9);
        let output = Served { prompt_tokens: 10, completion_tokens: 45 };
        policy.finished("a", output, at(60));
        assert!((service(60) - 600.0).abs() < 1e-9);
        let config = ProgramAwareConfig { half_life: Duration::ZERO, ..Default::default() };
        let policy = ProgramAware::new(config);
        serve(&policy, "a", 1000, 0);
        assert_eq!(policy.programs(at(100_000))[0].2, 1000.0);
    }

    #[test]
    fn the_deepest_session_goes_first_until_another_waited_long_enough() {
        let strategy = ProgramStrategy::TurnPriority {
            time_weight: 0.5,
            inactivity: Duration::from_secs(120),
        };
        let policy =
            ProgramAware::new(ProgramAwareConfig { strategy, ..ProgramAwareConfig::default() });
        (0..10).for_each(|_| serve(&policy, "deep", 1, 100));
        let mut band = policy.band();
        wait(&mut band, 1, "new", 100);
        wait(&mut band, 2, "deep", 110);
        assert_eq!(band.next(at(110)), Some(FlowKey(2)), "11 turns against 1 + 5");
        band.head_changed(FlowKey(2), &"deep".into(), None, None);
        wait(&mut band, 3, "deep", 130);
        assert_eq!(band.next(at(130)), Some(FlowKey(1)), "11 turns against 1 + 15");
        wait(&mut band, 4, "other", 229);
        band.head_changed(FlowKey(1), &"new".into(), None, None);
        assert_eq!(band.next(at(230)), Some(FlowKey(3)), "130 s of rest: turn 1, but waits since");
    }

    #[test]
    fn programs_are_forgotten_unless_something_of_them_is_there() {
        let policy = ProgramAware::new(ProgramAwareConfig::default());
        serve(&policy, "gone", 1, 0);
        serve(&policy, "waits", 1, 0);
        policy.dispatched("runs", Duration::ZERO, at(0));
        let mut band = policy.band();
        wait(&mut band, 1, "waits", 1);
        serve(&policy, "late", 1, 4000);
        let mut ids: Vec<_> = policy.programs(at(4000)).into_iter().map(|p| p.0).collect();
        ids.sort();
        assert_eq!(ids, ["late", "runs", "waits"].map(Arc::from));
        assert_eq!(policy.fairness_index(), 1.0);
    }
}
