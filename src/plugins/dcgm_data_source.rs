//! `dcgm-data-source`: a DCGM exporter is asked for the metrics of GPUs, the one beside each worker
//! or the one of its node. Parameters as in llm-d-router main at ebab6879.

use std::sync::Arc;

use super::http_source::{self, HttpSource, Optional};
use super::page_source::{self, PageKind, PageSource};
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};

pub(super) const TYPE: PluginType =
    PluginType { name: "dcgm-data-source", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::DataSource],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "DCGM exporters are asked for the metrics of GPUs",
    formula: "",
    parameters: Parameters::Listed(&[
        http_source::SCHEME,
        http_source::path("/metrics"),
        Parameter::integer("port", "the exporter's port")
            .default("9400")
            .at_least(1.0)
            .at_most(65535.0),
        http_source::INSECURE_SKIP_VERIFY,
        page_source::INTERVAL_PARAMETER,
        Parameter::boolean("useNodeAddress", "ask the exporter of the node, not one in the pod")
            .default("false"),
    ]),
};

/// Where DCGM exporters listen.
const PORT: u16 = 9400;

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let source = HttpSource::read(&mut p, Optional { port: true, certificates: false });
    let at_node = p.bool("useNodeAddress").unwrap_or(false);
    p.finish();
    Capabilities::default().with(Arc::new(PageSource {
        kind: PageKind::Metrics,
        source,
        path: "/metrics",
        port: Some(PORT),
        at_node,
    }))
}
