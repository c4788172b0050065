//! `epp`, an endpoint picker for LLM inference gateways.
//!
//! A request's way, in the order to read the code:
//!
//! 1. [`server`] accepts Envoy's gRPC stream; [`ext_proc`] translates its messages into calls on an
//!    [`exchange::Exchange`], and that one's answers into replies. It decides nothing.
//! 2. [`exchange`] is the life of one HTTP exchange. [`api`] reads the body it collected, and the
//!    exchange makes a [`scheduling::InferenceRequest`] of it.
//! 3. [`exchange::Director`] takes that through admission ([`flow_control`]) and candidates to
//!    [`scheduling::Scheduler`], which runs the profiles of [`plugins`] over one snapshot of the
//!    pool in [`endpoints`], with what [`prefix`] remembers, what [`datalayer`] scraped, and what engines say they hold:
//!    [`kv_sockets`] hears it, [`kv_events`] reads it, [`kv_index`] keeps it, and [`tokens`] says how
//!    prompts are asked for in it.
//! 4. The exchange follows the response, [`api`] reads the usage off it, and at the end every
//!    listener is told one [`exchange::Outcome`]: metrics and logs in [`telemetry`] are made of it, and rows in [`recording`].
//!
//! Around it: [`config`] reads documents, [`catalogue`] tells what may stand in them, [`migrate`] rewrites old ones, [`loader`] turns an `EndpointPickerConfig` into a
//! scheduler, [`discovery`] fills the pool, [`files`] reads and follows what an operator names, [`cli`] reads the flags, [`app`] puts a pool's runtime
//! and the process together, [`inspect`] shows an operator what goes on in it, [`doctor`] looks a set-up over from outside. Beside it: `sim`, a model of a vLLM worker, and `bench`, the harness.

// Here and not for all targets: what tests share they include file by file.
#![warn(unreachable_pub)]

pub mod api;
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "bench")]
pub mod bench;
pub mod catalogue;
#[cfg(feature = "server")]
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(feature = "server")]
pub mod console;
#[cfg(feature = "server")]
pub mod datalayer;
#[cfg(feature = "server")]
pub mod discovery;
#[cfg(feature = "server")]
pub mod doctor;
pub mod endpoints;
pub mod error;
pub mod exchange;
#[cfg(feature = "server")]
pub mod ext_proc;
#[cfg(feature = "server")]
pub mod files;
pub mod flow_control;
pub mod headers;
pub mod health;
#[cfg(feature = "server")]
pub mod inspect;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod kv_events;
pub mod kv_index;
#[cfg(feature = "server")]
pub mod kv_sockets;
pub mod latency;
pub mod loader;
pub mod migrate;
pub mod objectives;
pub mod plugins;
pub mod prefix;
pub mod quota;
#[cfg(feature = "server")]
pub mod recording;
#[cfg(feature = "server")]
pub mod redis_quota;
#[cfg(feature = "server")]
pub mod rendering;
pub mod scheduling;
pub mod scrape_config;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod tls;
pub mod tokens;
