//! The plugin types, one file each, named as the type is in YAML, and their registry.
//!
//! To add one: write its file with a `build` function, and add one line to `TYPES` in
//! `registry.rs`.

mod registry;

pub use registry::{
    Build, DEFAULT_IN_FLIGHT_PRODUCER, DEFAULT_PREFIX_PRODUCER, Links, PluginType, Roles, find,
    type_names,
};
