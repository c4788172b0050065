use std::sync::Arc;

use super::Endpoint;

/// A request's claim on an endpoint: one request and some tokens in flight, from the pick until
/// the reservation is dropped, whatever ends the exchange.
///
/// It holds the endpoint instance, not its name, so counters cannot drift when a worker leaves
/// and returns, and they cannot go below zero.
#[derive(Debug)]
pub struct Reservation {
    endpoint: Arc<Endpoint>,
    /// Tokens still to be worked on; `None` once the answer has begun.
    tokens: Option<i64>,
    prompt_tokens: i64,
}

impl Reservation {
    /// Claims `endpoint` for a request of which it has to work on `tokens`.
    pub fn new(endpoint: Arc<Endpoint>, tokens: u32) -> Self {
        Self::with_prompt(endpoint, tokens, 0)
    }

    /// The same for a request whose prompt is `prompt_tokens` long, cached tokens included.
    pub fn with_prompt(endpoint: Arc<Endpoint>, tokens: u32, prompt_tokens: u64) -> Self {
        let tokens = i64::from(tokens);
        let prompt_tokens = i64::try_from(prompt_tokens).unwrap_or(i64::MAX);
        endpoint.in_flight.request(1, prompt_tokens);
        endpoint.in_flight.prefill(1, tokens);
        Self { endpoint, tokens: Some(tokens), prompt_tokens }
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Lets go of the tokens while the request goes on: called at the first byte of the answer,
    /// when the prompt has been worked on.
    pub fn release_tokens(&mut self) {
        if let Some(tokens) = self.tokens.take() {
            self.endpoint.in_flight.prefill(-1, tokens);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release_tokens();
        self.endpoint.in_flight.request(-1, self.prompt_tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::endpoint;
    use super::*;

    #[test]
    fn counts_return_to_zero_in_any_order_of_ends() {
        let e = Arc::new(endpoint("w", 1));
        let counts = || {
            let f = &e.in_flight;
            (f.requests(), f.unanswered(), f.tokens(), f.prompt_tokens())
        };
        let mut a = Reservation::with_prompt(e.clone(), 100, 1000);
        let b = Reservation::new(e.clone(), 7);
        assert_eq!(counts(), (2, 2, 107, 1000));
        a.release_tokens();
        a.release_tokens();
        assert_eq!(counts(), (2, 1, 7, 1000));
        drop(b);
        assert_eq!(counts(), (1, 0, 0, 1000));
        drop(a);
        assert_eq!(counts(), (0, 0, 0, 0));
    }
}
