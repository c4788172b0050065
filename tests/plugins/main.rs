//! The plugin types, built from YAML as a configuration builds them and run by the scheduler.

mod filters;
mod flow_control;
mod parameters;
mod pickers;
mod prefix_scores;
mod rig;
mod scores;
