//! `metrics-data-source`: workers are asked for their metrics over HTTP. Parameters as in
//! llm-d-router main at ebab6879; see [`ScrapeConfig`] for their defaults.

use std::sync::Arc;

use super::http_source::{HttpSource, Optional};
use super::{Build, Capabilities, PluginType};
use crate::scrape_config::ScrapeConfig;

pub(super) const TYPE: PluginType = PluginType { name: "metrics-data-source", aliases: &[], build };

/// A source of workers' metrics.
#[derive(Clone, Debug)]
pub struct MetricsSource(HttpSource);

impl MetricsSource {
    /// How to scrape: what the parameters say, else what `defaults` say.
    pub fn over(&self, defaults: ScrapeConfig) -> ScrapeConfig {
        self.0.over(defaults)
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let source = HttpSource::read(&mut p, Optional { port: true, certificates: true });
    p.finish();
    Capabilities::default().with(Arc::new(MetricsSource(source)))
}
