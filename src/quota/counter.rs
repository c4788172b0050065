use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{Limit, Measure, Window};

/// Starts of the windows that a request was counted in, one for each limit.
pub(super) type Windows = SmallVec<[u64; 2]>;

/// What one tenant has used of one rule's limits.
#[derive(Debug)]
pub(super) struct Counter(Mutex<SmallVec<[Used; 2]>>);

/// What is used of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    /// Start of the window that `used` is of.
    window: u64,
    used: u64,
    /// Tokens that requests under way may come to use.
    reserved: u64,
}

/// How a tenant stands with the limit that leaves it least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub limit: Limit,
    /// Of the limit's amount.
    pub remaining: u64,
    pub window: Window,
    /// Seconds until the window ends, at least 1.
    pub reset: u64,
}

/// Not enough is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdrawn {
    /// How the tenant stands with that limit.
    pub standing: Standing,
    /// Seconds until every limit of which not enough is left has begun a new window.
    pub retry_after: u64,
}

impl Standing {
    /// Of a tenant that has used so much of a limit in its window of now.
    pub(super) fn new(limit: Limit, used: u64, now: u64) -> Self {
        let window = limit.unit.window(now);
        let remaining = limit.amount.saturating_sub(used);
        Self { limit, remaining, window, reset: window.end.saturating_sub(now).max(1) }
    }

    /// The one of which the least share is left.
    pub fn least(standings: impl Iterator<Item = Self>) -> Option<Self> {
        let share = |s: &Self| s.remaining as f64 / s.limit.amount as f64;
        standings.min_by(|a, b| share(a).total_cmp(&share(b)))
    }
}

impl Counter {
    pub(super) fn new(limits: &[Limit]) -> Self {
        Self(Mutex::new(SmallVec::from_elem(Used::default(), limits.len())))
    }

    /// Takes a request and `tokens` from every limit, or nothing from any; `anyway` takes them
    /// whatever is left. `strict` wants all of `tokens` to be left, not just one.
    pub(super) fn take(
        &self,
        limits: &[Limit],
        tokens: u64,
        now: u64,
        strict: bool,
        anyway: bool,
    ) -> Result<Windows, Overdrawn> {
        let mut all = self.0.lock();
        let mut overdrawn: Option<Overdrawn> = None;
        for (limit, used) in limits.iter().zip(all.iter_mut()) {
            used.turn(limit, now);
            let wanted = match limit.measure {
                Measure::Requests => 1,
                Measure::Tokens if strict => tokens.max(1),
                Measure::Tokens => 1,
            };
            let taken = used.used.saturating_add(used.reserved);
            if taken.saturating_add(wanted) > limit.amount {
                let standing = Standing::new(*limit, used.used, now);
                let first = overdrawn.get_or_insert(Overdrawn { standing, retry_after: 0 });
                first.retry_after = first.retry_after.max(standing.reset);
            }
        }
        if let Some(overdrawn) = overdrawn
            && !anyway
        {
            return Err(overdrawn);
        }
        let windows = limits.iter().zip(all.iter_mut()).map(|(limit, used)| {
            match limit.measure {
                Measure::Requests => used.used = used.used.saturating_add(1),
                Measure::Tokens => used.reserved = used.reserved.saturating_add(tokens),
            }
            used.window
        });
        let windows: Windows = windows.collect();
        match overdrawn {
            None => Ok(windows),
            Some(overdrawn) => Err(overdrawn),
        }
    }

    /// A request that took `reserved` tokens has ended: it used `tokens`. `windows` are those that
    /// it was counted in, where it is not to be counted at all.
    pub(super) fn settle(
        &self,
        limits: &[Limit],
        reserved: u64,
        tokens: u64,
        uncount: Option<&Windows>,
        now: u64,
    ) {
        let mut all = self.0.lock();
        for (i, (limit, used)) in limits.iter().zip(all.iter_mut()).enumerate() {
            used.turn(limit, now);
            match limit.measure {
                Measure::Tokens => {
                    used.reserved = used.reserved.saturating_sub(reserved);
                    used.used = used.used.saturating_add(tokens);
                }
                Measure::Requests => {
                    let counted = uncount.and_then(|windows| windows.get(i));
                    if counted == Some(&used.window) {
                        used.used = used.used.saturating_sub(1);
                    }
                }
            }
        }
    }

    /// How the tenant stands with the limit of which the least share is left; what requests under
    /// way may come to use counts as left.
    pub(super) fn standing(&self, limits: &[Limit], now: u64) -> Option<Standing> {
        let mut all = self.0.lock();
        Standing::least(limits.iter().zip(all.iter_mut()).map(|(limit, used)| {
            used.turn(limit, now);
            Standing::new(*limit, used.used, now)
        }))
    }

