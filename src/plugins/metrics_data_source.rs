//! `metrics-data-source`: workers are asked for their metrics over HTTP. Parameters as in
//! llm-d-router main at ebab6879; see [`ScrapeConfig`] for their defaults.

use std::sync::Arc;

use super::http_source::{HttpSource, Optional};
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
        Parameter::one_of("scheme", &["http", "https"], "the protocol").default("http"),
        Parameter::text("path", "the path; a slash is put before it where it has none")
            .default("/metrics"),
        Parameter::integer("port", "another port than the one that serves requests")
            .at_least(1.0)
            .at_most(65535.0),
        Parameter::boolean("insecureSkipVerify", "accept any certificate").default("true"),
        Parameter::text("caCertPath", "certificates of the authority to trust instead")
            .example("/tls/ca.crt"),
        Parameter::text("clientCertPath", "certificate to show")
            .beside("{clientKeyPath: /tls/tls.key}")
            .example("/tls/tls.crt"),
        Parameter::text("clientKeyPath", "its key")
            .beside("{clientCertPath: /tls/tls.crt}")
            .example("/tls/tls.key"),
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
