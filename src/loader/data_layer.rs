use std::sync::Arc;

use super::LoadOptions;
use super::document::{DataLayer, Source};
use super::instances::Instances;
use super::reference::Reference;
use crate::config::Diagnostics;
use crate::plugins::FileDiscoveryConfig;
use crate::plugins::{MetricsExtractor, MetricsSource, NotificationSource};
use crate::scrape_config::{EngineMaps, MetricSpec, ScrapeConfig, VLLM_KV_USAGE};

const DEFAULT_SOURCE: &str = "metrics-data-source";
const DEFAULT_EXTRACTOR: &str = "core-metrics-extractor";

/// How metrics are collected: the indices of the plugins that say so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Collection {
    pub source: usize,
    pub extractor: usize,
}

/// Chooses the metrics source and its extractor. They are added unless the configuration has
/// them or says `injectDefaults: false`.
///
/// The reference (llm-d-router main at ebab6879) adds its default source beside one that has
/// another name, and so scrapes twice; here a metrics source that is configured is the source.
pub(super) fn plan_collection(
    section: &DataLayer,
    instances: &mut Instances<'_>,
) -> Option<Collection> {
    let mut chosen: Option<(usize, Option<usize>)> = None;
    let (notifying, collecting): (Vec<_>, Vec<_>) =
        section.sources.iter().partition(|source| notifies(source, instances));
    notifying.into_iter().for_each(|source| plan_notifications(source, instances));
    let has_collecting = !collecting.is_empty();
    for source in collecting {
        let found = instances.resolve_part::<MetricsSource>(&source.reference, "data source");
        let extractor = plan_extractor(&source.extractors, instances);
        let Some((index, _)) = found else { continue };
        if chosen.is_some() {
            let Reference { at, path, .. } = &source.reference;
            instances.diagnostics.error(*at, path, "one metrics source is all there can be");
            continue;
        }
        chosen = Some((index, extractor));
    }
    let (source, extractor) = match chosen {
        Some(chosen) => chosen,
        None if has_collecting || !section.inject_defaults => return None,
        None => {
            let configured = instances.first_with::<MetricsSource>();
            (configured.or_else(|| instances.add(DEFAULT_SOURCE, None))?, None)
        }
    };
    let extractor = extractor
        .or_else(|| instances.first_with::<MetricsExtractor>())
        .or_else(|| instances.add(DEFAULT_EXTRACTOR, None))?;
    instances.list[source].used = true;
    instances.list[extractor].used = true;
    Some(Collection { source, extractor })
}

/// True for a source that tells of endpoints instead of collecting metrics.
fn notifies(source: &Source, instances: &Instances<'_>) -> bool {
    let found = instances.find(&source.reference.name);
    found.is_some_and(|i| instances.list[i].capabilities.has::<NotificationSource>())
}

/// Its listeners have to exist; they are told of endpoints anyway.
fn plan_notifications(source: &Source, instances: &mut Instances<'_>) {
    for reference in std::iter::once(&source.reference).chain(&source.extractors) {
        if let Some(index) = instances.resolve(reference) {
            instances.list[index].used = true;
        }
    }
}

fn plan_extractor(references: &[Reference], instances: &mut Instances<'_>) -> Option<usize> {
    let mut chosen = None;
    for reference in references {
        let found = instances.resolve_part::<MetricsExtractor>(reference, "metrics extractor");
        let Some((index, _)) = found else {
            continue;
        };
        if chosen.replace(index).is_some() {
            let message = "one metrics extractor is all there can be";
            instances.diagnostics.error(reference.at, &reference.path, message);
        }
    }
    chosen
}

/// The discovery plugin that the section names.
pub(super) fn plan_discovery(
    section: &DataLayer,
    instances: &mut Instances<'_>,
) -> Option<(usize, Arc<FileDiscoveryConfig>)> {
    let reference = section.discovery.as_ref()?;
    instances.resolve_part(reference, "discovery plugin")
}

/// How to scrape where the parameters do not say: as the flags do, and these else by default.
pub(super) fn scrape_defaults(options: &LoadOptions) -> ScrapeConfig {
    let default = ScrapeConfig::default();
    let path = options.model_server_metrics_path.as_ref().filter(|path| !path.is_empty());
    ScrapeConfig {
        scheme: options.model_server_metrics_scheme.unwrap_or(default.scheme),
        path: path.unwrap_or(&default.path).clone(),
        port: options.model_server_metrics_port.filter(|port| *port != 0),
        insecure_skip_verify: options
            .model_server_metrics_https_insecure_skip_verify
            .unwrap_or(default.insecure_skip_verify),
        ..default
    }
}

/// The built-in engines, vLLM's metric names replaced by those that flags of GIE v0.5 to v1.5
/// gave.
pub(super) fn engine_defaults(options: &LoadOptions, diagnostics: &Diagnostics) -> EngineMaps {
    let mut maps = EngineMaps::default();
    let Some(mut vllm) = maps.find("vllm").cloned() else { return maps };
    let spec = |flag: &str, value: &Option<String>| {
        let text = value.as_deref().filter(|text| !text.trim().is_empty())?;
        match MetricSpec::parse(text) {
            Ok(spec) => Some(spec),
            Err(message) => {
                diagnostics.error(None, flag, message);
                None
            }
        }
    };
    let queued = spec("--total-queued-requests-metric", &options.total_queued_requests_metric);
    let running = spec("--total-running-requests-metric", &options.total_running_requests_metric);
    let lora = spec("--lora-info-metric", &options.lora_info_metric);
    let cache_info = spec("--cache-info-metric", &options.cache_info_metric);
    let kv_usage =
        spec("--kv-cache-usage-percentage-metric", &options.kv_cache_usage_percentage_metric);
    vllm.queued = queued.or(vllm.queued);
    vllm.running = running.or(vllm.running);
    vllm.lora = lora.or(vllm.lora);
    vllm.cache_info = cache_info.or(vllm.cache_info);
    if let Some(kv_usage) = kv_usage {
        // Deployments carry the flag with one of vLLM's two names and meet a vLLM that has the
        // other; a name of the operator's own stands for itself.
        let is_vllms = VLLM_KV_USAGE.contains(&kv_usage.name.as_str());
        let other = VLLM_KV_USAGE.into_iter().find(|name| is_vllms && *name != kv_usage.name);
        vllm.kv_usage_fallback =
            other.map(|name| MetricSpec { name: name.to_owned(), labels: Vec::new() });
        vllm.kv_usage = Some(kv_usage);
    }
    maps.set(vllm);
    maps
}
