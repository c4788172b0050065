//! The plugin types, built from YAML as a configuration builds them and run by the scheduler.

mod affinity;
mod attributes;
mod burst;
mod declared;
mod disaggregation;
mod explanations;
mod filters;
mod filters_of_v05;
mod flow_control;
mod latency;
mod p2p_source;
mod parameters;
mod pickers;
mod prefix_scores;
mod quota;
mod reporter;
mod request_processors;
mod rig;
mod rollout;
mod scores;
mod topology;
