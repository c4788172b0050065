//! How long a request will take at an endpoint: an online model of its time to first token (TTFT)
//! and its time per output token (TPOT), learnt from this very traffic.

mod correction;
mod error_estimate;
mod features;
mod predictor;
mod regression;
#[cfg(test)]
mod tests;

pub use correction::EndpointCorrection;
pub use error_estimate::ErrorEstimate;
pub use features::Features;
pub use predictor::{Errors, Latency, LatencyPredictor, MIN_OBSERVATIONS, Observation, Prediction};
