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
    /// Those still held.
    tokens: i64,
    /// The tokens count until the request ends, not until its answer begins.
    until_end: bool,
    answered: bool,
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
        endpoint.in_flight.begin(tokens, prompt_tokens);
        Self { endpoint, tokens, until_end: false, answered: false, prompt_tokens }
    }

    /// Where `until_end`, the tokens are held for as long as the request is: they stand for its
    /// answer too.
    pub fn holding_tokens(mut self, until_end: bool) -> Self {
        self.until_end = until_end;
        self
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The answer begins: the prompt has been worked on, so its tokens are let go of while the
    /// request goes on.
    pub fn release_tokens(&mut self) {
        if !std::mem::replace(&mut self.answered, true) {
            self.endpoint.in_flight.answer();
        }
        if !self.until_end {
            self.endpoint.in_flight.release(std::mem::take(&mut self.tokens));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.until_end = false;
        self.release_tokens();
        self.endpoint.in_flight.end(self.prompt_tokens);
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
        let mut held = Reservation::new(e.clone(), 9).holding_tokens(true);
        held.release_tokens();
        assert_eq!(counts(), (1, 0, 9, 0));
        drop(held);
        assert_eq!(counts(), (0, 0, 0, 0));
        drop(Reservation::new(e.clone(), 9).holding_tokens(true));
        assert_eq!(counts(), (0, 0, 0, 0));
    }
}
