use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Headers of a request, over all of its messages. Envoy lets 100 pass unless it is told
/// otherwise.
pub(super) const MAX_HEADERS: usize = 1_000;

/// What a request may cost before it is decided.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Largest request body, bytes; more is answered with 413.
    pub body: usize,
    /// For the bodies of all requests that are not decided yet; more is answered with 429.
    pub held: BodyBudget,
    /// How long nothing may come of a body that is not complete; then the answer is 408.
    pub body_silence: Duration,
}

impl RequestLimits {
    /// Bodies of up to `body` bytes, `held` bytes of all of them, and a minute of silence.
    pub fn new(body: usize, held: usize) -> Self {
        Self { body, held: BodyBudget::new(held), body_silence: Duration::from_mins(1) }
    }
}

/// Bytes of request bodies that may be held at one time. Clones count together.
#[derive(Clone, Debug)]
pub struct BodyBudget {
    limit: usize,
    held: Arc<AtomicUsize>,
}

impl BodyBudget {
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Arc::default() }
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes `bytes` if there is room for them.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}
