//! `metrics-data-source`: workers are asked for their metrics over HTTP. Parameters as in
//! llm-d-router main at ebab6879; see [`ScrapeConfig`] for their defaults.

use std::sync::Arc;

use super::http_source::{self, HttpSource, Optional};
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::scrape_config::ScrapeConfig;

pub(super) const TYPE: PluginType =
    PluginType { name: "metrics-data-source", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::DataSource],
    stability: Stability::Beta,
    since: "GIE v1.3",
    summary: "endpoints are asked for their metrics over HTTP",
    formula: "",
    parameters: Parameters::Listed(&[
        http_source::SCHEME,
        http_source::path("/metrics"),
        Parameter::integer("port", "another port than the one that serves requests")
            .at_least(1.0)
            .at_most(65535.0),
        http_source::INSECURE_SKIP_VERIFY,
        http_source::CA_CERT_PATH,
        http_source::CLIENT_CERT_PATH,
        http_source::CLIENT_KEY_PATH,
        Parameter::duration(
            "interval",
            "time between two scrapes, 50ms at least; without it that of --refresh-metrics-interval",
        ),
    ]),
};

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
