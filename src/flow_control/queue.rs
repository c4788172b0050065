use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use smallvec::SmallVec;

use super::band::{Band, Place, Waiting};
use super::band_table::{BandTable, band_of};
use super::drain_rate::DrainRate;
use super::eviction::Evictor;
use super::{Arrival, FlowControlConfig, LoadReading, Outcome, QueueSnapshot, Rejection};
use crate::clock::Timestamp;

/// A band that was made on the fly is forgotten when nothing waited in it for so long
/// (llm-d-router main at ebab6879).
const BAND_IDLE: Duration = Duration::from_secs(600);

/// Whom to wake once the lock is let go.
pub(super) type Wakers = SmallVec<[Waker; 4]>;

/// All that waits, as a state machine that knows no lock and no clock.
#[derive(Debug)]
pub(super) struct Queue {
    config: FlowControlConfig,
    /// Priorities that have bands beside those of the configuration.
    desired: Vec<i32>,
    /// From the highest priority to the lowest.
    bands: Vec<Band>,
    /// True since the bands were last told to those who read them without a lock.
    pub(super) bands_changed: bool,
    items: Slab<Item>,
    next_seq: u64,
    requests: u64,
    bytes: u64,
    deadlines: BTreeSet<(Timestamp, usize)>,
    /// Whether the pool had no endpoint when last looked at, and since when that is so: it
    /// decides how long requests may wait.
    is_pool_empty: bool,
    regime_since: Timestamp,
    drain: DrainRate,
    pub(super) evictor: Evictor,
    is_closed: bool,
}

/// A request that waits, or whose holder has not seen yet that it does no longer.
#[derive(Debug)]
struct Item {
    state: State,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum State {
    Waiting(Wait),
    Granted { waited: Duration },
    Rejected(Rejection),
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// The band's priority.
    band: i32,
    place: Place,
    enqueued_at: Timestamp,
    ttl: Option<Duration>,
    deadline: Option<Timestamp>,
}

/// How a call of [`Queue::dispatch_one`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One may go.
    Granted {
        /// See [`Arrival::tokens`].
        tokens: u64,
    },
    /// None may, or none waits.
    Done,
}

impl Queue {
    pub(super) fn new(config: FlowControlConfig, now: Timestamp) -> Self {
        let mut queue = Self {
            desired: Vec::new(),
            bands: Vec::new(),
            bands_changed: true,
            items: Slab::new(),
            next_seq: 0,
            requests: 0,
            bytes: 0,
            deadlines: BTreeSet::new(),
            is_pool_empty: false,
            regime_since: now,
            drain: DrainRate::default(),
            evictor: Evictor::new(config.eviction),
            is_closed: false,
            config,
        };
        queue.provision(&[], now);
        queue
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) fn table(&self) -> BandTable {
        let listening =
            |band: &Band| band.config.fairness.remembers().then(|| band.config.fairness.clone());
        BandTable {
            priorities: self.priorities().into_vec(),
            listening: self.bands.iter().map(listening).collect(),
        }
    }

    fn priorities(&self) -> SmallVec<[i32; 8]> {
        self.bands.iter().map(|band| band.priority).collect()
    }

    /// Makes the bands of the configuration and of `desired` priorities permanent, and only
    /// those; the others are forgotten when nothing uses them.
    pub(super) fn provision(&mut self, desired: &[i32], now: Timestamp) {
        self.desired = desired.to_vec();
        let configured: Vec<i32> =
            self.config.bands.iter().map(|(priority, _)| *priority).collect();
        let wanted = |p: i32| p == 0 || configured.contains(&p) || desired.contains(&p);
        for band in &mut self.bands {
            band.is_permanent = wanted(band.priority);
        }
        for &priority in [0].iter().chain(&configured).chain(desired) {
            let at = self.bands.partition_point(|band| band.priority > priority);
            if self.bands.get(at).is_none_or(|band| band.priority != priority) {
                self.insert_band(at, priority, true, now);
            }
        }
    }

