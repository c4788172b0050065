//! `endpoint-notification-source`: tells producers of endpoints that come and leave. Here they are
//! told without it, so it is accepted and does nothing.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType, parameters};

pub(super) const TYPE: PluginType =
    PluginType { name: "endpoint-notification-source", aliases: &[], build };

/// Says that a data source tells of endpoints and collects no metrics.
#[derive(Debug)]
pub struct NotificationSource;

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with(Arc::new(NotificationSource))
}
