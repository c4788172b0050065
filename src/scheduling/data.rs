//! What producers work out for one request, by type: a producer puts a value under its key, and
//! whoever was given that key when the configuration was loaded reads it.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use smallvec::SmallVec;

/// A kind of per-request data.
pub trait RequestDatum: Any + Send + Sync + fmt::Debug {
    /// What a producer of it is called in messages, such as "prefix producer".
    const PRODUCER: &'static str;
    /// Type of the producer that is added, with no parameters, where a consumer requires this
    /// data and names no producer; `None` where there is no such type.
    const DEFAULT_PRODUCER: Option<&'static str>;
}

/// The place of one producer's result. Given out when a configuration is loaded.
pub struct DataKey<T> {
    slot: usize,
    _type: PhantomData<fn() -> T>,
}

impl<T> DataKey<T> {
    /// The key of a slot that no other kind of data uses.
    pub fn new(slot: usize) -> Self {
        Self { slot, _type: PhantomData }
    }
}

impl<T> Clone for DataKey<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for DataKey<T> {}

impl<T> fmt::Debug for DataKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.slot)
    }
}

/// Shared, so that a request that is scheduled a second time has what was found for the first.
type Slot = Option<Arc<dyn Any + Send + Sync>>;

/// What producers worked out for one request.
#[derive(Clone, Default)]
pub struct RequestData {
    slots: SmallVec<[Slot; 4]>,
}

impl fmt::Debug for RequestData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestData({} of {})", self.slots.iter().flatten().count(), self.slots.len())
    }
}

impl RequestData {
    /// What the key's producer found; `None` where it found nothing.
    pub fn get<T: RequestDatum>(&self, key: DataKey<T>) -> Option<&T> {
        self.slots.get(key.slot)?.as_ref()?.downcast_ref()
    }

    /// The first result of this kind, in the order in which producers were configured.
    pub fn first<T: RequestDatum>(&self) -> Option<&T> {
        self.slots.iter().flatten().find_map(|slot| slot.downcast_ref())
    }

    /// All results of this kind, in the order in which producers were configured.
    pub fn all<T: RequestDatum>(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().filter_map(|slot| slot.downcast_ref())
    }

    /// Leaves a producer's result.
    pub fn set<T: RequestDatum>(&mut self, key: DataKey<T>, value: T) {
        if self.slots.len() <= key.slot {
            self.slots.resize_with(key.slot + 1, || None);
        }
        self.slots[key.slot] = Some(Arc::new(value));
    }
}

/// Where a belief about caches comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefixSource {
    /// Our own picks: what was sent somewhere is taken to be there still.
    #[default]
    Predicted,
    /// What engines tell of their caches.
    Indexed,
}

impl PrefixSource {
    /// The source in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Predicted => "predicted",
            Self::Indexed => "indexed",
        }
    }
}

/// How much of a request's prompt each candidate is believed to hold.
#[derive(Clone, Debug, Default)]
pub struct PrefixMatch {
    pub source: PrefixSource,
    /// Matched blocks by candidate index.
    pub matched: Vec<u32>,
    /// Blocks of the prompt.
    pub total: u32,
    /// Bytes of prompt per block; 4 bytes are one pseudo-token.
    pub block_bytes: u32,
    /// The chained block hashes, kept until the pick is recorded.
    pub hashes: Vec<u64>,
    /// Where each prompt but the first begins in `hashes`.
    pub breaks: SmallVec<[u32; 2]>,
    /// Where the blocks lie, by candidate index, for those candidates of which that is known.
    pub tiers: Vec<Option<TierBlocks>>,
}

/// Blocks of a prompt that a candidate holds, counted alike wherever they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierBlocks {
    /// From the prompt's beginning, on any tier.
    pub held: u32,
    /// From the prompt's beginning, in the memory of its CPU: what other workers can be sent.
    pub on_cpu: u32,
}

impl RequestDatum for PrefixMatch {
    const PRODUCER: &'static str = "prefix producer";
    const DEFAULT_PRODUCER: Option<&'static str> = Some("approx-prefix-cache-producer");
}

impl PrefixMatch {
    /// Matched share of the prompt, 0 to 1; 0 where nothing could be hashed.
    pub fn ratio(&self, candidate: u32) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        f64::from(self.blocks(candidate)) / f64::from(self.total)
    }

    /// Matched blocks of one candidate.
    pub fn blocks(&self, candidate: u32) -> u32 {
        self.matched.get(candidate as usize).copied().unwrap_or(0)
    }

    /// Blocks that one candidate holds, each counted as one wherever it lies; `matched` may count
    /// those on slow tiers as less.
    pub fn held(&self, candidate: u32) -> u32 {
        self.tier_blocks(candidate).map_or_else(|| self.blocks(candidate), |tiers| tiers.held)
    }

    /// Blocks that other workers can be sent from one candidate; all that it holds where it is
    /// not known where they lie.
    pub fn shareable(&self, candidate: u32) -> u32 {
        self.tier_blocks(candidate).map_or_else(|| self.blocks(candidate), |tiers| tiers.on_cpu)
    }

    fn tier_blocks(&self, candidate: u32) -> Option<TierBlocks> {
        self.tiers.get(candidate as usize).copied().flatten()
    }

    /// Tokens of the prompt per block, rounded up.
    pub fn block_tokens(&self) -> u32 {
        self.block_bytes.div_ceil(4)
    }
}

/// What the request would cost each candidate, in tokens.
#[derive(Clone, Debug, Default)]
pub struct TokenLoad {
    /// Tokens each candidate would have to work on for this request, by candidate index: those
    /// of the prompt that it does not hold, and the estimated answer where that is counted.
    pub uncached: Vec<u32>,
    /// Tokens of the request's prompt, cached or not.
    pub prompt: u64,
    /// Tokens that `uncached` counts for the answer; 0 where that is not counted.
    pub output: u32,
    /// `uncached` stands for the answer too, so it is held until the answer ends.
    pub until_end: bool,
}

impl RequestDatum for TokenLoad {
    const PRODUCER: &'static str = "producer of what is in flight";
    const DEFAULT_PRODUCER: Option<&'static str> = Some("inflight-load-producer");
}

impl TokenLoad {
    /// Tokens that one candidate would have to work on.
    pub fn uncached(&self, candidate: u32) -> u32 {
        self.uncached.get(candidate as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_candidates_hold_and_can_give() {
        let lies = TierBlocks { held: 6, on_cpu: 2 };
        let found = PrefixMatch {
            matched: vec![5, 4, 3],
            tiers: vec![Some(lies), None],
            ..PrefixMatch::default()
        };
        // Blocks that count, that are held, and that can be given.
        let of = |c| (found.blocks(c), found.held(c), found.shareable(c));
        assert_eq!([of(0), of(1), of(2), of(3)], [(5, 6, 2), (4, 4, 4), (3, 3, 3), (0, 0, 0)]);
    }
}
