//! `running-requests-size-scorer`: the fewer requests a worker runs among the candidates, the
//! better.

use super::min_max::fewest_is_best;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scheduling::{Cycle, Scorer};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "running-requests-size-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "GIE v1.3",
    summary: "the fewer requests are running, the better",
    formula: "(max r - r)/(max r - min r) over the candidates; all equal: 1",
    parameters: Parameters::Ignored,
};

#[derive(Debug)]
struct RunningRequestsSizeScorer;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::scorer(RunningRequestsSizeScorer)
        .reading(Needs { running: true, ..Needs::default() })
}

impl Scorer for RunningRequestsSizeScorer {
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        fewest_is_best(candidates, scores, |c| cycle.candidates[c as usize].signals.running);
    }
}
