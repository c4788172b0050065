//! Where sessions go: bounded, forgetful, and without one lock for all.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Parts with a lock each; a session's part follows from its id.
const SHARDS: usize = 16;
/// Sessions remembered at most. Beyond it those go first that were not heard of for longest.
const MAX_SESSIONS: usize = 1 << 20;

/// Which endpoint each session belongs to, until it was not heard of for a while.
#[derive(Debug)]
pub(super) struct SessionBindings {
    shards: Vec<Mutex<LruCache<String, Binding>>>,
    hasher: RandomState,
    /// How long a binding lasts after the session's last request.
    ttl: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    /// Instance of the endpoint.
    endpoint: u64,
    until: Timestamp,
}

impl SessionBindings {
    pub(super) fn new(ttl: Duration) -> Self {
        // Bounded by us: a cache made with a bound allocates all of it at once.
        let shards = (0..SHARDS).map(|_| Mutex::new(LruCache::unbounded())).collect();
        Self { shards, hasher: RandomState::new(), ttl }
    }

    fn shard(&self, session: &str) -> &Mutex<LruCache<String, Binding>> {
        let hash = self.hasher.hash_one(session) as usize;
        &self.shards[hash % SHARDS]
    }

    /// The instance of the endpoint that the session belongs to.
    pub(super) fn get(&self, session: &str, now: Timestamp) -> Option<u64> {
        let binding = self.shard(session).lock().peek(session).copied();
        binding.filter(|binding| binding.until > now).map(|binding| binding.endpoint)
    }

    /// A request of the session goes to `target`, and the session belongs there from now on,
    /// unless it belongs to an endpoint that `stays`.
    pub(super) fn heard_of(
        &self,
        session: &str,
        target: u64,
        now: Timestamp,
        stays: impl FnOnce(u64) -> bool,
    ) {
        let until = now + self.ttl;
        let mut bindings = self.shard(session).lock();
        if let Some(bound) = bindings.get_mut(session)
            && bound.until > now
            && stays(bound.endpoint)
        {
            bound.until = until;
            return;
        }
        bindings.put(session.to_owned(), Binding { endpoint: target, until });
        let is_over = |(_, oldest): (&String, &Binding)| oldest.until <= now;
        while bindings.len() > MAX_SESSIONS / SHARDS || bindings.peek_lru().is_some_and(is_over) {
            bindings.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_binding_lasts_as_long_as_the_session_is_heard_of() {
        let bindings = SessionBindings::new(Duration::from_secs(10));
        bindings.heard_of("s", 1, at(0), |_| true);
        assert_eq!((bindings.get("s", at(9)), bindings.get("t", at(9))), (Some(1), None));
        bindings.heard_of("s", 2, at(9), |_| true);
        assert_eq!(bindings.get("s", at(18)), Some(1), "heard of, and stays");
        assert_eq!(bindings.get("s", at(19)), None);
        bindings.heard_of("s", 2, at(19), |_| true);
        assert_eq!(bindings.get("s", at(20)), Some(2), "too late to stay");
    }

    #[test]
    fn a_session_moves_where_its_endpoint_is_gone() {
        let bindings = SessionBindings::new(Duration::from_secs(10));
        bindings.heard_of("s", 1, at(0), |_| true);
        bindings.heard_of("s", 2, at(1), |bound| bound != 1);
        assert_eq!(bindings.get("s", at(2)), Some(2));
    }

    #[test]
    fn what_is_over_or_too_much_is_let_go_of() {
        let bindings = SessionBindings::new(Duration::from_secs(10));
        let held = || bindings.shards.iter().map(|s| s.lock().len()).sum::<usize>();
        for i in 0..1000 {
            bindings.heard_of(&i.to_string(), 1, at(0), |_| true);
        }
        assert_eq!(held(), 1000);
        for i in 0..1000 {
            bindings.heard_of(&format!("late {i}"), 1, at(60), |_| true);
        }
        assert_eq!(held(), 1000);
    }
}
