//! From an `EndpointPickerConfig` to a scheduler and everything around it.
//!
//! [`load`] reads the document strictly ([`document`]), makes its plugins ([`instances`]), fills
//! in what it leaves out ([`scheduling`], [`data_layer`]) and puts the parts together. It goes on
//! after a mistake, so that all of them are reported at once, each with its place.
//!
//! Every version of the document from GIE v0.5.0 to llm-d-router main at ebab6879 is read; the
//! defaulting is the latter's.

#[cfg(test)]
mod carry_over_tests;
mod changes;
mod data_layer;
mod dependencies;
mod document;
mod effective;
mod feature_gates;
mod flow_control;
mod instances;
mod measured;
mod queueing;
mod reference;
mod reference_types;
mod request_handler;
mod residents;
mod saturation;
mod scheduling;

use std::fmt::Write;
use std::sync::Arc;

pub use changes::Changes;
pub use document::{API_VERSION, API_VERSIONS, KIND};
pub use effective::Effective;
pub use feature_gates::{FEATURE_GATES, REMOVED_GATES};
pub use residents::{Resident, Residents};

use crate::api::EstimateRules;
use crate::config::{Diagnostics, parse};
use crate::endpoints::PoolIds;
use crate::exchange::{AnswerReader, OutcomeListener};
use crate::flow_control::{EvictionConfig, FlowControlConfig, ProgramAware, SaturationDetector};
use crate::kv_events::FollowPlan;
use crate::plugins::FileDiscoveryConfig;
use crate::plugins::{MetricsExtractor, MetricsSource, ParserKind, ReachOutside};
use crate::prefix::HashKey;
use crate::scheduling::{
    AskForUsage, AwaitingProducer, Clock, CountTokens, DebugState, EndpointHook, Lifecycle, Picker,
    PluginMetrics, ProfileHandler, ReadsAnswers, RequestProcessor, ResponseHook, Scheduler, point,
};
use crate::scrape_config::{EngineMaps, Needs, PageScrape, Scheme, ScrapeConfig};
use data_layer::Collection;
use document::Document;
use effective::Decisions;
use instances::{Before, Instance, Instances};
use measured::Measured;

/// What flags say about loading. `None` where a flag was not given.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--allow-experimental-plugins`
    pub allow_experimental_plugins: bool,
    /// What block hashes depend on: by default a key nobody knows.
    pub hash_key: HashKey,
    /// The configuration is only looked at: which flags it will be used with is not known.
    pub only_checked: bool,
    /// Has the calls of plugins measured, by this clock; `None`: they are not.
    pub clock: Option<Clock>,
    /// `--model-server-metrics-scheme`; parameters of `metrics-data-source` win over this and
    /// the three below.
    pub model_server_metrics_scheme: Option<Scheme>,
    /// `--model-server-metrics-path`
    pub model_server_metrics_path: Option<String>,
    /// `--model-server-metrics-port`; 0 is the port that serves requests.
    pub model_server_metrics_port: Option<u16>,
    /// `--model-server-metrics-https-insecure-skip-verify`
    pub model_server_metrics_https_insecure_skip_verify: Option<bool>,
    /// `--total-queued-requests-metric`; like the four below it replaces the metric of engine
    /// `vllm`, and counts as not given where it is empty.
    pub total_queued_requests_metric: Option<String>,
    /// `--total-running-requests-metric`
    pub total_running_requests_metric: Option<String>,
    /// `--kv-cache-usage-percentage-metric`
    pub kv_cache_usage_percentage_metric: Option<String>,
    /// `--lora-info-metric`
    pub lora_info_metric: Option<String>,
    /// `--cache-info-metric`
    pub cache_info_metric: Option<String>,
}

