//! `learned-saturation-detector`, ours: full is what has as many requests in flight as the pool
//! was seen to keep up with. It has no parameters. A filter too, where a profile names it.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability};
use crate::flow_control::{LearnedDetector, SaturationDetector};
use crate::scheduling::{Cycle, Filter};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "learned-saturation-detector", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::SaturationDetector, Part::Filter],
    stability: Stability::Own,
    since: "",
    summary: "full is what has as many requests in flight as it was seen to keep up with; as a filter it keeps all where all are full",
    formula: "",
    parameters: Parameters::Listed(&[]),
};

/// As a filter: drops full endpoints, unless all of them are.
impl Filter for LearnedDetector {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        self.keep_free(cycle.candidates, cycle.now, candidates);
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    build.parameters.finish();
    let detector = Arc::<LearnedDetector>::default();
    // Until it has learned, it goes by these.
    let signals = Needs { queue: true, kv: true, ..Needs::default() };
    Capabilities::default()
        .with::<dyn Filter>(detector.clone())
        .with::<dyn SaturationDetector>(detector)
        .reading(signals)
        .remembering("learned limit")
}
