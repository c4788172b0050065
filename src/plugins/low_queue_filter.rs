//! `low-queue-filter` of GIE v0.5: keeps endpoints whose queue is short enough.

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Filter};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "low-queue-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Removed(""),
    since: "GIE v0.5",
    summary: "endpoints whose queue is short enough",
    formula: "q ≤ threshold",
    parameters: Parameters::Listed(&[Parameter::integer(
        "threshold",
        "waiting requests that an endpoint may have",
    )
    .unit("requests")
    .default("128")]),
};

const DEFAULT_THRESHOLD: i64 = 128;

#[derive(Debug)]
struct LowQueueFilter {
    /// Waiting requests that an endpoint may have.
    threshold: i64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let threshold = p.int("threshold").unwrap_or(DEFAULT_THRESHOLD);
    p.finish();
    let signals = Needs { queue: true, ..Needs::default() };
    Capabilities::filter(LowQueueFilter { threshold }).reading(signals)
}

impl Filter for LowQueueFilter {
    fn wants(&self) -> String {
        format!("at most {} requests waiting", self.threshold)
    }

    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        candidates
            .retain(|&c| i64::from(cycle.candidates[c as usize].signals.waiting) <= self.threshold);
    }
}