/// Everything that one configuration says.
#[derive(Debug)]
pub struct Pipeline {
    pub scheduler: Scheduler,
    /// What plugins do beside scheduling.
    pub hooks: Hooks,
    /// The endpoints file; `None`: the endpoints come from elsewhere.
    pub discovery: Option<FileDiscoveryConfig>,
    /// How workers are asked for their metrics; `None`: they are not.
    pub scrape: Option<ScrapeConfig>,
    /// What else they are asked for.
    pub pages: Vec<PageScrape>,
    pub engines: EngineMaps,
    /// The signals that plugins read, and those of the pool's averages; no other need be
    /// collected.
    pub needs: Needs,
    /// Which plugins read which signals.
    pub readers: Vec<SignalReader>,
    /// In order of precedence, no kind twice.
    pub parsers: Vec<ParserKind>,
    /// How media items are counted.
    pub estimate: EstimateRules,
    pub saturation: Arc<dyn SaturationDetector>,
    /// How requests wait while the pool is saturated; `None`: they do not.
    pub flow_control: Option<FlowControlConfig>,
    /// The detector's name.
    pub detector_name: String,
    /// The name of the plugin that works out what requests will cost endpoints, or of the type where
    /// none is configured.
    pub load_producer: String,
    /// The program-aware policies that bands use.
    pub programs: Vec<Arc<ProgramAware>>,
    /// Some plugin looks at the prompt; else it need not be collected.
    pub wants_prompt: bool,
    /// Some plugin wants the tokens of answers counted.
    pub counts_tokens: bool,
    /// Some plugin wants the engine's counts at the end of every stream.
    pub asks_for_usage: bool,
    /// What goes by the bodies of responses.
    pub answer_readers: Vec<AnswerReader>,
    pub effective: Effective,
    /// One line for the log: what picks, and from what.
    pub summary: String,
    /// The plugins, for a configuration that replaces this one.
    pub residents: Residents,
}

/// A configuration in force.
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    pub residents: &'a Residents,
    pub effective: &'a Effective,
}

/// A plugin that reads signals of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalReader {
    /// The plugin's name.
    pub plugin: String,
    pub reads: Needs,
}

