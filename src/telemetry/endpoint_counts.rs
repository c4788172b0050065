use std::sync::atomic::{AtomicU64, Ordering};

use super::request_metrics::FIRST_ERROR_STATUS;
use crate::endpoints::{Endpoint, EndpointMemory, PoolIds, StateSlot};
use crate::exchange::{Ending, Outcome, OutcomeListener};

/// Counts what the exchanges of each endpoint came to, in the endpoint's own memory: there are as
/// many counters as the pool has endpoints, whatever clients send.
#[derive(Debug)]
pub struct EndpointCounts {
    slot: StateSlot<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    server_errors: AtomicU64,
    unanswered: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
}

impl EndpointMemory for Counts {}

/// The counts of one endpoint since it came into the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointCount {
    /// Responses with a status of 400 and above.
    pub server_errors: u64,
    /// Exchanges that ended before a response began, whoever ended them.
    pub unanswered: u64,
    /// Tokens of the prompts, and those of them that were cached.
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
}

impl EndpointCounts {
    pub fn claim(ids: &PoolIds) -> Self {
        Self { slot: ids.claim_slot() }
    }

    /// `None` where no exchange has ended there yet.
    pub fn of(&self, endpoint: &Endpoint) -> Option<EndpointCount> {
        let counts = endpoint.state.get(self.slot)?;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Some(EndpointCount {
            server_errors: read(&counts.server_errors),
            unanswered: read(&counts.unanswered),
            prompt_tokens: read(&counts.prompt_tokens),
            cached_tokens: read(&counts.cached_tokens),
        })
    }
}

impl OutcomeListener for EndpointCounts {
    fn ended(&self, outcome: &Outcome<'_>) {
        let Some(endpoint) = outcome.endpoint else { return };
        let Some(counts) = endpoint.state.get_or_init(self.slot, Counts::default) else { return };
        let response = outcome.response;
        if response.status.is_some_and(|status| status >= FIRST_ERROR_STATUS) {
            counts.server_errors.fetch_add(1, Ordering::Relaxed);
        } else if outcome.ending == Ending::CutBeforeResponse {
            counts.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(usage) = &response.usage {
            counts.prompt_tokens.fetch_add(usage.prompt, Ordering::Relaxed);
            let cached = usage.cached.unwrap_or_default();
            counts.cached_tokens.fetch_add(cached, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::endpoints::test_support::endpoint;
    use crate::exchange::{Kept, Response, Times};
    use crate::scheduling::{InferenceRequest, TokenUsage};

    #[test]
    fn what_ends_at_an_endpoint_is_counted_there() {
        let counts = EndpointCounts::claim(&PoolIds::default());
        let (here, there) = (Arc::new(endpoint("w0", 1)), Arc::new(endpoint("w1", 2)));
        let usage = TokenUsage { prompt: 100, completion: 3, cached: Some(60) };
        for (endpoint, status, ending, usage) in [
            (Some(&here), Some(200), Ending::Complete, Some(usage)),
            (Some(&here), Some(503), Ending::Complete, None),
            (Some(&here), Some(429), Ending::Complete, None),
            (Some(&here), None, Ending::CutBeforeResponse, None),
            (Some(&here), Some(200), Ending::CutInResponse, Some(usage)),
            (None, None, Ending::Refused, None),
        ] {
            counts.ended(&Outcome {
                request: &InferenceRequest::default(),
                has_body: true,
                endpoint,
                decision: None,
                refusal: None,
                rewritten_by: None,
                times: Times::default(),
                response: &Response { status, usage, ..Response::default() },
                ending,
                kept: &Kept::default(),
            });
        }
        let expected = EndpointCount {
            server_errors: 2,
            unanswered: 1,
            prompt_tokens: 200,
            cached_tokens: 120,
        };
        assert_eq!(counts.of(&here), Some(expected));
        assert_eq!(counts.of(&there), None);
    }
}
