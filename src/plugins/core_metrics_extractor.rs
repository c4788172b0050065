//! `core-metrics-extractor`: which metrics of each engine mean what. Parameters as in
//! llm-d-router main at ebab6879; an engine configured here takes the place of the built-in one
//! of its name.

use std::sync::Arc;

use super::endpoint_attributes::EndpointAttributes;
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::{Fields, nearest};
use crate::endpoints::PoolIds;
use crate::scrape_config::{CustomMetric, EngineMap, EngineMaps, LEGACY_ENGINE_LABEL, MetricSpec};

pub(super) const TYPE: PluginType = PluginType {
    name: "core-metrics-extractor",
    // Its name in GIE v1.3 and v1.4.
    aliases: &["model-server-protocol-metrics"],
    about: ABOUT,
    build,
};

const ABOUT: About = About {
    parts: &[Part::Extractor],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "which metrics of each engine mean what",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::text("engineLabelKey", "the label that says which engine an endpoint runs")
            .default("llm-d.ai/engine-type"),
        Parameter::text("defaultEngine", "the engine of endpoints without the label")
            .default("vllm")
            .example("sglang"),
        Parameter::each(
            "engineConfigs",
            &ENGINE,
            "engines, each in place of the built-in one of its name",
        ),
    ]),
};

const ENGINE: [Parameter; 11] = [
    Parameter::text("name", "the engine").required().example("mine"),
    metric("queuedRequestsSpec", "requests waiting"),
    metric("runningRequestsSpec", "requests running"),
    metric("kvUsageSpec", "KV-cache usage, 0 to 1"),
    metric("loraSpec", "LoRA adapters"),
    metric("cacheInfoSpec", "geometry of the KV cache, in labels"),
    Parameter::text("cacheBlockSizeLabelName", "its label with the tokens of a block"),
    Parameter::text("cacheNumBlocksLabelName", "its label with the number of blocks"),
    metric("cacheBlockSizeSpec", "tokens of a block"),
    metric("cacheNumBlocksSpec", "number of blocks"),
    Parameter::each("customMetrics", &CUSTOM, "metrics that become attributes of endpoints"),
];

/// A metric by its name, with labels in braces where they matter.
const fn metric(name: &'static str, meaning: &'static str) -> Parameter {
    Parameter::text(name, meaning).example("my_metric")
}

const CUSTOM: [Parameter; 2] = [
    Parameter::text("attributeKey", "name of the attribute").required().example("mine"),
    metric("metricSpec", "the metric"),
];

/// What a `core-metrics-extractor` sets.
#[derive(Clone, Debug, Default)]
pub struct MetricsExtractor {
    label_key: Option<String>,
    default_engine: Option<String>,
    engines: Vec<EngineMap>,
}

impl MetricsExtractor {
    /// `base` with this extractor's engines in it.
    pub fn over(&self, mut base: EngineMaps) -> EngineMaps {
        if let Some(key) = &self.label_key {
            base.label_keys = vec![key.clone(), LEGACY_ENGINE_LABEL.to_owned()];
        }
        if let Some(engine) = &self.default_engine {
            base.default_engine.clone_from(engine);
        }
        for engine in &self.engines {
            base.set(engine.clone());
        }
        base
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let label_key = p.string("engineLabelKey").filter(|key| !key.is_empty());
    let default_engine = p.string("defaultEngine").filter(|name| !name.is_empty());
    let mut engines: Vec<EngineMap> = Vec::new();
    let mut attributes = EndpointAttributes::default();
    for fields in p.each("engineConfigs") {
        let mut claim = |fields: &mut Fields<'_>| custom(fields, &mut attributes, build.ids);
        if let Some(engine) = read_engine(fields, &engines, &mut claim) {
            engines.push(engine);
        }
    }
    let extractor = MetricsExtractor {
        label_key: label_key.map(str::to_owned),
        default_engine: default_engine.map(str::to_owned),
        engines,
    };
    if let Some(name) = default_engine {
        let known = extractor.over(EngineMaps::default());
        if known.find(name).is_none() {
            let mut message = format!("no engine is called '{name}'");
            let names = known.engines.iter().map(|e| e.name.as_str());
            if let Some(near) = nearest(name, names) {
                message.push_str(&format!("; did you mean '{near}'?"));
            }
            p.error("defaultEngine", message);
        }
    }
    p.finish();
    Capabilities::default().with(Arc::new(extractor)).with(Arc::new(attributes))
}

fn read_engine(
    mut fields: Fields<'_>,
    earlier: &[EngineMap],
    custom: &mut dyn FnMut(&mut Fields<'_>) -> Vec<CustomMetric>,
) -> Option<EngineMap> {
    let name = match fields.string("name") {
        Some("") | None => {
            fields.error("name", "is missing: an engine needs a name");
            None
        }
        Some("default") => {
            fields.error("name", "'default' is reserved; use the engine's name and defaultEngine");
            None
        }
        Some(name) if earlier.iter().any(|e| e.name == name) => {
            fields.error("name", format!("engine '{name}' is configured twice"));
            None
        }
        Some(name) => Some(name.to_owned()),
    };
    let engine = EngineMap {
        name: name.clone().unwrap_or_default(),
        queued: spec(&mut fields, "queuedRequestsSpec"),
        running: spec(&mut fields, "runningRequestsSpec"),
        kv_usage: spec(&mut fields, "kvUsageSpec"),
        kv_usage_fallback: None,
        lora: spec(&mut fields, "loraSpec"),
        cache_info: spec(&mut fields, "cacheInfoSpec"),
        block_size_label: label(&mut fields, "cacheBlockSizeLabelName"),
        num_blocks_label: label(&mut fields, "cacheNumBlocksLabelName"),
        block_size: spec(&mut fields, "cacheBlockSizeSpec"),
        num_blocks: spec(&mut fields, "cacheNumBlocksSpec"),
        custom: custom(&mut fields),
    };
    fields.finish();
    name.map(|_| engine)
}

/// Metrics that become attributes of endpoints, each under a name of its own.
fn custom(
    fields: &mut Fields<'_>,
    attributes: &mut EndpointAttributes,
    ids: &PoolIds,
) -> Vec<CustomMetric> {
    let mut metrics = Vec::new();
    for mut metric in fields.each("customMetrics") {
        let key = metric.string("attributeKey").unwrap_or_default();
        if key.is_empty() {
            metric.error("attributeKey", "is missing: a metric needs a key");
        }
        let spec = spec(&mut metric, "metricSpec");
        metric.finish();
        if let Some(spec) = spec.filter(|_| !key.is_empty()) {
            metrics.push(CustomMetric { spec, slot: attributes.claim(key, ids) });
        }
    }
    metrics
}

/// A metric by its specification; an empty one is not collected.
fn spec(fields: &mut Fields<'_>, name: &'static str) -> Option<MetricSpec> {
    let text = fields.string(name).filter(|text| !text.trim().is_empty())?;
    match MetricSpec::parse(text) {
        Ok(spec) => Some(spec),
        Err(message) => {
            fields.error(name, message);
            None
        }
    }
}

fn label(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    fields.string(name).filter(|label| !label.is_empty()).map(str::to_owned)
}