/// What plugins do around a decision and in the life of the pool, in the order of the
/// configuration.
#[derive(Debug, Default)]
pub struct Hooks {
    pub processors: Vec<Arc<dyn RequestProcessor>>,
    pub awaiting: Vec<Arc<dyn AwaitingProducer>>,
    pub response: Vec<Arc<dyn ResponseHook>>,
    pub endpoints: Vec<Arc<dyn EndpointHook>>,
    pub lifecycles: Vec<Arc<dyn Lifecycle>>,
    pub outcomes: Vec<Arc<dyn OutcomeListener>>,
    pub metrics: Vec<Arc<dyn PluginMetrics>>,
    pub reaching: Vec<Arc<dyn ReachOutside>>,
    /// Whose events are followed, and where they come from.
    pub follows: Vec<Arc<FollowPlan>>,
    /// With the plugins' names.
    pub debug_states: Vec<(String, Arc<dyn DebugState>)>,
    /// Every plugin's name and type.
    pub plugin_types: Vec<(String, &'static str)>,
}

const LOAD_PRODUCER: &str = "inflight-load-producer";

/// The configuration of a process that is given none (llm-d-router main at ebab6879).
const DEFAULT_DOCUMENT: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: metrics-data-source
- type: core-metrics-extractor
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
dataLayer:
  sources:
  - pluginRef: metrics-data-source
    extractors:
    - pluginRef: core-metrics-extractor
";

/// Loads a configuration; without a text, or with an empty one, the built-in default. `name` is
/// what messages call it: the file's path or the flag.
///
/// The plugins claim what they keep of endpoints from `ids`, the numbers of the pool that they are
/// to work for. All findings are in the diagnostics; there is a pipeline if none of them is an
/// error.
pub fn load(
    name: &str,
    text: Option<&str>,
    options: &LoadOptions,
    ids: &PoolIds,
) -> (Option<Pipeline>, Diagnostics) {
    let (loaded, diagnostics) = load_over(name, text, options, ids, None);
    (loaded.map(|(pipeline, _)| pipeline), diagnostics)
}

/// The same where another configuration is `in_force` for the pool: plugins that are made in the
/// same way in both, and work with the same others, go on in this one with all they know. With it
/// comes what changes.
///
/// Where the result is not used in the end, its [`Residents::give_back`] is to be called.
pub fn load_over(
    name: &str,
    text: Option<&str>,
    options: &LoadOptions,
    ids: &PoolIds,
    in_force: Option<InForce<'_>>,
) -> (Option<(Pipeline, Changes)>, Diagnostics) {
    let diagnostics = Diagnostics::new(name);
    let text = text.filter(|text| !text.is_empty()).unwrap_or(DEFAULT_DOCUMENT);
    let pipeline = match parse(text) {
        Ok(Some(root)) => Document::read(&root, &diagnostics)
            .and_then(|document| assemble(&document, options, ids, &diagnostics, in_force)),
        Ok(None) => {
            diagnostics.error(None, "", format!("has no document: expected an {}", document::KIND));
            None
        }
        Err((at, message)) => {
            diagnostics.error(Some(at), "", message);
            None
        }
    };
    (pipeline, diagnostics)
}

/// Makes everything; `None` where there is an error.
fn assemble(
    document: &Document<'_>,
    options: &LoadOptions,
    ids: &PoolIds,
    diagnostics: &Diagnostics,
    in_force: Option<InForce<'_>>,
) -> Option<(Pipeline, Changes)> {
    let mut instances = Instances::new(diagnostics, ids, options, None);
    let fresh = assemble_with(document, options, diagnostics, &mut instances);
    let Some(fresh) = fresh.filter(|_| !diagnostics.has_errors()) else {
        instances.give_back();
        return None;
    };
    let Some(InForce { residents, effective }) = in_force else {
        return Some((fresh, Changes::default()));
    };
    // There is nothing wrong with it. Once more, with what there is.
    instances.give_back();
    let before = Before { residents, fresh: &fresh.residents.places };
    let again = Diagnostics::new(diagnostics.file.clone());
    let mut instances = Instances::new(&again, ids, options, Some(before));
    let Some(pipeline) = assemble_with(document, options, &again, &mut instances) else {
        instances.give_back();
        return None;
    };
    let after = (&pipeline.residents, &pipeline.effective);
    let changes = Changes::between((residents, effective), after);
    Some((pipeline, changes))
}

fn assemble_with(
    document: &Document<'_>,
    options: &LoadOptions,
    diagnostics: &Diagnostics,
    instances: &mut Instances<'_>,
) -> Option<Pipeline> {
    instances.configure(&document.plugins);
    let plans = scheduling::plan_profiles(document, instances);
    let handler = scheduling::choose_handler(&plans, instances);
    let parsers = request_handler::plan_parsers(&document.parsers, instances);
    let mut rules = instances.list.iter().filter_map(|i| i.capabilities.get::<EstimateRules>());
    let estimate = rules.next().map(|rules| **rules);
    let detector = saturation::plan_detector(document, instances);
    let queueing =
        document.has_flow_control().then(|| queueing::plan(&document.flow_control, instances));
    let (collection, pages) = data_layer::plan_collection(&document.data_layer, instances);
    let discovery = data_layer::plan_discovery(&document.data_layer, instances);
    dependencies::complete_producers(instances);
    let profiles: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    instances.carry_over(&profiles);
    dependencies::bind_references(instances);
    instances.warn_of_unused();
    let engine_defaults = data_layer::engine_defaults(options, diagnostics);

    // What the pool's averages are published of.
    let mut needs = Needs { queue: true, running: true, kv: true, ..Needs::default() };
    let mut readers = Vec::new();
    for instance in instances.list.iter().filter(|i| i.used && i.capabilities.signals.any()) {
        needs |= instance.capabilities.signals;
        let reads = instance.capabilities.signals;
        readers.push(SignalReader { plugin: instance.name.clone(), reads });
    }
    if collection.is_none() && !readers.is_empty() && !instances.has_broken() {
        let message = format!(
            "no metrics are collected, but these plugins read them: {}",
            readers.iter().map(|r| r.plugin.as_str()).collect::<Vec<_>>().join(", ")
        );
        diagnostics.warning(None, "dataLayer", message);
    }

    // What was found before plugins were carried over is looked for anew.
    let handler = handler.and_then(|_| instances.all::<dyn ProfileHandler>().into_iter().next());
    let measured = Measured::by(options.clock);
    let scheduler = scheduling::build_scheduler(&plans, handler, instances, &measured)?;
    let (detector, _) = detector?;
    let saturation = instances.list[detector].capabilities.get::<dyn SaturationDetector>()?.clone();
    let mut queueing = match queueing {
        Some(queueing) => Some(queueing?),
        None => None,
    };
    if let Some(plan) = &mut queueing {
        plan.take_policies(instances);
    }
    let source =
        collection.and_then(|c| instances.list[c.source].capabilities.get::<MetricsSource>());
    let extractor =
        collection.and_then(|c| instances.list[c.extractor].capabilities.get::<MetricsExtractor>());
    let scrape = source.map(|source| source.over(data_layer::scrape_defaults(options)));
    let decisions = Decisions {
        plans: &plans,
        collection,
        pages: &pages,
        discovery: discovery.as_ref().map(|(index, _)| *index),
        detector,
        queueing: queueing.as_ref(),
        parsers: &parsers.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
    };
    Some(Pipeline {
        residents: Residents::new(instances, profiles.into_iter().map(str::to_owned).collect()),
        summary: summarise(&scheduler, &decisions, instances),
        effective: Effective::new(document, instances, &decisions),
        asks_for_usage: instances.first_with::<AskForUsage>().is_some(),
        answer_readers: answer_readers(instances, queueing.is_some()),
        counts_tokens: instances.first_with::<CountTokens>().is_some(),
        wants_prompt: !scheduler.producers.is_empty()
            || instances.first_with::<CountTokens>().is_some()
            || instances.first_with::<dyn AwaitingProducer>().is_some(),
        hooks: Hooks {
            processors: measured.all(instances, point::PRE_ADMISSION),
            awaiting: instances.all(),
            response: measured.response_hooks(instances),
            endpoints: instances.all(),
            lifecycles: instances.all(),
            outcomes: instances.all(),
            reaching: instances.all(),
            follows: instances.all(),
            debug_states: instances.debug_states(),
            plugin_types: (instances.list.iter())
                .map(|instance| (instance.name.clone(), instance.plugin_type))
                .collect(),
            metrics: {
                let times = measured.times().map(|times| -> Arc<dyn PluginMetrics> { times });
                instances.all().into_iter().chain(times).collect()
            },
        },
        scheduler,
        discovery: discovery.map(|(_, config)| (*config).clone()),
        scrape,
        pages: data_layer::page_scrapes(&pages, instances, options),
        engines: match extractor {
            Some(extractor) => extractor.over(engine_defaults),
            None => engine_defaults,
        },
        needs,
        readers,
        parsers: parsers.into_iter().map(|(_, kind)| kind).collect(),
        estimate: estimate.unwrap_or_default(),
        flow_control: queueing.map(|plan| FlowControlConfig {
            eviction: plan.eviction.then(EvictionConfig::default),
            ..plan.config
        }),
        saturation,
        load_producer: (instances.list.iter())
            .find(|i| i.plugin_type == LOAD_PRODUCER)
            .map_or_else(|| LOAD_PRODUCER.to_owned(), |i| i.name.clone()),
        detector_name: instances.list[detector].name.clone(),
        programs: (instances.list.iter())
            .filter(|i| i.used)
            .filter_map(|i| i.capabilities.get::<ProgramAware>().cloned())
            .collect(),
    })
}

/// What goes by the bodies of responses. Where requests wait, the queue too: what has been sent
/// and is not answered yet is what the pool still has to do.
fn answer_readers(instances: &Instances<'_>, has_queue: bool) -> Vec<AnswerReader> {
    let mut readers = instances.answer_readers();
    if has_queue {
        let reads = ReadsAnswers::FirstToken;
        readers.push(AnswerReader { name: "flow control".to_owned(), reads });
    }
    readers
}

/// For example `profile default: decode-filter > 2 prefix-cache-scorer + 1 load-aware-scorer >
/// max-score-picker; parsers ...; metrics from metrics-data-source`.
fn summarise(
    scheduler: &Scheduler,
    decisions: &Decisions<'_>,
    instances: &Instances<'_>,
) -> String {
    let name = |i: usize| instances.list[i].name.as_str();
    let mut text = String::new();
    for (profile, plan) in scheduler.profiles.iter().zip(decisions.plans) {
        let scorers: Vec<_> =
            profile.scorers.iter().map(|s| format!("{} {}", s.weight, s.name)).collect();
        let steps = profile.filters.iter().map(|(filter, _)| filter.clone());
        let steps = steps.chain((!scorers.is_empty()).then(|| scorers.join(" + ")));
        let is_picker = |i: &&Instance| i.capabilities.has::<dyn Picker>();
        let plugins = plan.plugins.iter().map(|(i, _)| &instances.list[*i]);
        let picker = plugins.filter(|i| is_picker(i)).map(|i| i.name.clone());
        let steps: Vec<_> = steps.chain(picker).collect();
        // Writing to a string cannot fail.
        let _ = write!(text, "profile {}: {}; ", profile.name, steps.join(" > "));
    }
    let parsers: Vec<_> = decisions.parsers.iter().map(|i| name(*i)).collect();
    let _ = write!(text, "parsers {}; ", parsers.join(", "));
    if decisions.queueing.is_some() {
        let _ = write!(text, "queues while {} says saturated; ", name(decisions.detector));
    }
    match decisions.collection {
        Some(Collection { source, .. }) => {
            let _ = write!(text, "metrics from {}", name(source));
        }
        None => text.push_str("no metrics"),
    }
    for page in decisions.pages {
        let _ = write!(text, "; {} from {}", name(page.extractor), name(page.source));
    }
    if let Some(discovery) = decisions.discovery {
        let _ = write!(text, "; endpoints from {}", name(discovery));
    }
    text
}
