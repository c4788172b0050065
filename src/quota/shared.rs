use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::{Limit, Measure, Overdrawn, Standing};
use crate::scheduling::BoxFuture;

/// Counters that several processes share. What goes wrong there is told as [`Unavailable`], within
/// the deadline that they were opened with.
pub trait SharedCounters: Debug + Send + Sync {
    /// Takes what a request may come to use from every tenant, or nothing from any.
    fn take(&self, take: SharedTake) -> BoxFuture<Result<SharedUse, Unavailable>>;

    /// A request has ended. What cannot be told now is told as soon as it can be, and counts once
    /// however often it is told.
    fn settle(&self, settle: SharedSettle);

    /// What has been told and not been heard yet, and what was given up because too much was.
    fn backlog(&self) -> Backlog;
}

/// Opens counters that several processes share.
pub trait OpenSharedCounters: Debug + Send + Sync {
    /// # Errors
    /// What is wrong with the address.
    fn open(&self, settings: &SharedSettings) -> Result<Arc<dyn SharedCounters>, String>;
}

/// Where shared counters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSettings {
    /// `redis://[user:password@]host[:port][/database]`.
    pub address: String,
    /// Begins the name of every key.
    pub prefix: String,
    /// Longest wait for an answer.
    pub deadline: Duration,
    /// How long a request that nobody heard of again is taken to be under way.
    pub lease: Duration,
}

/// Shared counters did not answer, or not sensibly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// One tenant of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub key: String,
    pub limits: Vec<Limit>,
}

/// What a request wants of all its tenants.
#[derive(Clone, Debug)]
pub struct SharedTake {
    /// Of the request; no other has it.
    pub id: Arc<str>,
    pub tenants: Arc<[Tenant]>,
    /// As in [`super::Take`], likewise those below.
    pub tokens: u64,
    /// Seconds since 1970.
    pub now: u64,
    pub strict: bool,
    pub anyway: bool,
}

/// What was used before a request, and whether it was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedUse {
    pub taken: bool,
    /// By tenant, in order.
    pub tenants: Vec<TenantUse>,
}

/// What one tenant has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantUse {
    /// Tokens that requests under way may come to use.
    pub reserved: u64,
    /// By limit, in order.
    pub used: Vec<u64>,
}

impl TenantUse {
    /// The limit of which not enough is left for a request of `tokens`, as
    /// [`Counters`](super::Counters) have it.
    pub fn overdrawn(
        &self,
        limits: &[Limit],
        tokens: u64,
        strict: bool,
        now: u64,
    ) -> Option<Overdrawn> {
        let mut overdrawn: Option<Overdrawn> = None;
        for (limit, used) in limits.iter().zip(&self.used) {
            let (reserved, wanted) = match limit.measure {
                Measure::Requests => (0, 1),
                Measure::Tokens => (self.reserved, if strict { tokens.max(1) } else { 1 }),
            };
            if used.saturating_add(reserved).saturating_add(wanted) > limit.amount {
                let standing = Standing::new(*limit, *used, now);
                let first = overdrawn.get_or_insert(Overdrawn { standing, retry_after: 0 });
                first.retry_after = first.retry_after.max(standing.reset);
            }
        }
        overdrawn
    }

    /// How the tenant stood with each limit.
    pub fn standings(&self, limits: &[Limit], now: u64) -> impl Iterator<Item = Standing> {
        let standing = move |(limit, used): (&Limit, &u64)| Standing::new(*limit, *used, now);
        limits.iter().zip(&self.used).map(standing)
    }
}

/// What a request has used.
#[derive(Clone, Debug)]
pub struct SharedSettle {
    pub id: Arc<str>,
    pub tenants: Arc<[Tenant]>,
    /// Tokens that it asked for.
    pub reserved: u64,
    pub tokens: u64,
    /// It was sent, so it counts as a request; else it does not count at all.
    pub counts: bool,
    /// When it asked, and when it ended; seconds since 1970.
    pub taken_at: u64,
    pub now: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    pub waiting: u64,
    pub given_up: u64,
}
