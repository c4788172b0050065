//! `header-label-affinity-scorer`: prefers endpoints whose label has the value of a request
//! header.

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scheduling::{Cycle, Scorer};

pub(super) const TYPE: PluginType =
    PluginType { name: "header-label-affinity-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "prefers endpoints whose label has the value of a request header",
    formula: "equal: 1; else 0",
    parameters: Parameters::Listed(&[
        Parameter::text("headerName", "the request header").required().example("x-tenant"),
        Parameter::text("labelKey", "the label").required().example("tenant"),
    ]),
};

#[derive(Debug)]
struct HeaderLabelAffinityScorer {
    /// In lower case.
    header: String,
    label: String,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let header = p.string("headerName").unwrap_or_default().to_ascii_lowercase();
    if header.is_empty() {
        p.error("headerName", "is required: the request header to look at");
    }
    let label = p.string("labelKey").unwrap_or_default().to_owned();
    if label.is_empty() {
        p.error("labelKey", "is required: the label to compare with");
    }
    p.finish();
    Capabilities::scorer(HeaderLabelAffinityScorer { header, label })
}

impl Scorer for HeaderLabelAffinityScorer {
    /// 1 where they are equal, else 0 (llm-d-router main at ebab6879).
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let wanted = cycle.request.headers.get(&self.header).filter(|value| !value.is_empty());
        let Some(wanted) = wanted else { return };
        for (score, &c) in scores.iter_mut().zip(candidates) {
            let labels = cycle.candidates[c as usize].endpoint.labels();
            if labels.get(&self.label).is_some_and(|value| value == wanted) {
                *score = 1.0;
            }
        }
    }
}
