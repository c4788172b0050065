use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use super::counter::{Counter, Windows};
use super::{Limit, Overdrawn, Standing};

/// Parts with a lock each; a tenant's part follows from its key.
const SHARDS: usize = 16;
/// Fewer tenants than this are kept in one part, so that their number is exact.
const FEW: usize = 1024;

/// What every tenant has used, in bounded memory: beyond the limit those are forgotten that sent
/// no request for longest, but none that has a request under way.
#[derive(Debug)]
pub struct Counters {
    shards: Vec<Mutex<LruCache<Arc<str>, Arc<Counter>>>>,
    per_shard: usize,
    hasher: RandomState,
}

/// What a request wants of one tenant's limits.
#[derive(Clone, Copy, Debug)]
pub struct Take<'a> {
    /// Which tenant of which rule.
    pub key: &'a str,
    pub limits: &'a [Limit],
    /// Tokens that the request may come to use.
    pub tokens: u64,
    /// Seconds since 1970.
    pub now: u64,
    /// All of `tokens` have to be left, not just one.
    pub strict: bool,
    /// Takes them whatever is left.
    pub anyway: bool,
}

/// What a request holds of one tenant's limits until it has ended.
#[derive(Debug)]
pub struct Hold {
    key: Arc<str>,
    counter: Arc<Counter>,
    tokens: u64,
    windows: Windows,
}

impl Counters {
    /// Remembers up to `tenants`.
    pub fn new(tenants: usize) -> Self {
        let count = if tenants <= FEW { 1 } else { SHARDS };
        // Bounded by us: a cache made with a bound allocates all of it at once.
        let shards = (0..count).map(|_| Mutex::new(LruCache::unbounded())).collect();
        Self { shards, per_shard: tenants.div_ceil(count).max(1), hasher: RandomState::new() }
    }

    /// Tenants that are remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what a request wants. What is taken `anyway` is held in any case; whether there was
    /// enough left stands beside it.
    ///
    /// # Errors
    /// The limit of which not enough is left; nothing is taken then.
    pub fn take(&self, take: Take<'_>) -> Result<(Hold, Option<Overdrawn>), Overdrawn> {
        let Take { key, limits, tokens, now, strict, anyway } = take;
        let (key, counter) = self.counter(key, limits);
        match counter.take(limits, tokens, now, strict, anyway) {
            Ok(windows) => Ok((Hold { key, counter, tokens, windows }, None)),
            Err(overdrawn) if anyway => {
                let windows = limits.iter().map(|limit| limit.unit.window(now).start).collect();
                Ok((Hold { key, counter, tokens, windows }, Some(overdrawn)))
            }
            Err(overdrawn) => Err(overdrawn),
        }
    }

    /// The request has ended, and used `tokens`.
    pub fn settle(&self, hold: Hold, limits: &[Limit], tokens: u64, now: u64) {
        hold.counter.settle(limits, hold.tokens, tokens, None, now);
        self.forget_unused(hold, limits, now);
    }

    /// The request was not sent after all: it does not count.
    pub fn give_back(&self, hold: Hold, limits: &[Limit], now: u64) {
        hold.counter.settle(limits, hold.tokens, 0, Some(&hold.windows), now);
        self.forget_unused(hold, limits, now);
    }

    fn shard(&self, key: &str) -> &Mutex<LruCache<Arc<str>, Arc<Counter>>> {
        let hash = self.hasher.hash_one(key) as usize;
        &self.shards[hash % self.shards.len()]
    }

    fn counter(&self, key: &str, limits: &[Limit]) -> (Arc<str>, Arc<Counter>) {
        let mut shard = self.shard(key).lock();
        if let Some((key, counter)) = shard.get_key_value(key) {
            return (key.clone(), counter.clone());
        }
        let (key, counter) = (Arc::<str>::from(key), Arc::new(Counter::new(limits)));
        shard.put(key.clone(), counter.clone());
        // Each is looked at once at most, should all of them be in use.
        for _ in 0..shard.len() {
            if shard.len() <= self.per_shard {
                break;
            }
            let Some((oldest, kept)) = shard.pop_lru() else { break };
            if Arc::strong_count(&kept) > 1 {
                shard.put(oldest, kept);
            }
        }
        (key, counter)
    }

    /// A tenant that used nothing takes no room from those that did: names that clients think up
    /// get no answer.
    fn forget_unused(&self, hold: Hold, limits: &[Limit], now: u64) {
        let Hold { key, counter, .. } = hold;
        if !counter.is_unused(limits, now) {
            return;
        }
        let mut shard = self.shard(&key).lock();
        // Nobody else has it: the shard's own, and this one.
        if Arc::strong_count(&counter) <= 2
            && shard.peek(&key).is_some_and(|c| Arc::ptr_eq(c, &counter))
        {
            shard.pop(&key);
        }
    }
}

