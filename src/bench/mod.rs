//! The benchmark harness behind `epp-bench`.
//!
//! [`extproc`] drives any endpoint picker over the wire as Envoy does; [`floor`] is a picker that
//! decides nothing, so that what a decision costs can be told from what the server costs.
//! [`trace`] reads recorded workloads and makes up others, [`replay`] plays them in virtual time
//! through the real pipeline against simulated engines, and [`picker`] calls that pipeline as fast as it can. [`cluster`] starts simulated workers, `epp` and Envoy
//! and is their clients, [`calibrate`] measures a real engine. [`report`] puts results on the terminal, into JSON and into one HTML file.

pub mod allocations;
pub mod args;
pub mod calibrate;
pub mod cluster;
mod engine_api;
mod envoy;
pub mod extproc;
pub mod floor;
pub mod latency;
pub mod latency_model;
pub mod picker;
pub mod process;
mod programs;
pub mod progress;
pub mod replay;
pub mod report;
pub mod trace;
