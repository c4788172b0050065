//! Every plugin type there is.

use super::PluginType;

/// Every plugin type there is.
static TYPES: &[PluginType] = &[
    super::active_request_scorer::TYPE,
    super::agent_identity::TYPE,
    super::always_disagg_multimodal_decider::TYPE,
    super::always_disagg_pd_decider::TYPE,
    super::approx_prefix_cache_producer::TYPE,
    super::by_label::TYPE,
    super::context_length_aware::TYPE,
    super::core_metrics_extractor::TYPE,
    super::data_parallel_profile_handler::TYPE,
    super::decision_tree_filter::TYPE,
    super::decode_filter::TYPE,
    super::destination_endpoint_served_verifier::TYPE,
    super::disagg_headers_handler::TYPE,
    super::disagg_profile_handler::TYPE,
    super::encode_filter::TYPE,
    super::endpoint_notification_source::TYPE,
    super::expected_delay_scorer::TYPE,
    super::file_discovery::TYPE,
    super::header_based_testing_filter::TYPE,
    super::header_label_affinity_scorer::TYPE,
    super::header_profile_handler::TYPE,
    super::inflight_load_producer::TYPE,
    super::kv_cache_utilization_scorer::TYPE,
    super::label_selector_filter::TYPE,
    super::latency_scorer::TYPE,
    super::latency_slo_admitter::TYPE,
    super::least_kv_cache_filter::TYPE,
    super::least_queue_filter::TYPE,
    super::lmetric_scorer::TYPE,
    super::load_aware_scorer::TYPE,
    super::lora_affinity_filter::TYPE,
    super::lora_affinity_scorer::TYPE,
    super::low_queue_filter::TYPE,
    super::max_score_picker::TYPE,
    super::metrics_data_source::TYPE,
    super::mm_embeddings_cache_producer::TYPE,
    super::mm_embeddings_cache_scorer::TYPE,
    super::no_hit_lru_scorer::TYPE,
    super::parsers::ANTHROPIC,
    super::parsers::OPENAI,
    super::parsers::PASSTHROUGH,
    super::parsers::SGLANG_HTTP,
    super::parsers::VERTEX_AI,
    super::parsers::VLLM_GRPC,
    super::parsers::VLLM_HTTP,
    super::pd_profile_handler::TYPE,
    super::predicted_latency_producer::TYPE,
    super::predicted_latency_scorer::TYPE,
    super::precise_prefix_cache_producer::TYPE,
    super::precise_prefix_cache_scorer::TYPE,
    super::prefill_filter::TYPE,
    super::prefix_based_pd_decider::TYPE,
    super::prefix_cache_affinity_filter::TYPE,
    super::prefix_cache_scorer::TYPE,
    super::probabilistic_admitter::TYPE,
    super::queue_scorer::TYPE,
    super::random_picker::TYPE,
    super::running_requests_size_scorer::TYPE,
    super::session_affinity_filter::TYPE,
    super::session_affinity_scorer::TYPE,
    super::session_id_producer::TYPE,
    super::single_profile_handler::TYPE,
    super::slo_headroom_tier_filter::TYPE,
    super::token_load_scorer::TYPE,
    super::token_producer::TYPE,
    super::utilization_detector::TYPE,
    super::utilization_filter::TYPE,
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
