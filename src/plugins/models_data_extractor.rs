//! `models-data-extractor`: keeps which models each endpoint serves, adapters with the model they
//! belong to, and shows it on the debug pages. As in llm-d-router main at ebab6879 no filter or
//! scorer reads it.

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value, json};

use super::page_source::PageExtractor;
use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::endpoints::{Pool, ServedModels, StateSlot};
use crate::scheduling::{DebugState, Lifecycle, Runtime};
use crate::scrape_config::PageContent;

pub(super) const TYPE: PluginType =
    PluginType { name: "models-data-extractor", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Extractor],
    stability: Stability::Beta,
    since: "llm-d v0.6",
    summary: "keeps the models that each endpoint serves, for /debug/plugins",
    formula: "",
    parameters: Parameters::Ignored,
};

#[derive(Debug)]
struct ModelsExtractor {
    slot: StateSlot<ServedModels>,
    pool: OnceLock<Arc<Pool>>,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    parameters::none(build.parameters);
    let slot = build.ids.claim_slot();
    let extractor = Arc::new(ModelsExtractor { slot, pool: OnceLock::new() });
    Capabilities::default()
        .with(Arc::new(PageExtractor(PageContent::Models(slot))))
        .with::<dyn Lifecycle>(extractor.clone())
        .with::<dyn DebugState>(extractor)
}

impl Lifecycle for ModelsExtractor {
    fn start(&self, pool: &Arc<Pool>, _: &Arc<dyn Runtime>) {
        // Started once.
        _ = self.pool.set(pool.clone());
    }
}

impl DebugState for ModelsExtractor {
    /// The models of each endpoint by `namespace/name`; null where it has not told yet.
    fn debug_state(&self) -> Value {
        let Some(pool) = self.pool.get() else { return Value::Null };
        let mut endpoints = Map::new();
        for endpoint in &pool.snapshot().endpoints {
            let served = endpoint.state.get(self.slot).map(ServedModels::load);
            let models = served.as_ref().and_then(|models| models.as_ref()).map(|models| {
                let model = |model: &crate::endpoints::ServedModel| match &*model.parent {
                    "" => json!({"id": model.id}),
                    parent => json!({"id": model.id, "parent": parent}),
                };
                models.iter().map(model).collect::<Vec<_>>()
            });
            endpoints.insert(endpoint.id.to_string(), json!(models));
        }
        Value::Object(endpoints)
    }
}
