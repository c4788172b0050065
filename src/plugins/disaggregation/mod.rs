//! Serving a request on several endpoints: one computes the prompt (prefill), one answers
//! (decode), others encode its media. What the handlers and deciders of it share.

mod decider;
mod decisions;
mod stages;

pub(super) use decider::DisaggregationDecider;
pub(super) use decisions::DecisionCounts;
pub(super) use stages::{Order, Stages, set_stage_headers};

use crate::error::{Code, DropReason, RequestError};

/// What clients are told where no endpoint can answer (llm-d-router main at ebab6879). The
/// reference says 429 also where there is no decode endpoint at all; here that is 503.
pub(super) fn no_decode_endpoint(none_exists: bool) -> RequestError {
    let (code, reason) = match none_exists {
        true => (Code::ServiceUnavailable, DropReason::NoEndpoints),
        false => (Code::ResourceExhausted, DropReason::Saturated),
    };
    RequestError::new(code, "failed to find available decode workers").with_reason(reason)
}
