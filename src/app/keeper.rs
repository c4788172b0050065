//! Plugins at work, each for as long as some configuration has it or some exchange began under
//! one that had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::endpoints::{Pool, SlotClaims};
use crate::loader::Resident;
use crate::plugins::{Outside, ReachOutside};
use crate::scheduling::{EndpointHook, Lifecycle, Runtime};

/// Keeps one plugin at work. When nobody keeps it any more, it is stopped, and what it remembered
/// of endpoints is let go of.
pub(super) struct Keeper {
    pub(super) name: String,
    lifecycle: Option<Arc<dyn Lifecycle>>,
    is_stopped: AtomicBool,
    slots: Vec<Arc<Slots>>,
    /// The pool tells the plugin of endpoints while this is there.
    _listening: Arc<()>,
    _counted: Arc<()>,
}

/// Places in every endpoint, which plugins that succeed each other may share.
struct Slots {
    claims: SlotClaims,
    pool: Arc<Pool>,
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.pool.forget(&self.claims);
    }
}

/// What plugins are started with.
pub(super) struct Surroundings<'a> {
    pub pool: &'a Arc<Pool>,
    pub runtime: &'a Arc<dyn Runtime>,
    pub outside: &'a Outside,
}

/// Starts the plugins of a configuration, in its order. One that goes on from `before` is at work
/// already.
pub(super) fn keep(
    residents: &[Resident],
    before: &[Arc<Keeper>],
    around: &Surroundings<'_>,
    count: impl Fn() -> Arc<()>,
) -> Vec<Arc<Keeper>> {
    let mut keepers: Vec<(Arc<Keeper>, bool)> = Vec::with_capacity(residents.len());
    for resident in residents {
        let there = before.iter().find(|keeper| keeper.name == resident.name);
        keepers.push(match there.filter(|_| resident.goes_on) {
            Some(keeper) => (keeper.clone(), false),
            None => (Arc::new(Keeper::new(resident, there.map(|k| &**k), around, count())), true),
        });
    }
    // All can reach outside before the first is started.
    let new = || keepers.iter().zip(residents).filter(|((_, is_new), _)| *is_new);
    for (_, resident) in new() {
        if let Some(plugin) = resident.capabilities.get::<dyn ReachOutside>() {
            plugin.reach(around.outside);
        }
    }
    for ((keeper, _), _) in new() {
        if let Some(plugin) = &keeper.lifecycle {
            plugin.start(around.pool, around.runtime);
        }
    }
    keepers.into_iter().map(|(keeper, _)| keeper).collect()
}

impl Keeper {
    fn new(
        resident: &Resident,
        predecessor: Option<&Keeper>,
        around: &Surroundings<'_>,
        counted: Arc<()>,
    ) -> Self {
        let known = |claims: &SlotClaims| {
            let all = predecessor.into_iter().flat_map(|before| &before.slots);
            all.into_iter().find(|slots| slots.claims.is_same(claims)).cloned()
        };
        let slots = |claims: &SlotClaims| {
            known(claims).unwrap_or_else(|| {
                Arc::new(Slots { claims: claims.clone(), pool: around.pool.clone() })
            })
        };
        let listening = Arc::default();
        if let Some(hook) = resident.capabilities.get::<dyn EndpointHook>().cloned() {
            around.pool.subscribe_while(&listening, move |change| {
                change.removed.iter().for_each(|endpoint| hook.left(endpoint));
                change.added.iter().for_each(|endpoint| hook.appeared(endpoint));
            });
        }
        Self {
            name: resident.name.clone(),
            lifecycle: resident.capabilities.get::<dyn Lifecycle>().cloned(),
            is_stopped: AtomicBool::new(false),
            slots: resident.claims.iter().map(slots).collect(),
            _listening: listening,
            _counted: counted,
        }
    }

    /// Stops the plugin, once.
    pub(super) fn stop(&self) {
        let is_first = !self.is_stopped.swap(true, Ordering::Relaxed);
        if let Some(plugin) = self.lifecycle.as_ref().filter(|_| is_first) {
            plugin.stop();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
        // Nothing of the plugin may be left when its places are given back.
        self.lifecycle = None;
    }
}
