//! `epp`, an endpoint picker for LLM inference gateways.
//!
//! A request's way, in the order to read the code:
//!
//! 1. [`server`] accepts Envoy's gRPC stream and hands each to [`ext_proc`], one state machine
//!    per HTTP exchange.
//! 2. [`api`] reads the body it collected into a [`scheduling::InferenceRequest`].
//! 3. [`director`] takes it through objectives, admission and candidates to
//!    [`scheduling::Scheduler`], which runs the profiles of [`plugins`] over one snapshot of the
//!    pool in [`endpoints`], with what [`prefix`] remembers and what [`datalayer`] scraped.
//! 4. [`ext_proc`] answers, and [`api`] reads the usage off the response as it streams by.
//!
//! Beside it: `sim`, a model of a vLLM worker for tests and benchmarks.
//!
//! Around it: [`config`] and [`loader`] turn an `EndpointPickerConfig` into a scheduler,
//! [`discovery`] fills the pool, [`telemetry`] counts and logs, [`cli`] reads the flags, [`files`]
//! reads and follows what an operator names.

pub mod api;
pub mod app;
#[cfg(feature = "bench")]
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod datalayer;
pub mod director;
pub mod discovery;
pub mod endpoints;
pub mod error;
pub mod ext_proc;
pub mod files;
pub mod flow_control;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod loader;
pub mod objectives;
pub mod plugins;
pub mod prefix;
pub mod scheduling;
pub mod server;
#[cfg(feature = "sim")]
pub mod sim;
pub mod telemetry;
pub mod tls;
