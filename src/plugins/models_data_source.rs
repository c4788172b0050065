//! `models-data-source`: workers are asked which models they serve. Parameters as in llm-d-router
//! main at ebab6879, for what `metrics-data-source` takes but `port`.

use std::sync::Arc;

use super::http_source::{HttpSource, Optional};
use super::page_source::{PageKind, PageSource};
use super::{Build, Capabilities, PluginType};

pub(super) const TYPE: PluginType = PluginType { name: "models-data-source", aliases: &[], build };

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
