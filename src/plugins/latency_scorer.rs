//! `latency-scorer`: by how much endpoints are predicted to keep the request's limits, or to miss
//! them.

use super::latency_prediction::{LatencyPredictions, PredictedLatency, predictions};
use super::parameters::non_negative;
use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, DataKey, PrefixMatch, Scorer};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "latency-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "by how much endpoints are predicted to keep the request's limits, or to miss them",
    formula: "of the first group with a member (limits kept; idle; TPOT missed; TTFT missed; both): c = weighted headrooms, each from 0 (least) to 1 (most); least: (⌊100 · (1 - c)⌋ + 1)/100, most: (⌊100 · c⌋ + 1)/100. Nothing predicted: weighted mean of 1 - kv, 1 - q/max q and the cached share",
    parameters: Parameters::Listed(&[
        Parameter::number("ttftWeight", "weight of the headroom of the time to first token")
            .default("0.8")
            .at_least(0.0),
        Parameter::number("tpotWeight", "weight of the headroom of the time per output token")
            .default("0.2")
            .at_least(0.0),
        Parameter::one_of(
            "headroomSelectionStrategy",
            &["least", "most"],
            "which of those that keep the limits is best",
        )
        .default("least"),
        Parameter::number(
            "compositeKVWeight",
            "where nothing is predicted: weight of the free KV cache",
        )
        .default("1.0")
        .at_least(0.0),
        Parameter::number(
            "compositeQueueWeight",
            "where nothing is predicted: weight of the short queue",
        )
        .default("1.0")
        .at_least(0.0),
        Parameter::number(
            "compositePrefixWeight",
            "where nothing is predicted: weight of the cached prefix",
        )
        .default("1.0")
        .at_least(0.0),
        Parameter::latency_producer(),
        Parameter::prefix_producer(),
    ]),
};

/// Headrooms that differ by less are the same.
const SAME: f64 = 1e-9;

#[derive(Debug)]
struct LatencyScorer {
    predictions: DataKey<LatencyPredictions>,
    prefix: DataKey<PrefixMatch>,
    ttft_weight: f64,
    tpot_weight: f64,
    strategy: Strategy,
    /// Where nothing is predicted.
    composite: Composite,
}

/// Which endpoint of those that keep the limits is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// The one that keeps them by the least, so that the others stay free for who asks for more.
    Least,
    Most,
}

/// Weights of a score made of what endpoints report.
#[derive(Clone, Copy, Debug)]
struct Composite {
    kv: f64,
    queue: f64,
    prefix: f64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let Build { parameters: mut p, dependencies, .. } = build;
    let ttft_weight = non_negative(&mut p, "ttftWeight", 0.8);
    let tpot_weight = non_negative(&mut p, "tpotWeight", 0.2);
    let strategy = match p.string("headroomSelectionStrategy") {
        None | Some("least") => Strategy::Least,
        Some("most") => Strategy::Most,
        Some(_) => {
            p.error("headroomSelectionStrategy", "must be 'least' or 'most'");
            Strategy::Least
        }
    };
    let composite = Composite {
        kv: non_negative(&mut p, "compositeKVWeight", 1.0),
        queue: non_negative(&mut p, "compositeQueueWeight", 1.0),
        prefix: non_negative(&mut p, "compositePrefixWeight", 1.0),
    };
    let predictions = predictions(&mut p, dependencies);
    let prefix = parameters::prefix_producer(&mut p);
    p.finish();
    let prefix = dependencies.read(prefix);
    let composite = composite.normalized();
    Capabilities::scorer(LatencyScorer {
        predictions,
        prefix,
        ttft_weight,
        tpot_weight,
        strategy,
        composite,
    })
    .reading(Needs { queue: true, kv: true, ..Needs::default() })
}

impl Composite {
    /// The same with a sum of 1.
    fn normalized(self) -> Self {
        let sum = self.kv + self.queue + self.prefix;
        if sum <= 0.0 {
            return Self { kv: 1.0, queue: 0.0, prefix: 0.0 };
        }
        Self { kv: self.kv / sum, queue: self.queue / sum, prefix: self.prefix / sum }
    }
}

impl Scorer for LatencyScorer {
    /// As in llm-d-router main at ebab6879. Of the groups below, the first that is not empty is
    /// scored, the others score 0.
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let predictions = cycle.data.get(self.predictions);
        let of = |c: u32| predictions.and_then(|p| p.get(c));
        if candidates.iter().all(|&c| of(c).is_none()) {
            return self.score_composite(cycle, candidates, scores);
        }
        let idle = |c: u32| cycle.candidates[c as usize].in_flight_requests == 0;
        let group = |c: u32| match of(c) {
            None => Group::Keeps,
            Some(p) if p.has_headroom() => Group::Keeps,
            Some(_) if idle(c) => Group::Idle,
            Some(p) if p.ttft_headroom >= 0.0 => Group::MissesTpot,
            Some(p) if p.tpot_headroom >= 0.0 => Group::MissesTtft,
            Some(_) => Group::MissesBoth,
        };
        let Some(best) = candidates.iter().map(|&c| group(c)).min() else { return };
        let strategy = if best == Group::Keeps { self.strategy } else { Strategy::Least };
        let members: Vec<(usize, Option<PredictedLatency>)> = candidates
            .iter()
            .enumerate()
            .filter(|&(_, &c)| group(c) == best)
            .map(|(i, &c)| (i, of(c)))
            .collect();
        self.score_group(&members, strategy, scores);
    }
}

/// What is predicted of an endpoint, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// Both limits, or nothing is known.
    Keeps,
    /// Misses one, but has nothing else to do.
    Idle,
    MissesTpot,
    MissesTtft,
    MissesBoth,
}