    /// Goes by another configuration from now on. What waits stays and may wait for as long as it
    /// might before; whether running requests are ended for the sake of others stays as it is.
    pub(super) fn reconfigure(&mut self, config: FlowControlConfig, now: Timestamp) {
        let FlowControlConfig { eviction, observer, .. } = &self.config;
        let (eviction, observer) = (*eviction, observer.clone());
        self.config = FlowControlConfig { eviction, observer, ..config };
        for band in &mut self.bands {
            let items = &mut self.items;
            band.reconfigure(self.config.band(band.priority).clone(), |item, place| {
                if let Some(Item { state: State::Waiting(wait), .. }) = items.get_mut(item) {
                    wait.place = place;
                }
            });
        }
        let desired = std::mem::take(&mut self.desired);
        self.provision(&desired, now);
        self.bands_changed = true;
    }

    fn insert_band(&mut self, at: usize, priority: i32, permanent: bool, now: Timestamp) {
        let config = self.config.band(priority).clone();
        self.bands.insert(at, Band::new(priority, config, permanent, now));
        self.bands_changed = true;
    }

    fn forget_idle_bands(&mut self, now: Timestamp) {
        let before = self.bands.len();
        self.bands.retain(|band| {
            band.is_permanent || !band.is_empty() || now.since(band.last_used) < BAND_IDLE
        });
        self.bands_changed |= self.bands.len() != before;
    }

    /// The band that a request of this priority waits in: its own, or else the nearest lower
    /// one, made on the fly where there is none as low. Never a higher one: that would promote
    /// what nobody asked to promote.
    fn band_for(&mut self, priority: i32, now: Timestamp) -> usize {
        self.forget_idle_bands(now);
        band_of(&self.priorities(), priority).unwrap_or_else(|| {
            self.insert_band(self.bands.len(), priority, false, now);
            self.bands.len() - 1
        })
    }

    /// Takes a request in; returns the key of its item.
    ///
    /// # Errors
    /// There is no room for it, or nothing is taken in any more.
    pub(super) fn enqueue(
        &mut self,
        arrival: &Arrival<'_>,
        now: Timestamp,
    ) -> Result<usize, Rejection> {
        if self.is_closed {
            return Err(Rejection { outcome: Outcome::RejectedShuttingDown, retry_after: None });
        }
        let index = self.band_for(arrival.priority, now);
        if !self.has_room(index, arrival.bytes) {
            return Err(self.rejection(Outcome::RejectedCapacity, index, now));
        }
        let band = &mut self.bands[index];
        // Zero is what a configuration says for "without limit". A request can only ask to wait
        // for less than it might (llm-d-router v0.11.0).
        let positive = |ttl: Option<Duration>| ttl.filter(|ttl| !ttl.is_zero());
        let configured = positive(band.config.ttl.or(self.config.default_ttl));
        let ttl = configured.into_iter().chain(positive(arrival.ttl)).min();
        let key = band.config.ordering.key(arrival, now, ttl);
        let seq = self.next_seq;
        self.next_seq += 1;

        let entry = self.items.vacant_entry();
        let item = entry.key();
        let Arrival { bytes, tokens, .. } = *arrival;
        let waiting = Waiting { item, enqueued_at: now, bytes, tokens };
        let place = band.insert(arrival.fairness_id, key, seq, waiting);
        let mut wait = Wait { band: band.priority, place, enqueued_at: now, ttl, deadline: None };
        wait.deadline = deadline(&wait, self.is_pool_empty, self.regime_since, &self.config);
        self.deadlines.extend(wait.deadline.map(|at| (at, item)));
        entry.insert(Item { state: State::Waiting(wait), waker: None });
        self.requests += 1;
        self.bytes += arrival.bytes;
        Ok(item)
    }

    fn has_room(&self, band: usize, bytes: u64) -> bool {
        self.config.max_requests.is_none_or(|max| self.requests < max)
            && self.config.max_bytes.is_none_or(|max| self.bytes.saturating_add(bytes) <= max)
            && self.bands.get(band).is_some_and(|band| band.has_room(bytes))
    }

