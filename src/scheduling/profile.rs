use std::sync::Arc;

use super::plugin::{Filter, Picker, ProfileResult, Scorer};
use super::plugin_times::{Laps, ProfileTimers, ScheduleTimers};
use super::trace::ProfileTrace;
use super::{Cycle, DecisionTrace};

/// A scorer and the factor by which its score counts.
#[derive(Clone, Debug)]
pub struct WeightedScorer {
    /// The plugin's name in the configuration.
    pub name: String,
    pub scorer: Arc<dyn Scorer>,
    pub weight: f64,
}

/// A scheduling profile: filters in order, scorers in order, one picker.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: Arc<str>,
    pub filters: Vec<(String, Arc<dyn Filter>)>,
    pub scorers: Vec<WeightedScorer>,
    pub picker: Arc<dyn Picker>,
    /// The picker's name in the configuration.
    pub picker_name: String,
}

impl Profile {
    /// Filters, scores and picks among all candidates of the cycle. The sum is taken in the
    /// order of the configuration, each score limited to [0, 1] first (the reference's order,
    /// so that the last digit agrees). A profile whose filters leave nothing has no picks.
    pub(super) fn run(
        &self,
        cycle: &Cycle<'_>,
        keep_scores: bool,
        at: usize,
        laps: &mut Laps<'_>,
        trace: Option<&mut DecisionTrace>,
    ) -> ProfileResult {
        let n = cycle.candidates.len();
        let mut taken_down = trace.is_some().then(|| ProfileTrace::of(at));
        note(&mut taken_down, laps);
        let mut kept: Vec<u32> = (0..n as u32).collect();
        let mut none_exists = true;
        for (i, (_, filter)) in self.filters.iter().enumerate() {
            none_exists &= !filter.depends_on_load();
            let before = kept.len();
            filter.filter(cycle, &mut kept);
            laps.lap(|timers| of(timers, at)?.filters.get(i));
            if let Some(t) = &mut taken_down {
                t.filters_run = i + 1;
                if kept.len() < before {
                    t.filtered(i, n, &kept);
                }
            }
            if kept.is_empty() {
                break;
            }
        }
        note(&mut taken_down, laps);
        let none_exists = none_exists && kept.is_empty();
        let mut result = ProfileResult { none_exists, ..ProfileResult::default() };
        if !kept.is_empty() {
            let (mut scores, totals) = self.score(cycle, &kept, at, laps, &mut taken_down);
            result.picks = self.picker.pick(cycle, &kept, &totals);
            laps.lap(|timers| Some(&of(timers, at)?.picker));
            note(&mut taken_down, laps);
            if keep_scores {
                result.scores = kept.iter().copied().zip(totals.iter().copied()).collect();
            }
            if let Some(t) = &mut taken_down {
                t.scores = std::mem::take(&mut scores);
                t.totals = totals;
                t.kept = kept;
                t.picks = result.picks.clone();
            }
        }
        if let (Some(trace), Some(t)) = (trace, taken_down) {
            trace.ran(t);
        }
        result
    }

    /// The scores of those that passed, and their weighted sums; one row of scores for each
    /// scorer where all of them are to be taken down, else the last scorer's alone.
    fn score(
        &self,
        cycle: &Cycle<'_>,
        kept: &[u32],
        at: usize,
        laps: &mut Laps<'_>,
        taken_down: &mut Option<ProfileTrace>,
    ) -> (Vec<f64>, Vec<f64>) {
        let width = kept.len();
        let keep_all = taken_down.is_some();
        let rows = if keep_all { self.scorers.len() } else { 1 };
        let mut scores = vec![0.0; width * rows];
        let mut totals = vec![0.0; width];
        for (i, WeightedScorer { scorer, weight, .. }) in self.scorers.iter().enumerate() {
            let row = if keep_all { i } else { 0 };
            let Some(row) = scores.get_mut(row * width..(row + 1) * width) else { continue };
            if !keep_all {
                row.fill(0.0);
            }
            scorer.score(cycle, kept, row);
            laps.lap(|timers| of(timers, at)?.scorers.get(i));
            note(taken_down, laps);
            for (total, score) in totals.iter_mut().zip(&*row) {
                *total += score.clamp(0.0, 1.0) * weight;
            }
        }
        (scores, totals)
    }
}

fn of(timers: &ScheduleTimers, profile: usize) -> Option<&ProfileTimers> {
    timers.profiles.get(profile)
}

/// Takes down when the step ended.
fn note(taken_down: &mut Option<ProfileTrace>, laps: &Laps<'_>) {
    if let Some(t) = taken_down
        && laps.is_measuring()
    {
        t.laps.push(laps.at());
    }
}
