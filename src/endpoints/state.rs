use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many plugin instances of one process may keep per-endpoint state.
const MAX_SLOTS: usize = 64;

/// A plugin's place for what it remembers of each endpoint.
///
/// The memory belongs to the endpoint instance: it is made on first use and freed when the last
/// holder of the endpoint lets go of it, so a worker that leaves is forgotten at once and a
/// worker that comes back starts empty. Nothing sweeps.
pub struct StateSlot<T> {
    index: usize,
    _type: PhantomData<fn() -> T>,
}

impl<T> Clone for StateSlot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for StateSlot<T> {}

/// One plugin's memory of one endpoint, made on first use.
type Cell = OnceLock<Box<dyn Any + Send + Sync>>;

/// The state that plugins keep of one endpoint instance.
#[derive(Default)]
pub struct StateSlots {
    slots: OnceLock<Box<[Cell]>>,
}

impl fmt::Debug for StateSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateSlots")
    }
}

static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);

impl<T: Send + Sync + 'static> StateSlot<T> {
    /// Claims a slot; called once per plugin instance, when the configuration is loaded.
    /// Slots wrap around after `MAX_SLOTS` claims: only a process that loads dozens of
    /// configurations (a benchmark) gets there, and it uses fresh endpoints for each.
    pub fn claim() -> Self {
        Self { index: NEXT_SLOT.fetch_add(1, Ordering::Relaxed) % MAX_SLOTS, _type: PhantomData }
    }
}

impl StateSlots {
    fn cell(&self, index: usize) -> &Cell {
        &self.slots.get_or_init(|| (0..MAX_SLOTS).map(|_| OnceLock::new()).collect())[index]
    }

    /// What the slot's plugin keeps here, if anything yet.
    pub fn get<T: Send + Sync + 'static>(&self, slot: StateSlot<T>) -> Option<&T> {
        self.slots.get()?[slot.index].get()?.downcast_ref()
    }

    /// What the slot's plugin keeps here, made by `init` on first use. `None` only where two
    /// plugins of different kinds wrapped around to one slot.
    pub fn get_or_init<T: Send + Sync + 'static>(
        &self,
        slot: StateSlot<T>,
        init: impl FnOnce() -> T,
    ) -> Option<&T> {
        self.cell(slot.index).get_or_init(|| Box::new(init())).downcast_ref()
    }
}