impl LatencyScorer {
    /// Scores the members of a group, given by their place in `scores`, by how large their
    /// headrooms are among the group's.
    fn score_group(
        &self,
        members: &[(usize, Option<PredictedLatency>)],
        strategy: Strategy,
        scores: &mut [f64],
    ) {
        let ttft = Range::of(members.iter().map(|(_, p)| p.map_or(0.0, |p| p.ttft_headroom)));
        let tpot = Range::of(members.iter().map(|(_, p)| p.map_or(0.0, |p| p.tpot_headroom)));
        let (ttft_weight, tpot_weight) = self.weights(ttft.varies(), tpot.varies());
        for &(place, predicted) in members {
            let ttft = ttft.place(predicted.map_or(0.0, |p| p.ttft_headroom));
            let tpot = tpot.place(predicted.map_or(0.0, |p| p.tpot_headroom));
            let combined = ttft_weight * ttft + tpot_weight * tpot;
            let good = match strategy {
                Strategy::Least => 1.0 - combined,
                Strategy::Most => combined,
            };
            scores[place] = ((good * 100.0).trunc() + 1.0) / 100.0;
        }
    }

    /// The weights with a sum of 1; what does not vary has none where the other does.
    fn weights(&self, ttft_varies: bool, tpot_varies: bool) -> (f64, f64) {
        match (ttft_varies, tpot_varies) {
            (true, false) => (1.0, 0.0),
            (false, true) => (0.0, 1.0),
            _ => {
                let sum = self.ttft_weight + self.tpot_weight;
                if sum <= 0.0 {
                    (1.0, 0.0)
                } else {
                    (self.ttft_weight / sum, self.tpot_weight / sum)
                }
            }
        }
    }

    fn score_composite(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let signals = |c: u32| &cycle.candidates[c as usize].signals;
        let longest = candidates.iter().map(|&c| signals(c).waiting).max().unwrap_or(0);
        let prefix = cycle.data.get(self.prefix);
        for (score, &c) in scores.iter_mut().zip(candidates) {
            let s = signals(c);
            let queue = match longest {
                0 => 1.0,
                longest => f64::from(longest - s.waiting) / f64::from(longest),
            };
            let sum = self.composite.kv * (1.0 - s.kv_usage)
                + self.composite.queue * queue
                + self.composite.prefix * prefix.map_or(0.0, |p| p.ratio(c));
            *score = (100.0 * sum).round() / 100.0;
        }
    }
}

/// Where headrooms lie, by size, whatever their sign.
#[derive(Clone, Copy, Debug)]
struct Range {
    min: f64,
    max: f64,
}

impl Range {
    fn of(headrooms: impl Iterator<Item = f64>) -> Self {
        let start = Self { min: f64::INFINITY, max: f64::NEG_INFINITY };
        headrooms
            .map(f64::abs)
            .fold(start, |range, size| Self { min: range.min.min(size), max: range.max.max(size) })
    }

    fn varies(self) -> bool {
        self.max - self.min > SAME
    }

    /// 0 for the least, 1 for the largest; one half where all are the same.
    fn place(self, headroom: f64) -> f64 {
        if self.varies() { (headroom.abs() - self.min) / (self.max - self.min) } else { 0.5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicted(ttft_headroom: f64, tpot_headroom: f64) -> Option<PredictedLatency> {
        Some(PredictedLatency {
            ttft_ms: 1.0,
            ttft_headroom,
            tpot_headroom,
            ttft_valid: ttft_headroom > 0.0,
            tpot_valid: tpot_headroom > 0.0,
        })
    }

    #[test]
    fn a_group_is_scored_by_its_headrooms() {
        // (strategy, headrooms of TTFT and TPOT, scores before they are limited to 1)
        type Case = (Strategy, &'static [(f64, f64)], &'static [f64]);
        let cases: [Case; 7] = [
            (Strategy::Least, &[(10.0, 0.0)], &[0.51]),
            (Strategy::Least, &[(10.0, 0.0), (20.0, 0.0)], &[1.01, 0.01]),
            (Strategy::Most, &[(10.0, 0.0), (20.0, 0.0)], &[0.01, 1.01]),
            // Misses are measured by their size.
            (Strategy::Least, &[(-10.0, 0.0), (-20.0, 0.0), (-15.0, 0.0)], &[1.01, 0.01, 0.51]),
            // TTFT does not vary: its weight goes to TPOT.
            (Strategy::Least, &[(5.0, 1.0), (5.0, 3.0)], &[1.01, 0.01]),
            // 0.8 and 0.2, against each other.
            // (1 - 0.8 is a little less than 0.2, in the reference too.)
            (Strategy::Least, &[(0.0, 4.0), (8.0, 0.0)], &[0.81, 0.2]),
            (Strategy::Most, &[(0.0, 4.0), (8.0, 0.0)], &[0.21, 0.81]),
        ];
        let scorer = LatencyScorer {
            predictions: DataKey::new(0),
            prefix: DataKey::new(1),
            ttft_weight: 0.8,
            tpot_weight: 0.2,
            strategy: Strategy::Least,
            composite: Composite { kv: 1.0, queue: 0.0, prefix: 0.0 },
        };
        for (strategy, headrooms, expected) in cases {
            let members: Vec<_> = headrooms
                .iter()
                .enumerate()
                .map(|(i, &(ttft, tpot))| (i, predicted(ttft, tpot)))
                .collect();
            let mut scores = vec![0.0; members.len()];
            scorer.score_group(&members, strategy, &mut scores);
            assert_eq!(scores, expected, "{strategy:?} {headrooms:?}");
        }
    }
}
