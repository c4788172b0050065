use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use slab::Slab;

use super::{BandConfig, BandFairness, BandSnapshot, FlowKey, FlowSnapshot, Head, OrderKey};
use crate::clock::Timestamp;

/// The requests of one priority that wait, in flows.
#[derive(Debug)]
pub(super) struct Band {
    pub(super) priority: i32,
    pub(super) config: BandConfig,
    /// False for one that was made on the fly and is forgotten when nothing uses it.
    pub(super) is_permanent: bool,
    /// When a request last began to wait in it, or it was made.
    pub(super) last_used: Timestamp,
    fairness: Box<dyn BandFairness>,
    flows: Slab<Flow>,
    by_id: HashMap<Arc<str>, FlowKey>,
    requests: u64,
    bytes: u64,
}

/// The requests of one fairness id, in order. There is one for as long as something of it waits.
#[derive(Debug)]
struct Flow {
    id: Arc<str>,
    waiting: BTreeMap<(OrderKey, u64), Waiting>,
    bytes: u64,
}

/// A request's place in a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Key of the item.
    pub(super) item: usize,
    pub(super) enqueued_at: Timestamp,
    pub(super) bytes: u64,
    /// See [`super::Arrival::tokens`].
    pub(super) tokens: u64,
}

/// Where in a band a request waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) flow: FlowKey,
    pub(super) key: OrderKey,
    pub(super) seq: u64,
}

impl Flow {
    fn head(&self) -> Option<Head> {
        let (&(key, seq), waiting) = self.waiting.first_key_value()?;
        Some(Head { key, seq, enqueued_at: waiting.enqueued_at })
    }
}

impl Band {
    pub(super) fn new(priority: i32, config: BandConfig, permanent: bool, now: Timestamp) -> Self {
        Self {
            priority,
            fairness: config.fairness.band(),
            config,
            is_permanent: permanent,
            last_used: now,
            flows: Slab::new(),
            by_id: HashMap::new(),
            requests: 0,
            bytes: 0,
        }
    }

    /// Goes by another configuration from now on. What waits stays, in the order that it has, and
    /// goes before what comes to be ordered by another policy. Items whose place is another one
    /// are told to `moved`.
    pub(super) fn reconfigure(&mut self, config: BandConfig, mut moved: impl FnMut(usize, Place)) {
        let is_ordered_alike = Arc::ptr_eq(&self.config.ordering, &config.ordering);
        if is_ordered_alike && Arc::ptr_eq(&self.config.fairness, &config.fairness) {
            self.config = config;
            return;
        }
        let mut next = Self::new(self.priority, config, self.is_permanent, self.last_used);
        let flows = std::mem::take(&mut self.flows);
        for (_, Flow { id, waiting, .. }) in flows {
            let mut seqs: Vec<u64> = waiting.keys().map(|(_, seq)| *seq).collect();
            if !is_ordered_alike {
                seqs.sort_unstable();
            }
            for (((key, _), waiting), seq) in waiting.into_iter().zip(seqs) {
                let key = if is_ordered_alike { key } else { OrderKey::FIRST };
                let item = waiting.item;
                moved(item, next.insert(&id, key, seq, waiting));
            }
        }
        *self = next;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests == 0
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether another request of so many bytes may wait.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.requests < self.config.max_requests
            && self.bytes.saturating_add(bytes) <= self.config.max_bytes
    }

    pub(super) fn insert(&mut self, id: &str, key: OrderKey, seq: u64, waiting: Waiting) -> Place {
        let flow = self.flow(id);
        self.requests += 1;
        self.bytes += waiting.bytes;
        self.last_used = self.last_used.max(waiting.enqueued_at);
        self.change(flow, |flow| {
            flow.bytes += waiting.bytes;
            flow.waiting.insert((key, seq), waiting);
        });
        Place { flow, key, seq }
    }

    fn flow(&mut self, id: &str) -> FlowKey {
        if let Some(flow) = self.by_id.get(id) {
            return *flow;
        }
        let id: Arc<str> = id.into();
        let flow = Flow { id: id.clone(), waiting: BTreeMap::new(), bytes: 0 };
        let key = FlowKey(u32::try_from(self.flows.insert(flow)).unwrap_or(u32::MAX));
        self.by_id.insert(id, key);
        key
    }

    /// Changes a flow and tells the fairness policy if that changed its head; forgets the flow
    /// when nothing of it waits any more.
    fn change<T>(&mut self, key: FlowKey, change: impl FnOnce(&mut Flow) -> T) -> Option<T> {
        let flow = self.flows.get_mut(key.0 as usize)?;
        let before = flow.head();
        let result = change(flow);
        let now = flow.head();
        if before != now {
            self.fairness.head_changed(key, &flow.id, before, now);
        }
        if now.is_none() {
            let flow = self.flows.remove(key.0 as usize);
            self.by_id.remove(&flow.id);
            if self.flows.is_empty() {
                // The slots of a burst of flows are not kept.
                self.flows.shrink_to_fit();
                self.by_id.shrink_to_fit();
            }
        }
        Some(result)
    }

    /// Takes out a request, wherever in its flow it is.
    pub(super) fn remove(&mut self, place: Place) -> Option<Waiting> {
        let removed = self.change(place.flow, |flow| {
            let removed = flow.waiting.remove(&(place.key, place.seq))?;
            flow.bytes -= removed.bytes;
            Some(removed)
        })??;
        self.requests -= 1;
        self.bytes -= removed.bytes;
        Some(removed)
    }

    /// Takes out the request that goes next.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Waiting> {
        let flow = self.fairness.next(now)?;
        let head = self.flows.get(flow.0 as usize)?.head()?;
        self.remove(Place { flow, key: head.key, seq: head.seq })
    }

    pub(super) fn snapshot(&self) -> BandSnapshot {
        let flow = |(_, flow): (usize, &Flow)| FlowSnapshot {
            fairness_id: flow.id.clone(),
            requests: flow.waiting.len() as u64,
            bytes: flow.bytes,
            head_since: flow.head().map_or(Timestamp::START, |head| head.enqueued_at),
        };
        let mut flows: Vec<FlowSnapshot> = self.flows.iter().map(flow).collect();
        flows.sort_by(|a, b| a.fairness_id.cmp(&b.fairness_id));
        BandSnapshot {
            priority: self.priority,
            requests: self.requests,
            bytes: self.bytes,
            max_requests: self.config.max_requests,
            max_bytes: self.config.max_bytes,
            flows,
        }
    }
}
