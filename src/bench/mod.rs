//! The benchmark harness behind `epp-bench`.
//!
//! [`extproc`] drives any endpoint picker over the wire as Envoy does; [`floor`] is a picker that
//! decides nothing, so that what a decision costs can be told from what the server costs.
//! [`trace`] reads recorded workloads and makes up others. [`report`] puts results on the terminal, into JSON and into one HTML file.

pub mod args;
pub mod extproc;
pub mod floor;
pub mod latency;
pub mod process;
pub mod progress;
pub mod report;
pub mod trace;