    /// With when those that would go first have gone.
    fn rejection(&self, outcome: Outcome, band: usize, now: Timestamp) -> Rejection {
        let ahead: u64 = self.bands.iter().take(band + 1).map(Band::requests).sum();
        let retry_after = match outcome {
            Outcome::RejectedCapacity | Outcome::EvictedTtl => self.drain.retry_after(ahead, now),
            _ => None,
        };
        Rejection { outcome, retry_after }
    }

    /// Looks whether the pool is empty, which changes until when requests may wait.
    fn note_regime(&mut self, is_empty: bool, now: Timestamp) {
        if is_empty == self.is_pool_empty {
            return;
        }
        self.is_pool_empty = is_empty;
        self.regime_since = now;
        self.deadlines.clear();
        for (item, entry) in &mut self.items {
            if let State::Waiting(wait) = &mut entry.state {
                wait.deadline = deadline(wait, is_empty, now, &self.config);
                self.deadlines.extend(wait.deadline.map(|at| (at, item)));
            }
        }
    }

    /// Notes how full the pool is and rejects what has waited for too long.
    pub(super) fn expire(&mut self, load: &LoadReading, now: Timestamp, wakers: &mut Wakers) {
        self.note_regime(load.is_empty, now);
        self.evictor.tick(now);
        while let Some(&(at, item)) = self.deadlines.first()
            && at <= now
        {
            let outcome =
                if self.is_pool_empty { Outcome::EvictedNoEndpoints } else { Outcome::EvictedTtl };
            self.reject(item, outcome, now, wakers);
        }
    }

    /// Rejects everything that waits, and all that comes.
    pub(super) fn close(&mut self, now: Timestamp, wakers: &mut Wakers) {
        self.is_closed = true;
        let all: Vec<usize> = self.items.iter().map(|(item, _)| item).collect();
        for item in all {
            self.reject(item, Outcome::RejectedShuttingDown, now, wakers);
        }
    }

    fn reject(&mut self, item: usize, outcome: Outcome, now: Timestamp, wakers: &mut Wakers) {
        let Some(wait) = self.withdraw(item) else { return };
        let band = self.bands.partition_point(|band| band.priority > wait.band);
        let rejection = self.rejection(outcome, band, now);
        self.resolve(item, State::Rejected(rejection), wakers);
    }

    fn resolve(&mut self, item: usize, state: State, wakers: &mut Wakers) {
        if let Some(entry) = self.items.get_mut(item) {
            entry.state = state;
            wakers.extend(entry.waker.take());
        }
    }

    /// Takes an item that waits out of its band and out of all counts. The item itself stays.
    fn withdraw(&mut self, item: usize) -> Option<Wait> {
        let State::Waiting(wait) = self.items.get(item)?.state else { return None };
        let band = self.bands.partition_point(|band| band.priority > wait.band);
        let removed = self.bands.get_mut(band)?.remove(wait.place)?;
        self.forget_wait(item, &wait, removed);
        Some(wait)
    }

    fn forget_wait(&mut self, item: usize, wait: &Wait, removed: Waiting) {
        if let Some(at) = wait.deadline {
            self.deadlines.remove(&(at, item));
        }
        self.requests -= 1;
        self.bytes -= removed.bytes;
    }

    /// Lets the next one go, if one may at this reading of the pool.
    pub(super) fn dispatch_one(
        &mut self,
        load: &LoadReading,
        now: Timestamp,
        wakers: &mut Wakers,
    ) -> Step {
        if self.requests == 0 || load.is_empty {
            return Step::Done;
        }
        let ceilings = self.config.usage_limit.ceilings(load.effective, &self.priorities());
        // Bands below the first that has something waiting may not overtake it.
        let first = self.bands.iter_mut().zip(ceilings).find(|(band, _)| !band.is_empty());
        let Some((band, ceiling)) = first else { return Step::Done };
        if load.effective < ceiling {
            let Some(waiting) = band.pop(now) else { return Step::Done };
            self.grant(waiting, now, wakers);
            return Step::Granted { tokens: waiting.tokens };
        }
        let demanding = band.priority;
        wakers.extend(self.evictor.reclaim(demanding, ceiling, load, now));
        Step::Done
    }

