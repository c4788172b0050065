//! `endpoint-notification-source`: tells producers of endpoints that come and leave. Here they are
//! told without it, so it is accepted and does nothing.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};

pub(super) const TYPE: PluginType =
    PluginType { name: "endpoint-notification-source", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::DataSource],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "accepted, and does nothing: plugins are told of endpoints anyway",
    formula: "",
    parameters: Parameters::Ignored,
};

/// Says that a data source tells of endpoints and collects no metrics.
#[derive(Debug)]
pub struct NotificationSource;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with(Arc::new(NotificationSource))
}
