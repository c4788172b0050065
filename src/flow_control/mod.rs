//! Whether the pool can take more: saturation, which decides if sheddable requests are refused.

mod utilization;

pub use utilization::UtilizationDetector;
