use std::sync::Arc;

use super::explain::{FilterStep, ProfileExplanation, ScorerStep};
use super::plugin::{Filter, Picker, ProfileResult, Scorer};
use super::{Cycle, Explanation};

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
}

impl Profile {
    /// Filters, scores and picks among all candidates of the cycle. The sum is taken in the
    /// order of the configuration, each score limited to [0, 1] first (the reference's order,
    /// so that the last digit agrees). A profile whose filters leave nothing has no picks.
    pub(super) fn run(
        &self,
        cycle: &Cycle<'_>,
        keep_scores: bool,
        explanation: Option<&mut Explanation>,
    ) -> ProfileResult {
        let n = cycle.candidates.len();
        let mut explained = explanation
            .is_some()
            .then(|| ProfileExplanation { name: self.name.to_string(), ..Default::default() });
        let mut kept: Vec<u32> = (0..n as u32).collect();
        let mut none_exists = true;
        for (name, filter) in &self.filters {
            none_exists &= !filter.depends_on_load();
            filter.filter(cycle, &mut kept);
            if let Some(e) = &mut explained {
                e.filters.push(FilterStep { plugin: name.clone(), kept: kept.clone() });
            }
            if kept.is_empty() {
                break;
            }
        }
        let none_exists = none_exists && kept.is_empty();
        let mut result = ProfileResult { none_exists, ..ProfileResult::default() };
        if !kept.is_empty() {
            let mut totals = vec![0.0; kept.len()];
            let mut scores = vec![0.0; kept.len()];
            for WeightedScorer { name, scorer, weight } in &self.scorers {
                scores.fill(0.0);
                scorer.score(cycle, &kept, &mut scores);
                for (total, score) in totals.iter_mut().zip(&scores) {
                    *total += score.clamp(0.0, 1.0) * weight;
                }
                if let Some(e) = &mut explained {
                    e.scorers.push(ScorerStep {
                        plugin: name.clone(),
                        weight: *weight,
                        scores: spread(n, &kept, &scores),
                    });
                }
            }
            result.picks = self.picker.pick(cycle, &kept, &totals);
            if let Some(e) = &mut explained {
                e.totals = spread(n, &kept, &totals);
                e.picks = result.picks.to_vec();
            }
            if keep_scores {
                result.scores = kept.into_iter().zip(totals).collect();
            }
        }
        if let (Some(all), Some(e)) = (explanation, explained) {
            all.profiles.push(e);
        }
        result
    }
}

fn spread(n: usize, kept: &[u32], values: &[f64]) -> Vec<Option<f64>> {
    let mut all = vec![None; n];
    for (&i, &v) in kept.iter().zip(values) {
        all[i as usize] = Some(v);
    }
    all
}
