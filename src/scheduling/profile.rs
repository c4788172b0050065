use std::sync::Arc;

use super::plugin::{Filter, Picker, ProfileResult, Scorer};
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
        trace: Option<&mut DecisionTrace>,
    ) -> ProfileResult {
        let n = cycle.candidates.len();
        let mut taken_down = trace.is_some().then(|| ProfileTrace::of(at));
        let mut kept: Vec<u32> = (0..n as u32).collect();
        let mut none_exists = true;
        for (at, (_, filter)) in self.filters.iter().enumerate() {
            none_exists &= !filter.depends_on_load();
            let before = kept.len();
            filter.filter(cycle, &mut kept);
            if let Some(t) = &mut taken_down {
                t.filters_run = at + 1;
                if kept.len() < before {
                    t.filtered(at, n, &kept);
                }
            }
            if kept.is_empty() {
                break;
            }
        }
        let none_exists = none_exists && kept.is_empty();
        let mut result = ProfileResult { none_exists, ..ProfileResult::default() };
        if !kept.is_empty() {
            let (mut scores, totals) = self.score(cycle, &kept, taken_down.is_some());
            result.picks = self.picker.pick(cycle, &kept, &totals);
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
    /// scorer where all of them are to be kept, else the last scorer's alone.
    fn score(&self, cycle: &Cycle<'_>, kept: &[u32], keep_all: bool) -> (Vec<f64>, Vec<f64>) {
        let width = kept.len();
        let rows = if keep_all { self.scorers.len() } else { 1 };
        let mut scores = vec![0.0; width * rows];
        let mut totals = vec![0.0; width];
        for (at, WeightedScorer { scorer, weight, .. }) in self.scorers.iter().enumerate() {
            let row = if keep_all { at } else { 0 };
            let Some(row) = scores.get_mut(row * width..(row + 1) * width) else { continue };
            if !keep_all {
                row.fill(0.0);
            }
            scorer.score(cycle, kept, row);
            for (total, score) in totals.iter_mut().zip(&*row) {
                *total += score.clamp(0.0, 1.0) * weight;
            }
        }
        (scores, totals)
    }
}
