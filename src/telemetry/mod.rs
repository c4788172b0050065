//! What `epp` tells about itself: metrics for Prometheus, logs, and the last decisions.

mod buckets;
mod cardinality;
mod exposition;
mod families;
mod histogram;
mod metrics;
mod pool;
mod process;
mod series;

pub use metrics::{BuildInfo, Metrics};
pub use pool::{MeanAndDeviation, PoolReading, PoolSource, ScrapeErrors};
pub use series::{Completion, RequestSeries};
