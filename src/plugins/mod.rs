//! The plugin types, one file each, named as the type is in YAML, and their registry.
//!
//! What several types share lies beside them: `parameters`, `picking`, `min_max`, `role`. To add
//! a type: write its file with a `build` function, and add one line to `TYPES` in `registry.rs`.

mod active_request_scorer;
mod approx_prefix_cache_producer;
mod by_label;
mod capabilities;
mod concurrency_detector;
mod core_metrics_extractor;
mod decode_filter;
mod dependencies;
mod edf_ordering_policy;
mod encode_filter;
mod expected_delay_scorer;
mod fcfs_ordering_policy;
mod file_discovery;
mod global_strict_fairness_policy;
mod inflight_load_producer;
mod kv_cache_utilization_scorer;
mod label_selector_filter;
mod learned_saturation_detector;
mod load_aware_scorer;
mod lora_affinity_scorer;
mod max_score_picker;
mod metrics_data_source;
mod min_max;
mod no_hit_lru_scorer;
mod parameters;
mod parsers;
mod picking;
mod plugin_type;
mod prefill_filter;
mod prefix_cache_affinity_filter;
mod prefix_cache_scorer;
mod priority_holdback_policy;
mod priority_then_time_eviction_order_policy;
mod probabilistic_admitter;
mod program_aware_fairness;
mod queue_scorer;
mod random_picker;
mod registry;
mod role;
mod round_robin_fairness_policy;
mod running_requests_size_scorer;
mod sheddable_eviction_filter;
mod single_profile_handler;
mod slo_deadline_ordering_policy;
mod soft_reflective_ceiling_policy;
mod static_usage_limit_policy;
mod token_load_scorer;
mod token_producer;
mod utilization_detector;
mod weighted_random_picker;

pub use crate::api::ParserKind;
pub use core_metrics_extractor::MetricsExtractor;
pub use metrics_data_source::MetricsSource;

pub use capabilities::Capabilities;
pub use dependencies::{DataReader, DataSlot, Dependencies, PluginPart, PluginReference};
pub use plugin_type::{Build, PluginType};
pub use registry::{find, type_names};
