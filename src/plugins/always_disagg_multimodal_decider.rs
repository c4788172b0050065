//! `always-disagg-multimodal-decider`: every request with images, videos or sounds has them
//! encoded by endpoints of their own (llm-d-router main at ebab6879).

use std::sync::Arc;

use super::disaggregation::DisaggregationDecider;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scheduling::Cycle;

pub(super) const TYPE: PluginType =
    PluginType { name: "always-disagg-multimodal-decider", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Decider],
    stability: Stability::Beta,
    since: "llm-d v0.7",
    summary: "yes to requests with images, videos or sounds",
    formula: "",
    parameters: Parameters::Ignored,
};

#[derive(Debug)]
struct AlwaysDisaggMultimodalDecider;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    let decider = Arc::new(AlwaysDisaggMultimodalDecider);
    Capabilities::default().with::<dyn DisaggregationDecider>(decider)
}

impl DisaggregationDecider for AlwaysDisaggMultimodalDecider {
    fn disaggregates(&self, cycle: &Cycle<'_>, _: Option<u32>) -> bool {
        cycle.request.prompt.has_media()
    }
}