    /// Nothing is used of any limit in its window of now, and no request is under way.
    pub(super) fn is_unused(&self, limits: &[Limit], now: u64) -> bool {
        let mut all = self.0.lock();
        limits.iter().zip(all.iter_mut()).all(|(limit, used)| {
            used.turn(limit, now);
            (used.used, used.reserved) == (0, 0)
        })
    }
}

impl Used {
    /// Begins a new window where the last one is over. A clock that was set back goes on with the
    /// window that it had.
    fn turn(&mut self, limit: &Limit, now: u64) {
        let window = limit.unit.window(now);
        if window.start > self.window {
            self.window = window.start;
            self.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unit;
    use super::*;

    const TOKENS: Limit = Limit { measure: Measure::Tokens, amount: 100, unit: Unit::Hour };
    const REQUESTS: Limit = Limit { measure: Measure::Requests, amount: 2, unit: Unit::Minute };
    const NOW: u64 = 3600 * 1000 + 30;

    /// Remaining and reset of each limit on its own.
    fn left(counter: &Counter, limit: Limit, now: u64) -> (u64, u64) {
        let standing = counter.standing(&[limit], now).expect("a limit");
        (standing.remaining, standing.reset)
    }

    #[test]
    fn what_is_reserved_is_not_left_and_what_is_used_is_settled_for() {
        let counter = Counter::new(&[TOKENS]);
        let take = |tokens| counter.take(&[TOKENS], tokens, NOW, false, false);
        assert!(take(60).is_ok());
        assert!(take(39).is_ok());
        assert!(take(500).is_ok(), "one token is left, and the last request may overdraw");
        let refused = take(1).expect_err("nothing is left");
        assert_eq!((refused.standing.remaining, refused.retry_after), (100, 3570));
        counter.settle(&[TOKENS], 500, 0, None, NOW);
        counter.settle(&[TOKENS], 60, 45, None, NOW);
        assert_eq!(left(&counter, TOKENS, NOW), (55, 3570));
        assert!(take(16).is_ok());
        counter.settle(&[TOKENS], 39, 80, None, NOW);
        assert_eq!(left(&counter, TOKENS, NOW), (0, 3570));
        assert!(take(1).is_err());
    }

    #[test]
    fn strict_limits_are_never_overdrawn_by_what_is_foreseen() {
        let counter = Counter::new(&[TOKENS]);
        let take = |tokens| counter.take(&[TOKENS], tokens, NOW, true, false).is_ok();
        assert!(!take(101) && take(100) && !take(0));
        counter.settle(&[TOKENS], 100, 99, None, NOW);
        assert!(take(0) && !take(2) && take(1) && !take(1));
    }

    #[test]
    fn a_refused_request_takes_nothing_from_any_limit() {
        let limits = [REQUESTS, TOKENS];
        let counter = Counter::new(&limits);
        let take = |tokens| counter.take(&limits, tokens, NOW, true, false);
        assert!(take(101).is_err() && take(101).is_err() && take(101).is_err());
        assert!(take(10).is_ok() && take(10).is_ok());
        let refused = take(10).expect_err("two requests a minute");
        assert_eq!(refused.standing.limit, REQUESTS);
        assert_eq!(refused.retry_after, 30);
        assert_eq!(take(81).expect_err("both").retry_after, 3570, "the later of the two");
    }

    #[test]
    fn windows_end_but_requests_under_way_go_on() {
        let limits = [REQUESTS, TOKENS];
        let counter = Counter::new(&limits);
        let windows = counter.take(&limits, 70, NOW, false, false).expect("room");
        let later = NOW + 3600;
        assert_eq!(left(&counter, TOKENS, later).0, 100);
        assert!(counter.take(&limits, 30, later, false, false).is_ok());
        assert!(counter.take(&limits, 1, later, false, false).is_err(), "70 are still reserved");
        // It is not counted, but it was in another window that it would have been.
        counter.settle(&limits, 70, 0, Some(&windows), later);
        assert!(counter.take(&limits, 1, later, false, false).is_ok());
        assert!(counter.take(&limits, 1, later, false, false).is_err(), "two requests a minute");
    }

    #[test]
    fn a_clock_set_back_gives_nothing_away() {
        let counter = Counter::new(&[TOKENS]);
        counter.settle(&[TOKENS], 0, 90, None, NOW);
        assert_eq!(left(&counter, TOKENS, NOW - 3600).0, 10);
    }

    #[test]
    fn what_is_not_enforced_is_counted_all_the_same() {
        let counter = Counter::new(&[REQUESTS]);
        let take = || counter.take(&[REQUESTS], 0, NOW, false, true);
        assert!(take().is_ok() && take().is_ok() && take().is_err() && take().is_err());
        assert!(!counter.is_unused(&[REQUESTS], NOW));
        assert!(counter.is_unused(&[REQUESTS], NOW + 60));
    }
}
