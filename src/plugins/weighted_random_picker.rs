//! `weighted-random-picker`: picks at random, each candidate as likely as its score is high.

use smallvec::SmallVec;

use super::picking::{PARAMETERS, at_random, load_now, max_endpoints};
use super::{About, Build, Capabilities, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Picker, Picks};

pub(super) const TYPE: PluginType =
    PluginType { name: "weighted-random-picker", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Picker],
    stability: Stability::Beta,
    since: "GIE v1.0",
    summary: "at random, in proportion to the sums of scores; of two that differ by less than a twentieth the less loaded",
    formula: "",
    parameters: PARAMETERS,
};

#[derive(Debug)]
struct WeightedRandomPicker {
    max: usize,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    Capabilities::picker(WeightedRandomPicker { max: max_endpoints(build) })
}

struct Drawn {
    key: f64,
    candidate: u32,
    total: f64,
}

/// Scores that differ by less than this share of the larger one say the same of two workers.
const ALIKE: f64 = 0.05;

fn alike(a: f64, b: f64) -> bool {
    (a - b).abs() <= ALIKE * a.max(b)
}

impl Picker for WeightedRandomPicker {
    fn tie_rule(&self) -> &'static str {
        "chance, weighted by total; of about equal ones the one with fewer requests in flight"
    }

    /// A-Res sampling without replacement (Efraimidis and Spirakis 2006), as in the reference
    /// (llm-d-router main at ebab6879): order by `u^(1/score)` with u uniform in (0, 1]. We
    /// compare the logarithm, `ln(u)/score`, which keeps the order and does not vanish for small
    /// scores. Candidates without a positive score come last; if there are no others, the draw is
    /// that of `random-picker`.
    ///
    /// Not in the reference: the target gives way to another candidate of about its score,
    /// drawn at random, if that one is less loaded. How likely each score is stays about the
    /// same, and a burst over workers that hardly differ spreads as evenly as over equal ones.
    fn pick(&self, cycle: &Cycle<'_>, candidates: &[u32], totals: &[f64]) -> Picks {
        // False for what is not a number, too.
        let weighs = |total: f64| total > 0.0;
        if !totals.iter().any(|&t| weighs(t)) {
            return at_random(cycle, candidates, self.max);
        }
        let mut drawn: SmallVec<[Drawn; 64]> = cycle.with_rng(|rng| {
            let draw = |(&candidate, &total): (&u32, &f64)| {
                let key =
                    if weighs(total) { (1.0 - rng.f64()).ln() / total } else { f64::NEG_INFINITY };
                Drawn { key, candidate, total }
            };
            candidates.iter().zip(totals).map(draw).collect()
        });
        drawn.sort_unstable_by(|a, b| b.key.total_cmp(&a.key));
        let (first, others) = (&drawn[0], 1..drawn.len());
        let is_alike = |&i: &usize| alike(drawn[i].total, first.total);
        let count = others.clone().filter(is_alike).count();
        if count > 0 {
            let nth = cycle.with_rng(|rng| rng.usize(..count));
            let other = others.filter(is_alike).nth(nth);
            if let Some(i) = other
                && load_now(cycle, drawn[i].candidate) < load_now(cycle, drawn[0].candidate)
            {
                drawn.swap(0, i);
            }
        }
        drawn.iter().take(self.max).map(|d| d.candidate).collect()
    }
}
