//! `mm-embeddings-cache-producer`: which of the request's images, videos and sounds each endpoint
//! is believed to have encoded already, by what was sent there.

use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::endpoints::{Endpoint, EndpointMemory, StateSlot};
use crate::scheduling::{
    Cycle, DataKey, PickObserver, Picked, Piece, Producer, Prompt, RequestData, RequestDatum,
};

pub(super) const TYPE: PluginType =
    PluginType { name: "mm-embeddings-cache-producer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Producer],
    stability: Stability::Beta,
    since: "llm-d v0.9",
    summary: "which of the request's images, videos and sounds each endpoint was sent before",
    formula: "an endpoint is believed to keep one item for every 2 MB",
    parameters: Parameters::Listed(&[Parameter::integer(
        "cacheSizeInMBPerServer",
        "size of an endpoint's cache of embeddings",
    )
    .unit("MB")
    .default("4096")
    .at_least(2.0)]),
};

const DEFAULT_SIZE_MB: i64 = 4096;
/// What one item's embeddings are taken to need (llm-d-router main at ebab6879).
const ITEM_MB: i64 = 2;

/// The request's media items, and which of them each candidate has.
#[derive(Clone, Debug, Default)]
pub(super) struct EncoderCacheMatch {
    /// Items found, by candidate index.
    pub matched: Vec<u32>,
    /// Items of the request, each counted once.
    pub items: SmallVec<[MediaKey; 4]>,
}

impl RequestDatum for EncoderCacheMatch {
    const PRODUCER: &'static str = "producer of encoder cache matches";
    const DEFAULT_PRODUCER: Option<&'static str> = Some("mm-embeddings-cache-producer");
}

impl EncoderCacheMatch {
    /// The share of the items that the candidate has, 0 to 1.
    pub(super) fn ratio(&self, candidate: u32) -> f64 {
        let matched = self.matched.get(candidate as usize).copied().unwrap_or(0);
        if self.items.is_empty() { 0.0 } else { f64::from(matched) / self.items.len() as f64 }
    }
}

/// What tells media items apart: the token that stands for one in the prompt, which is a hash of
/// its content, and how many of them do.
type MediaKey = (u32, u32);

#[derive(Debug)]
struct MmEmbeddingsCacheProducer {
    key: DataKey<EncoderCacheMatch>,
    /// Only requests with media items take an endpoint's lock.
    encoded: StateSlot<Mutex<LruCache<MediaKey, ()>>>,
    /// Items that an endpoint remembers, at least 1.
    capacity: usize,
}

impl EndpointMemory for Mutex<LruCache<MediaKey, ()>> {
    fn forget(&self) -> bool {
        *self.lock() = LruCache::unbounded();
        true
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let size = p.int_in("cacheSizeInMBPerServer", ITEM_MB..=i64::MAX).unwrap_or(DEFAULT_SIZE_MB);
    p.finish();
    let plugin = Arc::new(MmEmbeddingsCacheProducer {
        key: build.dependencies.provide(build.name),
        encoded: build.ids.claim_slot(),
        capacity: usize::try_from(size / ITEM_MB).unwrap_or(usize::MAX),
    });
    Capabilities::default()
        .with::<dyn Producer>(plugin.clone())
        .with::<dyn PickObserver>(plugin)
        .remembering("index of media items")
}

impl MmEmbeddingsCacheProducer {
    /// What the endpoint was sent. Bounded by us: a cache made with a bound allocates all of it
    /// at once.
    fn encoded<'e>(&self, endpoint: &'e Endpoint) -> Option<&'e Mutex<LruCache<MediaKey, ()>>> {
        endpoint.state.get_or_init(self.encoded, || Mutex::new(LruCache::unbounded()))
    }
}

/// The media items of all prompts, each once.
fn items(prompt: &Prompt) -> SmallVec<[MediaKey; 4]> {
    let mut items: SmallVec<[MediaKey; 4]> = prompt
        .prompts()
        .flatten()
        .filter_map(|piece| match piece {
            Piece::Fill { token, count } => Some((token, count)),
            Piece::Bytes(_) => None,
        })
        .collect();
    items.sort_unstable();
    items.dedup();
    items
}

impl Producer for MmEmbeddingsCacheProducer {
    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData) {
        if !cycle.request.prompt.has_media() {
            return;
        }
        let items = items(&cycle.request.prompt);
        let matched = cycle.candidates.iter().map(|c| {
            let Some(encoded) = self.encoded(c.endpoint) else { return 0 };
            let encoded = encoded.lock();
            items.iter().filter(|item| encoded.contains(item)).count() as u32
        });
        let matched = matched.collect();
        data.set(self.key, EncoderCacheMatch { matched, items });
    }
}

impl PickObserver for MmEmbeddingsCacheProducer {
    /// The endpoint that the request goes to will have its items.
    fn picked(&self, cycle: &Cycle<'_>, picked: Picked<'_>) {
        let Some(found) = cycle.data.get(self.key) else { return };
        let target = picked.primary().and_then(|c| cycle.candidates.get(c as usize));
        let Some(encoded) = target.and_then(|c| self.encoded(c.endpoint)) else { return };
        let mut encoded = encoded.lock();
        for &item in &found.items {
            encoded.put(item, ());
            if encoded.len() > self.capacity {
                encoded.pop_lru();
            }
        }
    }
}
