//! The plugin types, one file each, named as the type is in YAML, and their registry.
//!
//! To add one: write its file with a `build` function, and add one line to `TYPES` in
//! `registry.rs`.

mod core_metrics_extractor;
mod file_discovery;
mod metrics_data_source;
mod parsers;
mod registry;
mod utilization_detector;

pub use core_metrics_extractor::MetricsExtractor;
pub use metrics_data_source::MetricsSource;
pub use parsers::ParserKind;
pub use utilization_detector::SaturationConfig;

pub use registry::{
    Build, DEFAULT_IN_FLIGHT_PRODUCER, DEFAULT_PREFIX_PRODUCER, Links, PluginType, Roles, find,
    type_names,
};
