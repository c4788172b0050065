use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use super::band_table::BandTable;
use super::queue::{Queue, Step, Wakers};
use super::ticket::{Account, Permit, Ticket, Victim};
use super::{
    Arrival, FlowControlConfig, FlowObserver, LoadSource, Pending, QueueSnapshot, Rejection,
    UsageLimit,
};
use crate::clock::Timestamp;
use crate::endpoints::Endpoint;

/// Says what time it is where nobody hands it in: when something is dropped.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The answer to a request that asks to be let through.
#[derive(Debug)]
pub enum Admission {
    /// It may go.
    Go(Permit),
    /// It has to wait.
    Wait(Ticket),
    Reject(Rejection),
}

/// Lets requests through while the pool keeps up, and makes the others wait in order.
///
/// One lock around a state machine, which requests do not touch while nothing waits. Wakers are
/// called after the lock is let go.
pub struct FlowController {
    queue: Mutex<Shared>,
    /// Requests that wait, for those that need not lock if none does.
    waiting: AtomicU64,
    is_closed: AtomicBool,
    pending: PendingCount,
    bands: ArcSwap<BandTable>,
    usage_limit: ArcSwap<Arc<dyn UsageLimit>>,
    /// Running requests of negative priority may be ended.
    evicts: bool,
    load: Box<dyn LoadSource>,
    observer: Option<Arc<dyn FlowObserver>>,
    clock: Clock,
    /// Called in the middle of things, so that a test can let others come in between.
    #[cfg(test)]
    pub(super) interleave: std::sync::OnceLock<super::tests::Interleave>,
}

/// What the lock guards.
struct Shared {
    queue: Queue,
    /// The deadline that the timer was told.
    armed: Option<Timestamp>,
    /// Wakes who drives the timer.
    timer: Option<Waker>,
}

/// Permits whose request has not reserved an endpoint.
#[derive(Debug, Default)]
struct PendingCount {
    requests: AtomicU64,
    tokens: AtomicU64,
}

impl PendingCount {
    fn add(&self, tokens: u64) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.tokens.fetch_add(tokens, Ordering::SeqCst);
    }

    fn sub(&self, tokens: u64) {
        self.requests.fetch_sub(1, Ordering::SeqCst);
        self.tokens.fetch_sub(tokens, Ordering::SeqCst);
    }

    fn get(&self) -> Pending {
        Pending {
            requests: self.requests.load(Ordering::SeqCst),
            tokens: self.tokens.load(Ordering::SeqCst),
        }
    }
}

/// What became of a request that did not go at once.
enum Place {
    /// Key of its item.
    Waits(usize),
    Resolved(Result<Duration, Rejection>),
}

/// How many may go before the lock is let go once, so that a pool that frees up at once does not
/// keep arrivals out.
const BATCH: usize = 32;

impl FlowController {
    pub fn new(config: FlowControlConfig, load: Box<dyn LoadSource>, clock: Clock) -> Arc<Self> {
        let (usage_limit, evicts) = (config.usage_limit.clone(), config.eviction.is_some());
        let observer = config.observer.clone();
        let mut queue = Queue::new(config, clock());
        queue.bands_changed = false;
        Arc::new(Self {
            bands: ArcSwap::from_pointee(queue.table()),
            queue: Mutex::new(Shared { queue, armed: None, timer: None }),
            waiting: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            pending: PendingCount::default(),
            usage_limit: ArcSwap::from_pointee(usage_limit),
            evicts,
            load,
            observer,
            clock,
            #[cfg(test)]
            interleave: std::sync::OnceLock::new(),
        })
    }

