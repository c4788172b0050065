//! The plugin types, built from YAML as a configuration builds them and run by the scheduler.

mod disaggregation;
mod filters;
mod parameters;
mod pickers;
mod prefix_scores;
mod rig;
mod scores;
