//! `global-strict-fairness-policy`: the first by the ordering policy, whoever sent it.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::flow_control::{FairnessPolicy, GlobalStrict};

pub(super) const TYPE: PluginType =
    PluginType { name: "global-strict-fairness-policy", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::FairnessPolicy],
    stability: Stability::Beta,
    since: "GIE v1.4",
    summary: "flows of a band do not count: its ordering policy rules over all",
    formula: "",
    parameters: Parameters::Ignored,
};

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with::<dyn FairnessPolicy>(Arc::new(GlobalStrict))
}
