//! `learned-saturation-detector`, ours: full is what has as many requests in flight as the pool
//! was seen to keep up with. It has no parameters. A filter too, where a profile names it.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType};
use crate::datalayer::config::Needs;
use crate::flow_control::{LearnedDetector, SaturationDetector};
use crate::scheduling::{Cycle, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "learned-saturation-detector", aliases: &[], build };

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
}