    /// Asks for a request to be let through.
    pub fn admit(self: &Arc<Self>, arrival: &Arrival<'_>, now: Timestamp) -> Admission {
        if self.goes_at_once(arrival, now) {
            return Admission::Go(self.permit(arrival, Duration::ZERO, now));
        }
        let (place, wakers, more) = {
            let mut shared = self.queue.lock();
            let enqueued = shared.queue.enqueue(arrival, now);
            // Before the pool is looked at: whoever frees capacity after that look sees that
            // something waits.
            self.waiting.store(shared.queue.requests(), Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let (wakers, more) = self.advance(&mut shared, now);
            let place = match enqueued {
                Ok(item) => match shared.queue.take_resolved(item) {
                    Some(resolved) => Place::Resolved(resolved),
                    None => Place::Waits(item),
                },
                Err(rejection) => Place::Resolved(Err(rejection)),
            };
            (place, wakers, more)
        };
        wakers.into_iter().for_each(Waker::wake);
        if more {
            self.on_capacity(now);
        }
        match place {
            Place::Waits(item) => {
                let account = self.account(arrival);
                Admission::Wait(Ticket::new(self.clone(), item, arrival, account))
            }
            Place::Resolved(Ok(waited)) => Admission::Go(self.permit(arrival, waited, now)),
            Place::Resolved(Err(rejection)) => Admission::Reject(rejection),
        }
    }

    /// True where nothing waits and the pool has room; the request is then counted as pending.
    fn goes_at_once(&self, arrival: &Arrival<'_>, now: Timestamp) -> bool {
        if self.waiting.load(Ordering::SeqCst) != 0 || self.is_closed.load(Ordering::Acquire) {
            return false;
        }
        let bands = self.bands.load();
        let Some(band) = bands.band_of(arrival.priority) else { return false };
        self.interleave("queue found empty");
        self.pending.add(arrival.tokens);
        self.interleave("counted as pending");
        // Another may have come to wait meanwhile and look at the pool without having seen this
        // one. It is seen here: as one that waits, or as one that was let go since.
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.pending.sub(arrival.tokens);
            return false;
        }
        let load = self.load.read(self.pending.get().without(arrival.tokens), now);
        let ceilings = self.usage_limit.load().ceilings(load.effective, &bands.priorities);
        let goes = !load.is_empty && ceilings.get(band).is_some_and(|c| load.effective < *c);
        if !goes {
            self.pending.sub(arrival.tokens);
        }
        goes
    }

    #[cfg(test)]
    fn interleave(&self, moment: &'static str) {
        if let Some(interleave) = self.interleave.get() {
            interleave(moment);
        }
    }

    #[cfg(not(test))]
    fn interleave(&self, _: &'static str) {}

    /// Something happened that may let waiting requests go: an exchange ended, metrics came in,
    /// an endpoint came or went, or a deadline passed. Costs next to nothing if nothing waits.
    pub fn on_capacity(&self, now: Timestamp) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        loop {
            let (wakers, more) = self.advance(&mut self.queue.lock(), now);
            wakers.into_iter().for_each(Waker::wake);
            if !more {
                return;
            }
        }
    }

    /// Lets go what may go, [`BATCH`] at most; whom to wake, and whether more may go.
    fn advance(&self, shared: &mut MutexGuard<'_, Shared>, now: Timestamp) -> (Wakers, bool) {
        let begun = self.observer.is_some().then(|| self.now());
        let mut wakers = Wakers::new();
        let mut more = true;
        for n in 0..BATCH {
            let load = self.load.read(self.pending.get(), now);
            if n == 0 {
                shared.queue.expire(&load, now, &mut wakers);
            }
            let Step::Granted { tokens } = shared.queue.dispatch_one(&load, now, &mut wakers)
            else {
                more = false;
                break;
            };
            self.pending.add(tokens);
        }
        self.settle(shared, &mut wakers);
        if let (Some(observer), Some(begun)) = (&self.observer, begun) {
            observer.dispatch_cycle(self.now().since(begun));
        }
        (wakers, more)
    }

    /// Brings up to date what is read without the lock.
    fn settle(&self, shared: &mut Shared, wakers: &mut Wakers) {
        self.waiting.store(shared.queue.requests(), Ordering::SeqCst);
        if std::mem::take(&mut shared.queue.bands_changed) {
            self.bands.store(Arc::new(shared.queue.table()));
        }
        let next = shared.queue.next_deadline();
        if next.is_some_and(|next| shared.armed.is_none_or(|armed| next < armed)) {
            shared.armed = next;
            wakers.extend(shared.timer.take());
        }
    }

    /// When [`FlowController::on_capacity`] has to be called though nothing happens. The task is
    /// woken when that moment moves ahead.
    pub fn poll_deadline(&self, context: &Context<'_>) -> Option<Timestamp> {
        let shared = &mut *self.queue.lock();
        shared.armed = shared.queue.next_deadline();
        shared.timer = Some(context.waker().clone());
        shared.armed
    }

