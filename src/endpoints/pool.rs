use std::collections::HashMap;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Endpoint, EndpointSpec, PoolIds, SlotClaims};

/// The endpoints of the pool at one moment. Immutable; requests hold the `Arc` they started with.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// What one change of the pool did, for those that keep something running per endpoint.
#[derive(Debug, Default)]
pub struct PoolChange {
    pub added: Vec<Arc<Endpoint>>,
    pub removed: Vec<Arc<Endpoint>>,
}

impl PoolChange {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// Who is told of changes.
struct Listener {
    tell: Box<dyn Fn(&PoolChange) + Send + Sync>,
    /// It is told for as long as this is there; `None`: as long as the pool.
    while_there: Option<Weak<()>>,
}

impl Listener {
    fn is_over(&self) -> bool {
        self.while_there.as_ref().is_some_and(|there| there.strong_count() == 0)
    }
}

/// The pool of endpoints. Discovery writes it, everyone else reads snapshots.
#[derive(Default)]
pub struct Pool {
    ids: PoolIds,
    current: ArcSwap<Snapshot>,
    /// Serialises writers and keeps their listeners; readers never take it.
    writer: Mutex<Vec<Listener>>,
    synced: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("endpoints", &self.current.load().endpoints.len()).finish()
    }
}

impl Pool {
    pub fn new() -> Self {
        Self::default()
    }

    /// The numbers that belong to this pool.
    pub fn ids(&self) -> &PoolIds {
        &self.ids
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// True once discovery has listed the pool, even if it is empty.
    pub fn is_synced(&self) -> bool {
        self.synced.load(std::sync::atomic::Ordering::Acquire)
    }

    pub fn set_synced(&self, synced: bool) {
        self.synced.store(synced, std::sync::atomic::Ordering::Release);
    }

    /// Calls `listener` after every change, in order. Endpoints already there are told at once
    /// as added, so no change is missed.
    pub fn subscribe(&self, listener: impl Fn(&PoolChange) + Send + Sync + 'static) {
        self.add_listener(Listener { tell: Box::new(listener), while_there: None });
    }

    /// The same for as long as `there` is held by somebody.
    pub fn subscribe_while(
        &self,
        there: &Arc<()>,
        listener: impl Fn(&PoolChange) + Send + Sync + 'static,
    ) {
        let while_there = Some(Arc::downgrade(there));
        self.add_listener(Listener { tell: Box::new(listener), while_there });
    }

    fn add_listener(&self, listener: Listener) {
        let mut writer = self.writer.lock();
        writer.retain(|listener| !listener.is_over());
        let there = PoolChange { added: self.snapshot().endpoints.clone(), removed: Vec::new() };
        if !there.is_empty() {
            (listener.tell)(&there);
        }
        writer.push(listener);
    }

    /// Has every endpoint let go of what the plugin that claimed these slots remembered there,
    /// and gives the slots back. To be called when nothing of the plugin is left.
    pub fn forget(&self, claims: &SlotClaims) {
        let snapshot = self.snapshot();
        claims.keep_if(|slot| {
            // All of them are asked, whatever one says.
            snapshot.endpoints.iter().filter(|e| !e.state.forget(slot)).count() == 0
        });
        self.ids.give_back(claims);
    }

    /// Makes the pool hold exactly `specs`. A worker that is still the same one stays the same
    /// instance, with its labels brought up to date; any other becomes a new instance.
    pub fn replace(&self, specs: Vec<EndpointSpec>) -> PoolChange {
        let writer = self.writer.lock();
        let before = self.snapshot();
        let mut known: HashMap<&str, &Arc<Endpoint>> =
            before.endpoints.iter().map(|e| (&*e.id, e)).collect();
        let mut change = PoolChange::default();
        let mut endpoints = Vec::with_capacity(specs.len());
        for spec in specs {
            let id = format!("{}/{}", spec.namespace, spec.name);
            match known.remove(id.as_str()) {
                Some(old) if old.spec.is_same_worker(&spec) => {
                    if **old.labels() != spec.labels {
                        old.set_labels(spec.labels);
                    }
                    endpoints.push(old.clone());
                }
                old => {
                    let fresh = Arc::new(Endpoint::new(spec, &self.ids));
                    change.removed.extend(old.cloned());
                    change.added.push(fresh.clone());
                    endpoints.push(fresh);
                }
            }
        }
        change.removed.extend(known.into_values().cloned());
        if !change.is_empty() {
            self.current.store(Arc::new(Snapshot { endpoints }));
            for listener in writer.iter().filter(|listener| !listener.is_over()) {
                (listener.tell)(&change);
            }
        }
        change
    }
}
