//! `random-picker`: picks at random, whatever the scores.

use super::picking::{PARAMETERS, at_random, max_endpoints};
use super::{About, Build, Capabilities, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Picker, Picks};

pub(super) const TYPE: PluginType =
    PluginType { name: "random-picker", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Picker],
    stability: Stability::Beta,
    since: "GIE v0.5",
    summary: "the less loaded of two drawn at random",
    formula: "",
    parameters: PARAMETERS,
};

#[derive(Debug)]
struct RandomPicker {
    max: usize,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    Capabilities::picker(RandomPicker { max: max_endpoints(build) })
}

impl Picker for RandomPicker {
    fn tie_rule(&self) -> &'static str {
        "chance: two are drawn, the one with fewer requests in flight is taken"
    }

    /// Deliberately not as in the reference (llm-d-router main at ebab6879), which draws once:
    /// the target is the less loaded of two drawn.
    fn pick(&self, cycle: &Cycle<'_>, candidates: &[u32], _totals: &[f64]) -> Picks {
        at_random(cycle, candidates, self.max)
    }
}