    /// Keeps a band for each of these priorities (those of the objectives there are), so that
    /// their requests are ordered by them. Others are forgotten when nothing uses them.
    pub fn provision(&self, priorities: &[i32], now: Timestamp) {
        let mut wakers = Wakers::new();
        {
            let shared = &mut *self.queue.lock();
            shared.queue.provision(priorities, now);
            self.settle(shared, &mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Goes by another configuration from now on: its bands, limits, times and policies. What
    /// waits stays. Eviction and who observes stay as they are.
    pub fn reconfigure(&self, config: FlowControlConfig, now: Timestamp) {
        let mut wakers = Wakers::new();
        {
            let shared = &mut *self.queue.lock();
            self.usage_limit.store(Arc::new(config.usage_limit.clone()));
            shared.queue.reconfigure(config, now);
            self.settle(shared, &mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
        self.on_capacity(now);
    }

    /// Rejects everything that waits and all that comes: the process ends.
    pub fn close(&self, now: Timestamp) {
        self.is_closed.store(true, Ordering::Release);
        let mut wakers = Wakers::new();
        {
            let shared = &mut *self.queue.lock();
            shared.queue.close(now, &mut wakers);
            self.settle(shared, &mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What waits, and how full the pool is now.
    pub fn snapshot(&self, now: Timestamp) -> QueueSnapshot {
        let mut snapshot = self.queue.lock().queue.snapshot();
        snapshot.load = Some(self.load.read(self.pending.get(), now));
        snapshot.stale_endpoints = self.load.stale(now);
        snapshot
    }

    /// What was let through and has not reserved an endpoint.
    pub fn pending(&self) -> Pending {
        self.pending.get()
    }

    fn account(&self, arrival: &Arrival<'_>) -> Option<Account> {
        let bands = self.bands.load();
        let policy = bands.listening.get(bands.band_of(arrival.priority)?)?.as_ref()?;
        Some(Account::new(policy.clone(), arrival.fairness_id))
    }

    fn permit(self: &Arc<Self>, arrival: &Arrival<'_>, waited: Duration, now: Timestamp) -> Permit {
        let account = self.account(arrival);
        Permit::new(self.clone(), arrival.priority, arrival.tokens, waited, account, now)
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(super) fn poll_item(
        &self,
        item: usize,
        context: &Context<'_>,
    ) -> Poll<Result<Duration, Rejection>> {
        self.queue.lock().queue.poll(item, context)
    }

    /// The holder of an item gave up. What it held up may go: the place it was let through to,
    /// or the bands below it.
    pub(super) fn abandon(&self, item: usize, tokens: u64) {
        let was_granted = {
            let shared = &mut *self.queue.lock();
            let was_granted = shared.queue.abandon(item);
            self.waiting.store(shared.queue.requests(), Ordering::SeqCst);
            was_granted
        };
        if was_granted {
            self.pending.sub(tokens);
        }
        self.on_capacity(self.now());
    }

    /// A permit is used up: its request can be seen at an endpoint, or does not come any more.
    pub(super) fn settled(&self, tokens: u64) {
        self.pending.sub(tokens);
        self.on_capacity(self.now());
    }

    pub(super) fn sent(&self, endpoint: &Endpoint) {
        self.load.sent(endpoint);
    }

    /// A request of this priority runs; `None` where it cannot be evicted.
    pub(super) fn begin(&self, priority: i32) -> Option<Victim> {
        if priority >= 0 || !self.evicts {
            return None;
        }
        let (seq, signal) = self.queue.lock().queue.evictor.begin(priority);
        // Something may wait for there to be someone to evict.
        self.on_capacity(self.now());
        Some(Victim { priority, seq, signal })
    }

    pub(super) fn end(&self, victim: &Victim, now: Timestamp) {
        let after = self.queue.lock().queue.evictor.end(victim.priority, victim.seq, now);
        if let (Some(after), Some(observer)) = (after, &self.observer) {
            observer.revocation_confirmed(after);
        }
    }
}

impl fmt::Debug for FlowController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowController")
            .field("waiting", &self.waiting)
            .field("pending", &self.pending)
            .field("load", &self.load)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl FlowController {
    /// True where nothing is left of anything.
    pub(super) fn is_tidy(&self) -> bool {
        let shared = self.queue.lock();
        shared.queue.is_tidy()
            && self.waiting.load(Ordering::SeqCst) == 0
            && self.pending.get() == Pending::default()
    }
}
