//! What operators see of a running `epp`, over real sockets: every metric that dashboards and alerts
//! name, every family of the reference, and the spans that a collector is sent.

mod collector;
#[path = "../support/mod.rs"]
mod support;

mod families;
mod queries;
mod spans;
