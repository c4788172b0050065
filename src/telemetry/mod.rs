//! What `epp` tells about itself: metrics for Prometheus, logs, and the last decisions.

mod access_log;
mod buckets;
mod cardinality;
mod decision_query;
mod decision_record;
mod decision_text;
mod decisions;
mod endpoint_counts;
mod exposition;
mod families;
mod flow_control;
mod health_log;
pub mod logging;
mod metrics;
mod plugin_metrics;
mod pool;
mod process;
mod queue_series;
mod request_metrics;
mod series;
mod spans;
mod streams;

pub use access_log::AccessLog;
pub use decision_query::DecisionQuery;
pub use decision_record::{DecisionRecord, DecisionView};
pub use decision_text::as_text;
pub use decisions::DecisionLog;
pub use endpoint_counts::{EndpointCount, EndpointCounts};
pub use flow_control::{FlowControlPlugins, FlowControlSource};
pub use health_log::HealthLog;
pub use metrics::{BuildInfo, Metrics};
pub use plugin_metrics::PublishingPlugins;
pub use pool::{
    EndpointScrapeErrors, HealthReader, HealthReading, MeanAndDeviation, PageScrapeErrors,
    PoolReading, PoolSource, ScrapeErrors,
};
pub use series::{Completion, RequestSeries};
pub use spans::{Sampling, SpanTracer, TracingOptions};
pub use streams::StreamMetrics;
