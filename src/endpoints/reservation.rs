use std::sync::Arc;

use super::{Endpoint, Share};

/// What a request holds on an endpoint, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReservationTerms {
    /// Tokens that the endpoint has to work on for the request.
    pub tokens: u32,
    /// Tokens of its prompt, cached ones included.
    pub prompt_tokens: u64,
    /// `tokens` are held until the request ends, since they stand for its answer too; else until
    /// its answer begins.
    pub tokens_until_end: bool,
    /// All of it is let go of when the answer begins: the endpoint computes the prompt for
    /// another one that answers.
    pub until_answer: bool,
}

/// A request's claim on an endpoint: one request and some tokens in flight, from the pick until
/// the reservation is dropped, whatever ends the exchange.
///
/// It holds the endpoint instance, not its name, so counters cannot drift when an endpoint leaves
/// and returns, and they cannot go below zero.
#[derive(Debug)]
pub struct Reservation {
    endpoint: Arc<Endpoint>,
    terms: ReservationTerms,
    /// Whose request it is, where that was said.
    share: Option<Arc<Share>>,
    /// Tokens that have not been let go of yet.
    tokens: i64,
    answered: bool,
    ended: bool,
    /// Requests unanswered and tokens there when this one came.
    before: (i64, i64),
}

impl Reservation {
    pub fn new(endpoint: Arc<Endpoint>, terms: ReservationTerms) -> Self {
        let tokens = i64::from(terms.tokens);
        let before = endpoint.in_flight.begin(tokens, prompt_tokens(terms));
        Self { endpoint, terms, share: None, tokens, answered: false, ended: false, before }
    }

    /// The same for a request of this client (its fairness id) in this priority.
    pub fn of(
        endpoint: Arc<Endpoint>,
        terms: ReservationTerms,
        fairness_id: &str,
        priority: i32,
    ) -> Self {
        let tokens = i64::from(terms.tokens);
        let share = Some(endpoint.in_flight.shares.begin(fairness_id, priority, tokens));
        let mut reservation = Self::new(endpoint, terms);
        reservation.share = share;
        reservation
    }

    /// What the endpoint had to get through until it could answer: requests whose answer had not
    /// begun, and tokens that were to be worked on, this request's included.
    pub fn work(&self) -> (i64, i64) {
        let (requests, tokens) = self.before;
        (requests.max(0) + 1, tokens.max(0) + i64::from(self.terms.tokens))
    }

    /// The answer begins: the prompt has been worked on, so its tokens are let go of while the
    /// request goes on, or the whole claim where it was for the prompt alone.
    pub fn answer_begins(&mut self) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        self.endpoint.in_flight.answer();
        if !self.terms.tokens_until_end || self.terms.until_answer {
            self.release_tokens();
        }
        if self.terms.until_answer {
            self.end();
        }
    }

    fn release_tokens(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        self.endpoint.in_flight.release(tokens);
        if let Some(share) = &self.share {
            share.release(tokens);
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.endpoint.in_flight.end(prompt_tokens(self.terms));
            if let Some(share) = &self.share {
                share.end();
            }
        }
    }
}

fn prompt_tokens(terms: ReservationTerms) -> i64 {
    i64::try_from(terms.prompt_tokens).unwrap_or(i64::MAX)
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.answer_begins();
        self.release_tokens();
        self.end();
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
        let terms = |tokens| ReservationTerms { tokens, ..ReservationTerms::default() };
        let mut a = Reservation::new(
            e.clone(),
            ReservationTerms { tokens: 100, prompt_tokens: 1000, ..ReservationTerms::default() },
        );
        let b = Reservation::new(e.clone(), terms(7));
        assert_eq!(counts(), (2, 2, 107, 1000));
        a.answer_begins();
        a.answer_begins();
        assert_eq!(counts(), (2, 1, 7, 1000));
        drop(b);
        assert_eq!(counts(), (1, 0, 0, 1000));
        drop(a);
        assert_eq!(counts(), (0, 0, 0, 0));

        let held = ReservationTerms { tokens_until_end: true, ..terms(9) };
        let mut until_end = Reservation::new(e.clone(), held);
        until_end.answer_begins();
        assert_eq!(counts(), (1, 0, 9, 0));
        drop(until_end);
        assert_eq!(counts(), (0, 0, 0, 0));
        drop(Reservation::new(e.clone(), held));
        assert_eq!(counts(), (0, 0, 0, 0));

        let prefill = ReservationTerms { prompt_tokens: 50, until_answer: true, ..held };
        let mut for_the_prompt = Reservation::new(e.clone(), prefill);
        assert_eq!(counts(), (1, 1, 9, 50));
        for_the_prompt.answer_begins();
        assert_eq!(counts(), (0, 0, 0, 0));
        drop(for_the_prompt);
        assert_eq!(counts(), (0, 0, 0, 0));
        assert!(e.in_flight.shares.all().is_empty(), "nobody said whose they were");

        let share = || e.in_flight.shares.all().iter().map(|s| (s.requests(), s.tokens())).next();
        let mut shared = Reservation::of(e.clone(), terms(9), "a", 1);
        assert_eq!((counts(), share()), ((1, 1, 9, 0), Some((1, 9))));
        shared.answer_begins();
        assert_eq!(share(), Some((1, 0)));
        drop(shared);
        assert_eq!((counts(), share()), ((0, 0, 0, 0), Some((0, 0))));
    }
}
