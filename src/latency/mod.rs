//! How long a request will take at an endpoint: an online model of its time to first token (TTFT)
//! and its time per output token (TPOT), learnt from this very traffic.
//!
//! The reference (llm-d-router main at ebab6879) trains gradient-boosted trees in servers beside
//! the picker and asks them over HTTP. This model is part of the process: [`LatencyPredictor`]
//! predicts in some dozens of multiplications, without a lock, and learns from every answer at the
//! cost of a few hundred.
//!
//! - [`Features`] is what is known at the pick. Of it are made terms, each something that costs a
//!   server time or makes a request wait (`features.rs`): the request's uncached tokens, the pairs
//!   of tokens that attention looks at, the prompts before it, the decoding streams that share its
//!   steps, the queue that stands because nothing ends.
//! - A latency is a sum of terms with coefficients that are never negative (`regression.rs`): no
//!   prediction is below 0, or falls because load rises. Errors count by ratio, not by
//!   milliseconds. An observation counts half after 2000 more, so the model follows a change; no
//!   single one can outweigh those before it.
//! - [`EndpointCorrection`] holds by how much an endpoint is slower or faster than that.
//! - [`ErrorEstimate`] follows how far off predictions are.
//!
//! Nothing is predicted before [`MIN_OBSERVATIONS`] answers. Memory: less than 128 KiB a
//! pool, nearly all of it observations that wait to be learnt, and 32 bytes an endpoint.
//!
//! # How far off it is
//!
//! `epp-bench latency-model WORKLOAD --requests 10000 --rate 0.7,1.5,3 --seed 2`, and for the
//! recorded traces (Azure's conversations of 2023, Mooncake's) with their files and the rates
//! below: four simulated engines (a 7B model on an H200), one of them at 0.6 of the speed of the
//! others, metrics read every 50 ms. Relative errors of the predictions made in the second half of
//! the run, each before its answer was seen; nothing was tuned on these seeds and traces. What is
//! cached where is known exactly here; a picker's belief of it is less good.
//!
//! | workload, rate | TTFT median | p90 | TPOT median | p90 | by the median of the last 500: TTFT | TPOT |
//! |---|---|---|---|---|---|---|
//! | shared 0.7 | 5 % | 11 % | 3 % | 7 % | 26 % | 4 % |
//! | shared 3 | 8 % | 22 % | 6 % | 17 % | 27 % | 8 % |
//! | chat 0.7 | 5 % | 12 % | 4 % | 10 % | 30 % | 5 % |
//! | chat 3 | 5 % | 18 % | 7 % | 20 % | 41 % | 11 % |
//! | rag 0.7 | 2 % | 8 % | 11 % | 29 % | 25 % | 14 % |
//! | rag 1.5 | 7 % | 38 % | 19 % | 53 % | 34 % | 24 % |
//! | rag 3 (overloaded) | 12 % | 15 % | 6 % | 48 % | 43 % | 8 % |
//! | bursts 0.7 | 7 % | 18 % | 15 % | 29 % | 29 % | 15 % |
//! | bursts 1.5 | 10 % | 36 % | 18 % | 44 % | 39 % | 23 % |
//! | bursts 3 | 18 % | 54 % | 10 % | 32 % | 53 % | 14 % |
//! | mix 0.7 | 4 % | 12 % | 8 % | 19 % | 55 % | 12 % |
//! | mix 3 | 10 % | 49 % | 12 % | 57 % | 47 % | 16 % |
//! | azure 3 | 4 % | 14 % | 8 % | 20 % | 61 % | 10 % |
//! | azure 6 | 5 % | 21 % | 11 % | 31 % | 61 % | 14 % |
//! | mooncake 0.5 | 31 % | 73 % | 17 % | 39 % | 63 % | 18 % |
//! | mooncake 1 | 30 % | 70 % | 19 % | 40 % | 63 % | 24 % |
//!
//! It is weak where requests wait for a place in a full batch or KV cache (mooncake, bursts): when
//! that comes free depends on the lengths of answers, which nobody knows. TPOT is what comes over
//! an answer's whole time, so what it is predicted from explains less of it.

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
