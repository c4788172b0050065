//! The simulated worker over real sockets, as a client or a router meets it.

mod apis;
mod batches;
mod client;
mod disaggregation;
mod faults;
mod load;
mod program;

use client::{Client, worker};
use epp::sim::EngineConfig;
use epp::sim::worker::{Fault, Role, WorkerConfig};

/// A worker at `speed` times the pace of the measured server.
fn config(speed: f64) -> WorkerConfig {
    let engine = EngineConfig::profile("h200-qwen7b").expect("a built-in profile");
    WorkerConfig {
        name: "w1".into(),
        models: vec!["base".into(), "alias".into()],
        loras: vec!["red".into(), "blue".into()],
        engine: engine.at_speed(speed).expect("a speed"),
        answer: "one two three four".into(),
        metrics_padding: 0,
        role: Role::Both,
        prefill_fallback: false,
        fault: Fault::default(),
    }
}

/// So slow that a test sees each state, for requests that are never waited for.
const CRAWL: f64 = 0.02;
/// Slow enough that an answer of some tokens is still on its way when its first token came.
const WALK: f64 = 0.05;
/// Faster than anything a test could notice.
const RUN: f64 = 1000.0;
