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
    tokens: i64,
}

impl Reservation {
    pub fn new(endpoint: Arc<Endpoint>, tokens: u32) -> Self {
        let tokens = i64::from(tokens);
        endpoint.in_flight.add(1, tokens);
        Self { endpoint, tokens }
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Lets go of the tokens while the request goes on: called at the first byte of the answer,
    /// when the prompt has been worked on.
    pub fn release_tokens(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        if tokens != 0 {
            self.endpoint.in_flight.add(0, -tokens);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.endpoint.in_flight.add(-1, -self.tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::endpoint;
    use super::*;

    #[test]
    fn counts_return_to_zero_in_any_order_of_ends() {
        let e = Arc::new(endpoint("w", 1));
        let mut a = Reservation::new(e.clone(), 100);
        let b = Reservation::new(e.clone(), 7);
        assert_eq!((e.in_flight.requests(), e.in_flight.tokens()), (2, 107));
        a.release_tokens();
        a.release_tokens();
        assert_eq!((e.in_flight.requests(), e.in_flight.tokens()), (2, 7));
        drop(b);
        drop(a);
        assert_eq!((e.in_flight.requests(), e.in_flight.tokens()), (0, 0));
    }
}
