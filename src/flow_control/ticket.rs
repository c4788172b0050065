use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::eviction::EvictionSignal;
use super::{Arrival, FairnessPolicy, FlowController, Rejection, Served};
use crate::clock::Timestamp;
use crate::endpoints::Endpoint;

/// The place of a request that waits. Resolves when it may go or is rejected; dropping it gives
/// the place up at once.
#[derive(Debug)]
#[must_use = "dropping it gives the place up"]
pub struct Ticket {
    controller: Arc<FlowController>,
    /// Key of its item; `None` once resolved.
    item: Option<usize>,
    priority: i32,
    tokens: u64,
    account: Option<Account>,
}

impl Ticket {
    pub(super) fn new(
        controller: Arc<FlowController>,
        item: usize,
        arrival: &Arrival<'_>,
        account: Option<Account>,
    ) -> Self {
        let Arrival { priority, tokens, .. } = *arrival;
        Self { controller, item: Some(item), priority, tokens, account }
    }
}

impl Future for Ticket {
    type Output = Result<Permit, Rejection>;

    /// Pending forever once resolved.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(item) = this.item else { return Poll::Pending };
        let Poll::Ready(result) = this.controller.poll_item(item, context) else {
            return Poll::Pending;
        };
        this.item = None;
        Poll::Ready(result.map(|waited| {
            let (controller, account) = (this.controller.clone(), this.account.take());
            let now = controller.now();
            Permit::new(controller, this.priority, this.tokens, waited, account, now)
        }))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.controller.abandon(item, self.tokens);
        }
    }
}

/// Leave to go. It counts as load until the request has reserved its endpoint, or until it is
/// dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the place to another"]
pub struct Permit {
    /// `None` once used.
    unused: Option<Unused>,
    waited: Duration,
}

#[derive(Debug)]
struct Unused {
    controller: Arc<FlowController>,
    priority: i32,
    tokens: u64,
    account: Option<Account>,
}

impl Permit {
    pub(super) fn new(
        controller: Arc<FlowController>,
        priority: i32,
        tokens: u64,
        waited: Duration,
        account: Option<Account>,
        now: Timestamp,
    ) -> Self {
        if let Some(account) = &account {
            account.policy.dispatched(&account.fairness_id, waited, now);
        }
        Self { unused: Some(Unused { controller, priority, tokens, account }), waited }
    }

    /// How long the request waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The request has reserved these endpoints and is sent to them.
    pub fn reserved<'e>(mut self, endpoints: impl IntoIterator<Item = &'e Endpoint>) -> Running {
        let Some(Unused { controller, priority, tokens, account }) = self.unused.take() else {
            return Running::default();
        };
        endpoints.into_iter().for_each(|endpoint| controller.sent(endpoint));
        controller.settled(tokens);
        let victim = controller.begin(priority);
        Running { controller: Some(controller), account, victim, served: Served::default() }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(unused) = self.unused.take() {
            if let Some(account) = unused.account {
                account.finish(Served::default(), unused.controller.now());
            }
            unused.controller.settled(unused.tokens);
        }
    }
}

/// A request that was let through and runs. To be dropped when its exchange has ended and its
/// reservations are released: what waits may go then.
#[derive(Debug, Default)]
pub struct Running {
    controller: Option<Arc<FlowController>>,
    account: Option<Account>,
    victim: Option<Victim>,
    served: Served,
}

impl Running {
    /// What the request came to, as far as known; counts when it ends.
    pub fn set_served(&mut self, served: Served) {
        self.served = served;
    }

    /// True where [`Running::poll_evicted`] may ever be ready.
    pub fn is_evictable(&self) -> bool {
        self.victim.is_some()
    }

    /// Ready when the request has to end for the sake of another.
    pub fn poll_evicted(&self, context: &Context<'_>) -> Poll<()> {
        match &self.victim {
            Some(victim) if victim.signal.poll(context) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(controller) = self.controller.take() else { return };
        let now = controller.now();
        if let Some(account) = self.account.take() {
            account.finish(self.served, now);
        }
        if let Some(victim) = &self.victim {
            controller.end(victim, now);
        }
        controller.on_capacity(now);
    }
}

/// A running request that may be evicted.
#[derive(Debug)]
pub(super) struct Victim {
    pub(super) priority: i32,
    pub(super) seq: u64,
    pub(super) signal: Arc<EvictionSignal>,
}

/// Who is told what becomes of a request.
#[derive(Debug)]
pub(super) struct Account {
    policy: Arc<dyn FairnessPolicy>,
    fairness_id: Box<str>,
}

impl Account {
    pub(super) fn new(policy: Arc<dyn FairnessPolicy>, fairness_id: &str) -> Self {
        Self { policy, fairness_id: fairness_id.into() }
    }

    fn finish(&self, served: Served, now: Timestamp) {
        self.policy.finished(&self.fairness_id, served, now);
    }
}
