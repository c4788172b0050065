//! `dcgm-data-source`: a DCGM exporter is asked for the metrics of GPUs, the one beside each worker
//! or the one of its node. Parameters as in llm-d-router main at ebab6879.

use std::sync::Arc;

use super::http_source::{HttpSource, Optional};
use super::page_source::{PageKind, PageSource};
use super::{Build, Capabilities, PluginType};

pub(super) const TYPE: PluginType = PluginType { name: "dcgm-data-source", aliases: &[], build };

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
