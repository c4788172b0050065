//! `max-score-picker`: the highest score wins; among equals the least loaded, then chance.

use smallvec::SmallVec;

use super::picking::{PARAMETERS, comparable, load_now, max_endpoints};
use super::{About, Build, Capabilities, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Picker, Picks};

pub(super) const TYPE: PluginType =
    PluginType { name: "max-score-picker", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Picker],
    stability: Stability::Beta,
    since: "GIE v0.5",
    summary: "the highest sum of scores; of equals the one with the fewest requests in flight, then at random",
    formula: "",
    parameters: PARAMETERS,
};

#[derive(Debug)]
struct MaxScorePicker {
    max: usize,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    Capabilities::picker(MaxScorePicker { max: max_endpoints(build) })
}

/// Score, requests in flight, and a random number that decides what those leave open.
type Rank = (f64, i64, u32);

/// The better one first.
fn compare(a: &Rank, b: &Rank) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
}

impl Picker for MaxScorePicker {
    fn tie_rule(&self) -> &'static str {
        "the fewest requests in flight at that moment, then chance"
    }

    /// The reference (llm-d-router main at ebab6879) leaves all ties to chance. Here chance is
    /// left to decide between equal scores with equally many requests in flight.
    fn pick(&self, cycle: &Cycle<'_>, candidates: &[u32], totals: &[f64]) -> Picks {
        cycle.with_rng(|rng| {
            // Loads change under our hands, so each is read once.
            let ranked = candidates
                .iter()
                .zip(totals)
                .map(|(&c, &total)| ((comparable(total), load_now(cycle, c), rng.u32(..)), c));
            if self.max == 1 {
                let best = ranked.min_by(|a, b| compare(&a.0, &b.0));
                return best.map(|(_, c)| c).into_iter().collect();
            }
            let mut ranked: SmallVec<[(Rank, u32); 64]> = ranked.collect();
            ranked.sort_unstable_by(|a, b| compare(&a.0, &b.0));
            ranked.iter().take(self.max).map(|&(_, c)| c).collect()
        })
    }
}
