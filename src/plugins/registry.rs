use std::collections::BTreeMap;
use std::sync::Arc;

use super::{MetricsExtractor, MetricsSource, ParserKind, SaturationConfig};
use super::{
    core_metrics_extractor, file_discovery, metrics_data_source, parsers, utilization_detector,
};
use crate::config::Fields;
use crate::datalayer::config::Needs;
use crate::discovery::FileDiscoveryConfig;
use crate::scheduling::{Filter, Observer, Picker, PrefixSlot, Producer, ProfileHandler, Scorer};

/// A plugin type: its name in YAML and how an instance is made.
#[derive(Debug)]
pub struct PluginType {
    pub name: &'static str,
    /// Other names the reference accepts for it, or accepted once.
    pub aliases: &'static [&'static str],
    /// Makes an instance. Mistakes in the parameters are reported through `Build::parameters`;
    /// the instance is made all the same, so that every mistake is found.
    pub build: fn(Build<'_, '_>) -> Roles,
}

/// What an instance is made from.
pub struct Build<'a, 'l> {
    /// The instance's name in the configuration.
    pub name: &'a str,
    /// Its `parameters`. Call [`Fields::finish`] (or `ignore_rest`) when all are read.
    pub parameters: Fields<'a>,
    pub links: &'l mut Links,
}

/// How plugins of one configuration find each other's results.
#[derive(Debug, Default)]
pub struct Links {
    prefix: BTreeMap<String, PrefixSlot>,
    wants_in_flight_tokens: bool,
}

/// The producer that consumers get when they name none.
pub const DEFAULT_PREFIX_PRODUCER: &str = "approx-prefix-cache-producer";
/// The producer of in-flight tokens.
pub const DEFAULT_IN_FLIGHT_PRODUCER: &str = "inflight-load-producer";

impl Links {
    /// The slot of the prefix producer of this name; `None` means the default producer. The
    /// pipeline makes the default producer if no plugin has its name, and reports any other
    /// name that no plugin has.
    pub fn prefix(&mut self, producer: Option<&str>) -> PrefixSlot {
        let next = PrefixSlot(self.prefix.len());
        *self.prefix.entry(producer.unwrap_or(DEFAULT_PREFIX_PRODUCER).to_owned()).or_insert(next)
    }

    /// Asks for `inflight-load-producer`, so that token counts are kept.
    pub fn want_in_flight_tokens(&mut self) {
        self.wants_in_flight_tokens = true;
    }

    /// Names of the prefix producers asked for, or making themselves known, so far.
    pub fn prefix_producers(&self) -> impl Iterator<Item = &str> {
        self.prefix.keys().map(String::as_str)
    }

    pub fn wants_in_flight(&self) -> bool {
        self.wants_in_flight_tokens
    }
}

/// The parts an instance can play. Most play one.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    pub filter: Option<Arc<dyn Filter>>,
    pub scorer: Option<Arc<dyn Scorer>>,
    pub picker: Option<Arc<dyn Picker>>,
    pub profile_handler: Option<Arc<dyn ProfileHandler>>,
    pub producer: Option<Arc<dyn Producer>>,
    /// True for a producer whose name other plugins may give as a prefix producer.
    pub is_prefix_producer: bool,
    pub observer: Option<Arc<dyn Observer>>,
    /// How workers are scraped.
    pub metrics_source: Option<MetricsSource>,
    /// What their metrics mean.
    pub extractor: Option<MetricsExtractor>,
    pub parser: Option<ParserKind>,
    pub saturation: Option<SaturationConfig>,
    pub discovery: Option<FileDiscoveryConfig>,
    /// The workers' signals that the instance reads; the others need not be collected.
    pub needs: Needs,
}

/// Every plugin type there is.
static TYPES: &[PluginType] = &[
    PluginType { name: "file-discovery", aliases: &[], build: file_discovery::build },
    PluginType { name: "metrics-data-source", aliases: &[], build: metrics_data_source::build },
    PluginType {
        name: "core-metrics-extractor",
        aliases: &["model-server-protocol-metrics"],
        build: core_metrics_extractor::build,
    },
    PluginType { name: "utilization-detector", aliases: &[], build: utilization_detector::build },
    PluginType { name: "openai-parser", aliases: &[], build: parsers::openai },
    PluginType { name: "anthropic-parser", aliases: &[], build: parsers::anthropic },
    PluginType { name: "vllmhttp-parser", aliases: &[], build: parsers::vllm_http },
    PluginType { name: "sglanghttp-parser", aliases: &[], build: parsers::sglang_http },
    PluginType { name: "passthrough-parser", aliases: &[], build: parsers::passthrough },
];

/// The type of this name or alias.
pub fn find(name: &str) -> Option<&'static PluginType> {
    TYPES.iter().find(|t| t.name == name || t.aliases.contains(&name))
}

/// The names of all types, for messages.
pub fn type_names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|t| t.name)
}
