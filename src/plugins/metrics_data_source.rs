//! `metrics-data-source`: workers are asked for their metrics over HTTP. Parameters as in
//! llm-d-router main at ebab6879; see [`ScrapeConfig`] for their defaults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Build, Capabilities, PluginType};
use crate::scrape_config::{Scheme, ScrapeConfig};

pub(super) const TYPE: PluginType = PluginType { name: "metrics-data-source", aliases: &[], build };

/// The data layer's tick: nothing is scraped more often.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

/// What a `metrics-data-source` sets; `None` = not said.
#[derive(Clone, Debug, Default)]
pub struct MetricsSource {
    scheme: Option<Scheme>,
    path: Option<String>,
    port: Option<u16>,
    insecure_skip_verify: Option<bool>,
    ca_cert_path: Option<PathBuf>,
    client_cert_path: Option<PathBuf>,
    client_key_path: Option<PathBuf>,
    interval: Option<Duration>,
}

impl MetricsSource {
    /// How to scrape: what the parameters say, else what `defaults` say.
    pub fn over(&self, defaults: ScrapeConfig) -> ScrapeConfig {
        let own = self.clone();
        ScrapeConfig {
            scheme: own.scheme.unwrap_or(defaults.scheme),
            path: own.path.unwrap_or(defaults.path),
            port: own.port.or(defaults.port),
            insecure_skip_verify: own.insecure_skip_verify.unwrap_or(defaults.insecure_skip_verify),
            ca_cert_path: own.ca_cert_path.or(defaults.ca_cert_path),
            client_cert_path: own.client_cert_path.or(defaults.client_cert_path),
            client_key_path: own.client_key_path.or(defaults.client_key_path),
            interval: own.interval.or(defaults.interval),
        }
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let scheme = p.string("scheme").and_then(|text| {
        let scheme = Scheme::parse(text);
        if scheme.is_none() {
            p.error("scheme", format!("must be http or https, found '{text}'"));
        }
        scheme
    });
    let path = p.string("path").filter(|path| !path.is_empty());
    if let Some(path) = path
        && path.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        p.error("path", format!("must have no blanks, found '{path}'"));
    }
    let path = path.map(|path| match path.strip_prefix('/') {
        Some(_) => path.to_owned(),
        None => format!("/{path}"),
    });
    let port = p.int_in("port", 1..=65535).and_then(|port| u16::try_from(port).ok());
    let insecure_skip_verify = p.bool("insecureSkipVerify");
    let ca_cert_path = p.string("caCertPath").filter(|path| !path.is_empty());
    let client_cert_path = p.string("clientCertPath").filter(|path| !path.is_empty());
    let client_key_path = p.string("clientKeyPath").filter(|path| !path.is_empty());
    match (client_cert_path, client_key_path) {
        (Some(_), None) => p.error("clientCertPath", "needs clientKeyPath beside it"),
        (None, Some(_)) => p.error("clientKeyPath", "needs clientCertPath beside it"),
        _ => {}
    }
    let interval = p.duration("interval");
    if interval.is_some_and(|interval| interval < SHORTEST_INTERVAL) {
        p.warning("interval", "is less than 50ms; 50ms is used");
    }
    let interval = interval.map(|interval| interval.max(SHORTEST_INTERVAL));
    p.finish();
    let source = MetricsSource {
        scheme,
        path,
        port,
        insecure_skip_verify,
        ca_cert_path: ca_cert_path.map(PathBuf::from),
        client_cert_path: client_cert_path.map(PathBuf::from),
        client_key_path: client_key_path.map(PathBuf::from),
        interval,
    };
    Capabilities::default().with(Arc::new(source))
}
