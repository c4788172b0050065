use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use crate::kv_events::Hit;

/// Requests remembered while they are under way.
const MAX_REQUESTS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// What was believed of requests when they were sent, until they end. By request id and endpoint
/// instance.
#[derive(Debug)]
pub(super) struct Expectations(Mutex<LruCache<(String, u64), Hit>>);

impl Default for Expectations {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_REQUESTS)))
    }
}

impl Expectations {
    pub(super) fn put(&self, request: &str, endpoint: u64, hit: Hit) {
        self.0.lock().put((request.to_owned(), endpoint), hit);
    }

    pub(super) fn take(&self, request: &str, endpoint: u64) -> Option<Hit> {
        self.0.lock().pop(&(request.to_owned(), endpoint))
    }
}
