//! `dcgm-extractor`: how busy an endpoint's GPUs are, as the attribute `GPUUtilization` from 0 to
//! 1: the largest `DCGM_FI_DEV_GPU_UTIL` of its pod (llm-d-router main at ebab6879).

use std::sync::Arc;

use super::endpoint_attributes::EndpointAttributes;
use super::page_source::PageExtractor;
use super::{Build, Capabilities, PluginType, parameters};
use crate::scrape_config::PageContent;

pub(super) const TYPE: PluginType = PluginType { name: "dcgm-extractor", aliases: &[], build };

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
