//! Every plugin type there is.

use super::PluginType;

/// Every plugin type there is.
static TYPES: &[PluginType] = &[
    super::active_request_scorer::TYPE,
    super::approx_prefix_cache_producer::TYPE,
    super::by_label::TYPE,
    super::concurrency_detector::TYPE,
    super::core_metrics_extractor::TYPE,
    super::decode_filter::TYPE,
    super::edf_ordering_policy::TYPE,
    super::encode_filter::TYPE,
    super::expected_delay_scorer::TYPE,
    super::fcfs_ordering_policy::TYPE,
    super::file_discovery::TYPE,
    super::global_strict_fairness_policy::TYPE,
    super::inflight_load_producer::TYPE,
    super::kv_cache_utilization_scorer::TYPE,
    super::label_selector_filter::TYPE,
    super::learned_saturation_detector::TYPE,
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
    super::priority_holdback_policy::TYPE,
    super::priority_then_time_eviction_order_policy::TYPE,
    super::probabilistic_admitter::TYPE,
    super::program_aware_fairness::TYPE,
    super::queue_scorer::TYPE,
    super::random_picker::TYPE,
    super::round_robin_fairness_policy::TYPE,
    super::running_requests_size_scorer::TYPE,
    super::sheddable_eviction_filter::TYPE,
    super::single_profile_handler::TYPE,
    super::slo_deadline_ordering_policy::TYPE,
    super::soft_reflective_ceiling_policy::TYPE,
    super::static_usage_limit_policy::TYPE,
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
