use std::sync::Arc;

use super::LoadOptions;
use super::document::{DataLayer, Source};
use super::instances::Instances;
use super::reference::Reference;
use crate::config::Diagnostics;
use crate::plugins::FileDiscoveryConfig;
use crate::plugins::{
    MetricsExtractor, MetricsSource, NotificationSource, PageExtractor, PageKind, PageSource,
};
use crate::scrape_config::{EngineMaps, MetricSpec, PageScrape, ScrapeConfig, VLLM_KV_USAGE};

const DEFAULT_SOURCE: &str = "metrics-data-source";
const DEFAULT_EXTRACTOR: &str = "core-metrics-extractor";

/// How metrics are collected: the indices of the plugins that say so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Collection {
    pub source: usize,
    pub extractor: usize,
}

/// A page that is asked for beside the metrics: the indices of its plugins.
#[derive(Clone, Copy, Debug)]
pub(super) struct PagePlan {
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
) -> (Option<Collection>, Vec<PagePlan>) {
    let mut chosen: Option<(usize, Option<usize>)> = None;
    let mut pages = Vec::new();
    let mut has_collecting = false;
    for source in &section.sources {
        if plays::<NotificationSource>(&source.reference, instances) {
            plan_notifications(source, instances);
            continue;
        }
        let own_pages = plan_pages(source, instances, &mut pages);
        let of_metrics: Vec<_> =
            source.extractors.iter().filter(|e| !plays::<PageExtractor>(e, instances)).collect();
        if own_pages && (of_metrics.is_empty() || plays::<PageSource>(&source.reference, instances))
        {
            continue;
        }
        has_collecting = true;
        let found = instances.resolve_part::<MetricsSource>(&source.reference, "data source");
        let extractor = plan_extractor(&of_metrics, instances);
        let Some((index, _)) = found else { continue };
        if chosen.is_some() {
            let Reference { at, path, .. } = &source.reference;
            instances.diagnostics.error(*at, path, "one metrics source is all there can be");
            continue;
        }
        chosen = Some((index, extractor));
    }
    settle_pages(&pages, instances);
    let (source, extractor) = match chosen {
        Some(chosen) => chosen,
        None if has_collecting || !section.inject_defaults => return (None, pages),
        None => match default_source(&pages, instances) {
            Some(source) => (source, None),
            None => return (None, pages),
        },
    };
    let extractor = extractor
        .or_else(|| instances.first_with::<MetricsExtractor>())
        .or_else(|| instances.add(DEFAULT_EXTRACTOR, None));
    let Some(extractor) = extractor else { return (None, pages) };
    instances.list[source].used = true;
    instances.list[extractor].used = true;
    (Some(Collection { source, extractor }), pages)
}

/// Marks what is used for pages, and says which extractors have none to read.
fn settle_pages(pages: &[PagePlan], instances: &mut Instances<'_>) {
    for (index, instance) in instances.list.iter_mut().enumerate() {
        let is_planned = pages.iter().any(|page| [page.source, page.extractor].contains(&index));
        let is_extractor = instance.capabilities.has::<PageExtractor>();
        if is_extractor && !is_planned {
            let name = &instance.name;
            let message = format!("plugin '{name}' has no effect: no data source names it");
            instances.diagnostics.warning(instance.at, &instance.path, message);
        }
        instance.used |= is_planned || is_extractor;
    }
}

/// A metrics source that is configured and has no other use, else one that is added.
fn default_source(pages: &[PagePlan], instances: &mut Instances<'_>) -> Option<usize> {
    let is_free = |i: usize| !pages.iter().any(|page| page.source == i);
    let list = &instances.list;
    let configured =
        (0..list.len()).find(|&i| is_free(i) && list[i].capabilities.has::<MetricsSource>());
    configured.or_else(|| instances.add(DEFAULT_SOURCE, None))
}

/// True where a reference is to a plugin that plays the part `P`.
fn plays<P: Send + Sync + 'static>(reference: &Reference, instances: &Instances<'_>) -> bool {
    let found = instances.find(&reference.name);
    found.is_some_and(|i| instances.list[i].capabilities.has::<P>())
}

/// Plans the pages that a source asks for beside the metrics of engines; false where it has none
/// to do with.
fn plan_pages(source: &Source, instances: &mut Instances<'_>, pages: &mut Vec<PagePlan>) -> bool {
    let Some(index) = instances.find(&source.reference.name) else { return false };
    let parts = &instances.list[index].capabilities;
    let kind = match parts.get::<PageSource>() {
        Some(page) => page.kind,
        None if parts.has::<MetricsSource>() => PageKind::Metrics,
        None => return false,
    };
    let is_page_source = parts.has::<PageSource>();
    let mut planned = false;
    for reference in &source.extractors {
        if !is_page_source && !plays::<PageExtractor>(reference, instances) {
            continue;
        }
        let role = "reader of what this source asks for";
        let Some((extractor, part)) = instances.resolve_part::<PageExtractor>(reference, role)
        else {
            continue;
        };
        if part.kind() == kind {
            pages.push(PagePlan { source: index, extractor });
            planned = true;
        } else {
            let message = format!("plugin '{}' is not a {role}", reference.name);
            instances.diagnostics.error(reference.at, &reference.path, message);
        }
    }
    instances.list[index].used |= is_page_source;
    if is_page_source && source.extractors.is_empty() {
        let Reference { at, path, .. } = &source.reference;
        let message = "has no effect: no extractor reads what it asks for";
        instances.diagnostics.warning(*at, path, message);
    }
    planned || is_page_source
}

/// How the pages that are asked for beside the metrics are asked for and read.
pub(super) fn page_scrapes(
    pages: &[PagePlan],
    instances: &Instances<'_>,
    options: &LoadOptions,
) -> Vec<PageScrape> {
    let scrape = |plan: &PagePlan| {
        let (source, reader) = (&instances.list[plan.source], &instances.list[plan.extractor]);
        let parts = &source.capabilities;
        let extractor = reader.capabilities.get::<PageExtractor>()?;
        let types = [source.plugin_type, reader.plugin_type];
        Some(match parts.get::<PageSource>() {
            Some(page) => extractor.of(types, page.scrape(), page.is_at_node()),
            None => {
                let scrape = parts.get::<MetricsSource>()?.over(scrape_defaults(options));
                extractor.of(types, scrape, false)
            }
        })
    };
    pages.iter().filter_map(scrape).collect()
}

/// Its listeners have to exist; they are told of endpoints anyway.
fn plan_notifications(source: &Source, instances: &mut Instances<'_>) {
    for reference in std::iter::once(&source.reference).chain(&source.extractors) {
        if let Some(index) = instances.resolve(reference) {
            instances.list[index].used = true;
        }
    }
}

fn plan_extractor(references: &[&Reference], instances: &mut Instances<'_>) -> Option<usize> {
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
