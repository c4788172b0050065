use std::sync::Arc;

use crate::endpoints::{Endpoint, SignalValues};

/// One endpoint of the snapshot as this request sees it: everything read once, so that all
/// plugins of the cycle agree.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Borrowed from the snapshot: taking a count of each endpoint for each request would make
    /// all cores write the same cache lines.
    pub endpoint: &'a Arc<Endpoint>,
    pub signals: SignalValues,
    /// Requests we sent there that have not ended.
    pub in_flight_requests: i64,
    /// Those of them whose answer has not begun.
    pub in_flight_unanswered: i64,
    /// Tokens we sent there that have not been worked on.
    pub in_flight_tokens: i64,
    /// Prompt tokens of all requests we sent there that have not ended.
    pub in_flight_prompt_tokens: i64,
    /// How fast it answers beside the others, whatever it has to do: 1 for as fast as they, 0.5
    /// for half as fast; 1 where that is not known.
    pub speed: f64,
}

impl<'a> Candidate<'a> {
    pub fn new(endpoint: &'a Arc<Endpoint>) -> Self {
        Self {
            signals: endpoint.signals.load(),
            in_flight_requests: endpoint.in_flight.requests(),
            in_flight_unanswered: endpoint.in_flight.unanswered(),
            in_flight_tokens: endpoint.in_flight.tokens(),
            in_flight_prompt_tokens: endpoint.in_flight.prompt_tokens(),
            speed: 1.0,
            endpoint,
        }
    }
}