    fn grant(&mut self, waiting: Waiting, now: Timestamp, wakers: &mut Wakers) {
        if let Some(Item { state: State::Waiting(wait), .. }) = self.items.get(waiting.item) {
            let wait = *wait;
            self.forget_wait(waiting.item, &wait, waiting);
            self.drain.note(now);
            let waited = now.since(wait.enqueued_at);
            self.resolve(waiting.item, State::Granted { waited }, wakers);
        }
    }

    /// What became of an item: how long it waited if it may go. Once told, the item is gone;
    /// until then the context's task is woken when it is known.
    pub(super) fn poll(
        &mut self,
        item: usize,
        context: &Context<'_>,
    ) -> Poll<Result<Duration, Rejection>> {
        match self.items.get_mut(item) {
            Some(Item { state: State::Waiting(_), waker: Some(known) }) => {
                known.clone_from(context.waker());
            }
            Some(Item { state: State::Waiting(_), waker }) => {
                *waker = Some(context.waker().clone());
            }
            _ => {}
        }
        self.take_resolved(item).map_or(Poll::Pending, Poll::Ready)
    }

    /// The same without waiting for it.
    pub(super) fn take_resolved(&mut self, item: usize) -> Option<Result<Duration, Rejection>> {
        let result = match self.items.get(item)?.state {
            State::Waiting(_) => return None,
            State::Granted { waited } => Ok(waited),
            State::Rejected(rejection) => Err(rejection),
        };
        self.forget_item(item);
        Some(result)
    }

    fn forget_item(&mut self, item: usize) -> Option<State> {
        let state = self.items.try_remove(item).map(|item| item.state);
        if self.items.is_empty() {
            // The slots of a burst are not kept.
            self.items.shrink_to_fit();
        }
        state
    }

    /// Its holder gave up. True where it might have gone: its place is free for another.
    pub(super) fn abandon(&mut self, item: usize) -> bool {
        self.withdraw(item);
        let state = self.forget_item(item);
        matches!(state, Some(State::Granted { .. }))
    }

    /// When [`Queue::expire`] or [`Queue::dispatch_one`] has something to do, though nothing
    /// else happens.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        if self.requests == 0 {
            return None;
        }
        let first = self.deadlines.first().map(|(at, _)| *at);
        let reclaim = self.evictor.next_deadline();
        first.into_iter().chain(reclaim).min()
    }

    pub(super) fn snapshot(&self) -> QueueSnapshot {
        QueueSnapshot {
            requests: self.requests,
            bytes: self.bytes,
            max_requests: self.config.max_requests,
            max_bytes: self.config.max_bytes,
            load: None,
            stale_endpoints: 0,
            bands: self.bands.iter().map(Band::snapshot).collect(),
            evictable: self.evictor.evictable() as u64,
            pending_reclaim: self.evictor.pending() as u64,
            reclaim_target: self.evictor.target,
            revocations_issued: self.evictor.issued.iter().map(|(p, n)| (*p, *n)).collect(),
            revocations_confirmed: self.evictor.confirmed,
            revocations_timed_out: self.evictor.timed_out,
        }
    }

    /// True where nothing waits and nothing is left of what waited.
    #[cfg(test)]
    pub(super) fn is_tidy(&self) -> bool {
        self.requests == 0 && self.bytes == 0 && self.items.is_empty() && self.deadlines.is_empty()
    }
}

/// Until when a request may wait, while the pool has endpoints or has none since `since`.
fn deadline(
    wait: &Wait,
    is_pool_empty: bool,
    since: Timestamp,
    config: &FlowControlConfig,
) -> Option<Timestamp> {
    let no_endpoint_ttl = config.no_endpoint_ttl.filter(|ttl| !ttl.is_zero());
    let ttl = if is_pool_empty { no_endpoint_ttl } else { wait.ttl };
    ttl.map(|ttl| wait.enqueued_at.max(since) + ttl)
}
