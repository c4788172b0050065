use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{MetricsExtractor, MetricsSource, ParserKind};
use crate::config::Fields;
use crate::datalayer::config::Needs;
use crate::discovery::FileDiscoveryConfig;
use crate::flow_control::SaturationConfig;
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
    in_flight: BTreeSet<String>,
}

/// The producer that consumers get when they name none.
pub const DEFAULT_PREFIX_PRODUCER: &str = "approx-prefix-cache-producer";
/// The parameter by which consumers name a prefix producer.
pub const PREFIX_PRODUCER_NAME: &str = "prefixMatchInfoProducerName";
/// The parameter by which consumers name the producer of what is in flight.
pub const IN_FLIGHT_PRODUCER_NAME: &str = "inFlightLoadProducerName";
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

    /// Notes that a plugin reads what the producer of this name keeps. There is one record of
    /// what is in flight, whoever reads it; the name has to be one all the same.
    pub fn name_in_flight(&mut self, producer: &str) {
        self.in_flight.insert(producer.to_owned());
    }

    /// Names of the producers of requests and tokens in flight that plugins gave.
    pub fn in_flight_producers(&self) -> impl Iterator<Item = &str> {
        self.in_flight.iter().map(String::as_str)
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

impl Roles {
    pub fn filter(filter: impl Filter + 'static) -> Self {
        Self { filter: Some(Arc::new(filter)), ..Self::default() }
    }

    pub fn scorer(scorer: impl Scorer + 'static) -> Self {
        Self { scorer: Some(Arc::new(scorer)), ..Self::default() }
    }

    pub fn picker(picker: impl Picker + 'static) -> Self {
        Self { picker: Some(Arc::new(picker)), ..Self::default() }
    }

    /// Says which of the workers' signals the instance reads.
    pub fn reading(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }
}

/// Every plugin type there is.
static TYPES: &[PluginType] = &[
    super::active_request_scorer::TYPE,
    super::approx_prefix_cache_producer::TYPE,
    super::by_label::TYPE,
    super::core_metrics_extractor::TYPE,
    super::decode_filter::TYPE,
    super::encode_filter::TYPE,
    super::expected_delay_scorer::TYPE,
    super::file_discovery::TYPE,
    super::inflight_load_producer::TYPE,
    super::kv_cache_utilization_scorer::TYPE,
    super::label_selector_filter::TYPE,
    super::load_aware_scorer::TYPE,
    super::lora_affinity_scorer::TYPE,
    super::max_score_picker::TYPE,
    super::metrics_data_source::TYPE,
    super::no_hit_lru_scorer::TYPE,
    super::parsers::ANTHROPIC,
    super::parsers::OPENAI,
    super::parsers::PASSTHROUGH,
    super::parsers::SGLANG_HTTP,
    super::parsers::VERTEX_AI,
    super::parsers::VLLM_GRPC,
    super::parsers::VLLM_HTTP,
    super::prefill_filter::TYPE,
    super::prefix_cache_affinity_filter::TYPE,
    super::prefix_cache_scorer::TYPE,
    super::queue_scorer::TYPE,
    super::random_picker::TYPE,
    super::running_requests_size_scorer::TYPE,
    super::single_profile_handler::TYPE,
    super::token_load_scorer::TYPE,
    super::token_producer::TYPE,
    super::utilization_detector::TYPE,
    super::weighted_random_picker::TYPE,
];

/// The type of this name or alias.
pub fn find(name: &str) -> Option<&'static PluginType> {
    TYPES.iter().find(|t| t.name == name || t.aliases.contains(&name))
}

/// The names of all types, for messages.
pub fn type_names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|t| t.name)
}
