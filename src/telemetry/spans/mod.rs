//! Spans of exchanges, for a collector that speaks OTLP (OpenTelemetry), under the names and
//! attributes that llm-d-router main at ebab6879 has.
//!
//! [`SpanTracer`] reads the trace context that came with a request and decides whether the request
//! is sampled; of one that is not, nothing more is kept. When the exchange has ended, its spans are
//! made of the one [`crate::exchange::Outcome`] (`outcome.rs`) and of what was taken down of the
//! decision (`decision.rs`). `delivery.rs` sees to it that a collector which is slow or away costs
//! requests nothing but their spans.

mod decision;
mod delivery;
mod outcome;
mod settings;
mod tracer;

pub use settings::{Sampling, TracingOptions};
pub use tracer::SpanTracer;
