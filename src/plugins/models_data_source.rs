//! `models-data-source`: workers are asked which models they serve. Parameters as in llm-d-router
//! main at ebab6879, for what `metrics-data-source` takes but `port`.

use std::sync::Arc;

use super::http_source::{self, HttpSource, Optional};
use super::page_source::{self, PageKind, PageSource};
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability};

pub(super) const TYPE: PluginType =
    PluginType { name: "models-data-source", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::DataSource],
    stability: Stability::Beta,
    since: "llm-d v0.6",
    summary: "endpoints are asked which models they serve",
    formula: "",
    parameters: Parameters::Listed(&[
        http_source::SCHEME,
        http_source::path("/v1/models"),
        http_source::INSECURE_SKIP_VERIFY,
        http_source::CA_CERT_PATH,
        http_source::CLIENT_CERT_PATH,
        http_source::CLIENT_KEY_PATH,
        page_source::INTERVAL_PARAMETER,
    ]),
};

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let source = HttpSource::read(&mut p, Optional { port: false, certificates: true });
    p.finish();
    Capabilities::default().with(Arc::new(PageSource {
        kind: PageKind::Models,
        source,
        path: "/v1/models",
        port: None,
        at_node: false,
    }))
}
