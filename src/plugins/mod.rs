//! The plugin types, one file each, named as the type is in YAML, and their registry.
//!
//! What several types share lies beside them: `parameters`, `picking`, `min_max`, `role`. To add
//! a type: write its file with a `build` function, and add one line to `TYPES` in `registry.rs`.

mod active_request_scorer;
mod agent_identity;
mod always_disagg_multimodal_decider;
mod always_disagg_pd_decider;
mod approx_prefix_cache_producer;
mod by_label;
mod capabilities;
mod core_metrics_extractor;
mod data_parallel_profile_handler;
mod decision_tree_filter;
mod decode_filter;
mod dependencies;
mod destination_endpoint_served_verifier;
mod disagg_headers_handler;
mod disagg_profile_handler;
mod disaggregation;
mod encode_filter;
mod expected_delay_scorer;
mod file_discovery;
mod header_based_testing_filter;
mod header_profile_handler;
mod inflight_load_producer;
mod kv_cache_utilization_scorer;
mod label_selector_filter;
mod least_kv_cache_filter;
mod least_queue_filter;
mod load_aware_scorer;
mod lora_affinity_filter;
mod lora_affinity_scorer;
mod low_queue_filter;
mod max_score_picker;
mod metrics_data_source;
mod min_max;
mod no_hit_lru_scorer;
mod parameters;
mod parsers;
mod pd_profile_handler;
mod picking;
mod plugin_type;
mod prefill_filter;
mod prefix_based_pd_decider;
mod prefix_cache_affinity_filter;
mod prefix_cache_scorer;
mod queue_scorer;
mod random_picker;
mod registry;
mod role;
mod running_requests_size_scorer;
mod single_profile_handler;
mod token_load_scorer;
mod token_producer;
mod utilization_detector;
mod weighted_random_picker;

pub use crate::api::ParserKind;
pub use core_metrics_extractor::MetricsExtractor;
pub use file_discovery::FileDiscoveryConfig;
pub use metrics_data_source::MetricsSource;

pub use capabilities::Capabilities;
pub use dependencies::{DataReader, DataSlot, Dependencies, PluginPart, PluginReference};
pub use plugin_type::{Build, PluginType};
pub use registry::{find, type_names};
