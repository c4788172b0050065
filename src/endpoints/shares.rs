use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

/// Shares that an endpoint has room for; clients choose who they are.
const MAX_SHARES: usize = 64;
/// Bytes of a name; what is longer is cut.
const MAX_NAME: usize = 128;
/// Who has what is in flight beyond that.
const OTHER: &str = "other";

/// What of the work in flight to an endpoint is whose.
#[derive(Debug, Default)]
pub struct InFlightShares(Mutex<Vec<Arc<Share>>>);

/// What is in flight for one client (its fairness id) in one priority.
#[derive(Debug)]
pub struct Share {
    pub fairness_id: String,
    pub priority: i32,
    requests: AtomicI64,
    tokens: AtomicI64,
}

impl Share {
    fn new(fairness_id: &str, priority: i32) -> Arc<Self> {
        let (requests, tokens) = Default::default();
        Arc::new(Self { fairness_id: fairness_id.to_owned(), priority, requests, tokens })
    }

    /// Requests whose exchange has not ended.
    pub fn requests(&self) -> i64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Tokens that have still to be worked on.
    pub fn tokens(&self) -> i64 {
        self.tokens.load(Ordering::Relaxed)
    }

    pub(super) fn release(&self, tokens: i64) {
        self.tokens.fetch_sub(tokens, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlightShares {
    /// Every share there is or was, as far as there is room for those that were.
    pub fn all(&self) -> Vec<Arc<Share>> {
        self.0.lock().clone()
    }

    /// A request begins.
    pub(super) fn begin(&self, fairness_id: &str, priority: i32, tokens: i64) -> Arc<Share> {
        let name = &fairness_id[..fairness_id.floor_char_boundary(MAX_NAME)];
        let mut shares = self.0.lock();
        let share = find_or_add(&mut shares, name, priority);
        // Within the lock: a share that somebody has a request in is nobody else's.
        share.requests.fetch_add(1, Ordering::Relaxed);
        share.tokens.fetch_add(tokens, Ordering::Relaxed);
        share
    }
}

fn find_or_add(shares: &mut Vec<Arc<Share>>, name: &str, priority: i32) -> Arc<Share> {
    let is = |share: &Arc<Share>, name, priority| {
        share.priority == priority && share.fairness_id == name
    };
    if let Some(known) = shares.iter().find(|share| is(share, name, priority)) {
        return known.clone();
    }
    if shares.len() < MAX_SHARES {
        shares.push(Share::new(name, priority));
        return shares[shares.len() - 1].clone();
    }
    if let Some(idle) = shares.iter_mut().find(|share| share.requests() == 0) {
        *idle = Share::new(name, priority);
        return idle.clone();
    }
    if let Some(other) = shares.iter().find(|share| is(share, OTHER, 0)) {
        return other.clone();
    }
    let other = Share::new(OTHER, 0);
    shares.push(other.clone());
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(shares: &InFlightShares) -> Vec<(String, i32, i64, i64)> {
        let show = |s: &Arc<Share>| (s.fairness_id.clone(), s.priority, s.requests(), s.tokens());
        shares.all().iter().map(show).collect()
    }

    #[test]
    fn each_client_and_priority_has_a_share_of_its_own_and_keeps_it() {
        let shares = InFlightShares::default();
        let a = shares.begin("a", 0, 10);
        shares.begin("a", 1, 5);
        shares.begin("a", 0, 1);
        a.release(10);
        a.end();
        assert_eq!(shown(&shares), [("a".into(), 0, 1, 1), ("a".into(), 1, 1, 5)]);
    }

    #[test]
    fn invented_clients_neither_grow_it_nor_take_the_place_of_those_at_work() {
        let shares = InFlightShares::default();
        let held: Vec<_> = (0..MAX_SHARES).map(|n| shares.begin(&format!("c{n}"), 0, 1)).collect();
        let beyond: Vec<_> = (0..500).map(|n| shares.begin(&format!("x{n}"), n, 1)).collect();
        assert_eq!(shares.all().len(), MAX_SHARES + 1);
        assert_eq!(shown(&shares).last(), Some(&("other".into(), 0, 500, 500)));
        beyond.iter().chain(&held[..1]).for_each(|share| {
            share.release(1);
            share.end();
        });
        shares.begin(&"y".repeat(1 << 20), 0, 1);
        assert_eq!(shares.all().len(), MAX_SHARES + 1);
        assert_eq!(shown(&shares)[0], ("y".repeat(MAX_NAME), 0, 1, 1), "an idle place is taken");
    }
}
