//! `dcgm-extractor`: how busy an endpoint's GPUs are, as the attribute `GPUUtilization` from 0 to
//! 1: the largest `DCGM_FI_DEV_GPU_UTIL` of its pod (llm-d-router main at ebab6879).

use std::sync::Arc;

use super::endpoint_attributes::EndpointAttributes;
use super::page_source::PageExtractor;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::scrape_config::PageContent;

pub(super) const TYPE: PluginType =
    PluginType { name: "dcgm-extractor", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Extractor],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "gives endpoints the attribute GPUUtilization: how busy their GPUs are",
    formula: "the largest DCGM_FI_DEV_GPU_UTIL of the endpoint's pod / 100",
    parameters: Parameters::Ignored,
};

/// What the attribute is called.
const ATTRIBUTE: &str = "GPUUtilization";

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    let mut attributes = EndpointAttributes::default();
    let slot = attributes.claim(ATTRIBUTE, build.ids);
    Capabilities::default()
        .with(Arc::new(PageExtractor(PageContent::GpuUtilization(slot))))
        .with(Arc::new(attributes))
}
