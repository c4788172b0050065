use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::clock::Timestamp;

/// LoRA adapters a worker reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoraSignals {
    /// Adapters that serve requests now.
    pub running: Vec<String>,
    /// Adapters requests wait for.
    pub waiting: Vec<String>,
    /// How many adapters the worker can hold at once.
    pub max: u32,
}

/// The last known values of one endpoint, copied once per request so that all plugins of a
/// cycle see the same.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SignalValues {
    /// Requests waiting in the worker's queue.
    pub waiting: u32,
    /// Requests the worker runs.
    pub running: u32,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_usage: f64,
    /// Tokens per KV-cache block; 0 where unknown.
    pub block_size: u32,
    /// KV-cache blocks the worker has; 0 where unknown.
    pub num_blocks: u32,
    /// When the values last came in; `None` before the first successful scrape.
    pub updated_at: Option<Timestamp>,
}

impl SignalValues {
    /// True where nothing came in for longer than `threshold` before `now`, or ever.
    pub fn is_stale(&self, now: Timestamp, threshold: Duration) -> bool {
        self.updated_at.is_none_or(|at| now.since(at) > threshold)
    }
}

/// What one endpoint last told about itself. One writer (its scraper), any number of readers;
/// plain atomics, since a reader that sees one field of the newer scrape does no harm.
#[derive(Debug, Default)]
pub struct Signals {
    waiting: AtomicU32,
    running: AtomicU32,
    kv_usage_bits: AtomicU64,
    block_size: AtomicU32,
    num_blocks: AtomicU32,
    /// 0 = never; otherwise nanoseconds + 1.
    updated_at: AtomicU64,
    lora: ArcSwapOption<LoraSignals>,
}

impl Signals {
    pub fn load(&self) -> SignalValues {
        let updated = self.updated_at.load(Ordering::Acquire);
        SignalValues {
            waiting: self.waiting.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            kv_usage: f64::from_bits(self.kv_usage_bits.load(Ordering::Relaxed)),
            block_size: self.block_size.load(Ordering::Relaxed),
            num_blocks: self.num_blocks.load(Ordering::Relaxed),
            updated_at: updated.checked_sub(1).map(Timestamp::from_nanos),
        }
    }

    /// Stores `values`; `updated_at` of `None` leaves the age as it was.
    pub fn store(&self, values: SignalValues) {
        self.waiting.store(values.waiting, Ordering::Relaxed);
        self.running.store(values.running, Ordering::Relaxed);
        self.kv_usage_bits.store(values.kv_usage.to_bits(), Ordering::Relaxed);
        self.block_size.store(values.block_size, Ordering::Relaxed);
        self.num_blocks.store(values.num_blocks, Ordering::Relaxed);
        if let Some(at) = values.updated_at {
            self.updated_at.store(at.as_nanos() + 1, Ordering::Release);
        }
    }

    pub fn lora(&self) -> arc_swap::Guard<Option<std::sync::Arc<LoraSignals>>> {
        self.lora.load()
    }

    /// Stores the adapter set, touching memory only where it changed.
    pub fn store_lora(&self, lora: Option<LoraSignals>) {
        if self.lora.load().as_deref() != lora.as_ref() {
            self.lora.store(lora.map(Into::into));
        }
    }
}
