//! `always-disagg-pd-decider`: every request has its prompt computed by another endpoint.

use std::sync::Arc;

use super::disaggregation::DisaggregationDecider;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scheduling::Cycle;

pub(super) const TYPE: PluginType =
    PluginType { name: "always-disagg-pd-decider", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Decider],
    stability: Stability::Beta,
    since: "llm-d v0.6",
    summary: "always yes",
    formula: "",
    parameters: Parameters::Ignored,
};

#[derive(Debug)]
struct AlwaysDisaggPdDecider;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn DisaggregationDecider>(Arc::new(AlwaysDisaggPdDecider))
}

impl DisaggregationDecider for AlwaysDisaggPdDecider {
    fn disaggregates(&self, _: &Cycle<'_>, _: Option<u32>) -> bool {
        true
    }
}
