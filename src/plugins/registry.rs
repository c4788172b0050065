//! Every plugin type there is.

use super::PluginType;

/// Every plugin type there is.
static TYPES: &[PluginType] = &[
    super::active_request_scorer::TYPE,
    super::approx_prefix_cache_producer::TYPE,
    super::by_label::TYPE,
    super::core_metrics_extractor::TYPE,
    super::decode_filter::TYPE,
    super::encode_filter::TYPE,
    super::endpoint_notification_source::TYPE,
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
    super::precise_prefix_cache_producer::TYPE,
    super::precise_prefix_cache_scorer::TYPE,
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
