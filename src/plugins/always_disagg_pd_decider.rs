//! `always-disagg-pd-decider`: every request has its prompt computed by another endpoint.

use std::sync::Arc;

use super::disaggregation::DisaggregationDecider;
use super::{Build, Capabilities, PluginType, parameters};
use crate::scheduling::Cycle;

pub(super) const TYPE: PluginType =
    PluginType { name: "always-disagg-pd-decider", aliases: &[], build };

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