impl Hold {
    /// How the tenant stands with the limit of which the least is left.
    pub fn standing(&self, limits: &[Limit], now: u64) -> Option<Standing> {
        self.counter.standing(limits, now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::super::{Measure, Unit};
    use super::*;

    const LIMITS: [Limit; 1] = [Limit { measure: Measure::Tokens, amount: 100, unit: Unit::Hour }];

    fn take(key: &str, tokens: u64) -> Take<'_> {
        Take { key, limits: &LIMITS, tokens, now: 7200, strict: false, anyway: false }
    }

    fn spend(counters: &Counters, key: &str, tokens: u64) {
        let (hold, _) = counters.take(take(key, 1)).expect("room");
        counters.settle(hold, &LIMITS, tokens, 7200);
    }

    fn left(counters: &Counters, key: &str) -> u64 {
        let (hold, _) = counters.take(Take { anyway: true, ..take(key, 0) }).expect("anyway");
        let standing = hold.standing(&LIMITS, 7200).expect("a limit");
        counters.give_back(hold, &LIMITS, 7200);
        standing.remaining
    }

    #[test]
    fn tenants_have_limits_of_their_own_and_the_idle_are_forgotten() {
        let counters = Counters::new(2);
        spend(&counters, "a", 30);
        spend(&counters, "b", 50);
        assert_eq!((left(&counters, "b"), left(&counters, "a")), (50, 70));
        spend(&counters, "c", 10);
        assert_eq!(counters.len(), 2);
        assert_eq!((left(&counters, "a"), left(&counters, "c")), (70, 90));
        assert_eq!(left(&counters, "b"), 100, "forgotten");
    }

    #[test]
    fn nobody_is_forgotten_while_a_request_of_theirs_is_under_way() {
        let counters = Counters::new(2);
        let (hold, _) = counters.take(take("a", 1)).expect("room");
        for i in 0..100 {
            spend(&counters, &format!("t{i}"), 1);
        }
        counters.settle(hold, &LIMITS, 30, 7200);
        assert_eq!(left(&counters, "a"), 70);
        assert!(counters.len() <= 3);
    }

    #[test]
    fn who_uses_nothing_takes_no_room() {
        let counters = Counters::new(1);
        spend(&counters, "real", 30);
        let refused: Vec<_> = (0..10).map(|i| counters.take(take(&format!("x{i}"), 5))).collect();
        assert_eq!(counters.len(), 10, "the real one was idle, the others are not");
        for held in refused {
            counters.give_back(held.expect("room").0, &LIMITS, 7200);
        }
        assert!(counters.is_empty());
    }

    #[test]
    fn threads_never_slip_under_the_last_token_together() {
        let counters = Counters::new(10);
        let (admitted, used) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        if let Ok((hold, _)) = counters.take(take("a", 3)) {
                            admitted.fetch_add(1, Ordering::Relaxed);
                            used.fetch_add(3, Ordering::Relaxed);
                            counters.settle(hold, &LIMITS, 3, 7200);
                        }
                    }
                });
            }
        });
        // 34 requests of 3 tokens: the last one overdraws by 2.
        assert_eq!(admitted.into_inner(), 34);
        assert_eq!(used.into_inner(), 102);
        assert_eq!(left(&counters, "a"), 0);
    }

    proptest! {
        /// Whatever requests do, what is left is the amount less what they used.
        #[test]
        fn the_books_balance(steps in prop::collection::vec((0u8..3, 0u64..40, 0u64..40), 0..60)) {
            let counters = Counters::new(10);
            let mut held = Vec::new();
            let mut used = 0u64;
            for (what, estimate, tokens) in steps {
                match (what, held.pop()) {
                    (0, open) => {
                        held.extend(open);
                        let before = used + held.iter().map(|(_, e)| e).sum::<u64>();
                        let taken = counters.take(take("a", estimate));
                        prop_assert_eq!(taken.is_ok(), before < 100);
                        held.extend(taken.ok().map(|(hold, _)| (hold, estimate)));
                    }
                    (1, Some((hold, _))) => {
                        counters.settle(hold, &LIMITS, tokens, 7200);
                        used += tokens;
                    }
                    (_, Some((hold, _))) => counters.give_back(hold, &LIMITS, 7200),
                    _ => {}
                }
                prop_assert_eq!(left(&counters, "a"), 100u64.saturating_sub(used));
            }
        }
    }
}
