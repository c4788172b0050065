//! `approx-prefix-cache-producer`: how much of the prompt each candidate was sent before.

use std::sync::Arc;

use super::prefix_hits::PrefixHits;
use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, TookOver,
};
use crate::endpoints::{PoolIds, SignalValues};
use crate::prefix::{BlockRule, Chains, HashKey, PrefixIndex, hash_prompt};
use crate::scheduling::{
    Cycle, DataKey, PickObserver, Picked, PluginMetrics, PrefixMatch, PrefixSource, Producer,
    RequestData,
};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "approx-prefix-cache-producer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Producer],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "how much of the prompt each endpoint was sent before",
    formula: "",
    parameters: Parameters::Listed(&[
Parameter::boolean("autoTune", "take the block size and the capacity from what endpoints report").default("true"),
Parameter::boolean("capacityByTokens", "ours: take the capacity that endpoints report in tokens, not in their blocks, which are smaller").default("false"),
Parameter::integer("blockSizeTokens", "block size where endpoints report none; less than 64 is raised to it").unit("tokens").default("16").beside("{autoTune: false}").example("128"),
Parameter::integer("maxPrefixTokensToMatch", "how much of a prompt is looked at; 0: maxPrefixBlocksToMatch counts").unit("tokens").default("131072").at_least(0.0),
Parameter::integer("maxPrefixBlocksToMatch", "how much of a prompt is looked at; 0: all of it").unit("blocks").default("2048").at_least(0.0).beside("{maxPrefixTokensToMatch: 0}"),
Parameter::integer("lruCapacityPerServer", "blocks remembered of an endpoint that reports no capacity; 0 is the default").unit("blocks").default("31250"),
Parameter::integer("blockSize", "blockSizeTokens").unit("tokens").older("llm-d v0.9").beside("{autoTune: false}").example("128"),
]),
};

/// Blocks remembered per worker where the worker does not tell how many it has.
pub(super) const DEFAULT_LRU_CAPACITY: u32 = 31_250;
/// Blocks below this many tokens are raised to it, so that memory stays bounded.
const MIN_BLOCK_TOKENS: u32 = 64;
/// Larger blocks are cut to this: no prompt fills one.
const MAX_BLOCK_TOKENS: u32 = 1 << 20;
/// No engine has larger blocks than this: a worker that reports them is not believed.
const MAX_REPORTED_BLOCK_TOKENS: u32 = 1 << 16;
const DEFAULT_BLOCK_TOKENS: i64 = 16;
const DEFAULT_MAX_TOKENS: i64 = 131_072;
const DEFAULT_MAX_BLOCKS: i64 = 2048;
const BYTES_PER_TOKEN: u32 = 4;

/// How prompts are cut and how much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PrefixCacheSettings {
    /// Take the block size and the capacity from what the workers report, where they do.
    pub auto_tune: bool,
    /// Block size where it is not taken from the workers.
    pub block_bytes: u32,
    /// Smaller blocks are raised to this.
    pub min_block_bytes: u32,
    pub limit: Limit,
    pub keep_tail: bool,
    /// Blocks remembered per worker.
    pub lru_capacity: u32,
    /// Where the capacity is taken from the workers, take it in tokens: see
    /// [`PrefixCacheSettings::capacity`].
    pub capacity_by_tokens: bool,
}

/// How much of each prompt is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    None,
    Blocks(u32),
    /// As many whole blocks as fit in.
    Bytes(u64),
}

impl PrefixCacheSettings {
    /// True where an index that was filled with `other` serves as well: prompts are cut alike and
    /// as much is remembered, whatever part of a prompt is looked at.
    fn fills_alike(&self, other: &Self) -> bool {
        Self { limit: other.limit, ..*self } == *other
    }

    /// The rule for a request; `first` is the first candidate, which speaks for all.
    pub(super) fn rule(&self, first: &SignalValues) -> BlockRule {
        let reported = 1..=MAX_REPORTED_BLOCK_TOKENS;
        let block_bytes = match first.block_size {
            tokens if self.auto_tune && reported.contains(&tokens) => tokens * BYTES_PER_TOKEN,
            _ => self.block_bytes,
        };
        let block_bytes = block_bytes.max(self.min_block_bytes);
        let max_blocks = match self.limit {
            Limit::None => u32::MAX,
            Limit::Blocks(blocks) => blocks,
            Limit::Bytes(bytes) => {
                u32::try_from(bytes / u64::from(block_bytes)).unwrap_or(u32::MAX)
            }
        };
        BlockRule { block_bytes, max_blocks, keep_tail: self.keep_tail }
    }

    /// Blocks to remember of a worker. The reference takes as many as the worker has, though its
    /// own blocks are never smaller than 64 tokens and the worker's mostly are: four times what
    /// the worker can hold, so that it believes in prefixes long evicted. `capacityByTokens`
    /// (ours) takes as many as hold the same number of tokens.
    pub(super) fn capacity(&self, worker: &SignalValues, block_bytes: u32) -> u32 {
        match worker.num_blocks {
            0 => self.lru_capacity,
            _ if !self.auto_tune => self.lru_capacity,
            blocks if self.capacity_by_tokens && worker.block_size > 0 => {
                let bytes =
                    u64::from(blocks) * u64::from(worker.block_size) * u64::from(BYTES_PER_TOKEN);
                u32::try_from(bytes / u64::from(block_bytes)).unwrap_or(u32::MAX).max(1)
            }
            blocks => blocks,
        }
    }
}

/// A producer of prefix matches with an index of its own.
#[derive(Debug)]
pub(super) struct PrefixCache {
    key: DataKey<PrefixMatch>,
    memory: PrefixMemory,
    took_over: bool,
    hash_key: HashKey,
}

/// What it remembers, as a part of its own: a plugin with other parameters may go on with it.
#[derive(Clone, Debug)]
struct PrefixMemory {
    index: PrefixIndex,
    hits: Arc<PrefixHits>,
    settings: PrefixCacheSettings,
}

impl PrefixCache {
    /// Of the plugin with this name and type.
    pub(super) fn new(
        (name, plugin_type): (&str, &'static str),
        key: DataKey<PrefixMatch>,
        ids: &PoolIds,
        hash_key: HashKey,
        settings: PrefixCacheSettings,
        predecessor: Option<&Capabilities>,
    ) -> Self {
        let known = predecessor.and_then(|before| before.get::<PrefixMemory>());
        let known = known.filter(|known| settings.fills_alike(&known.settings));
        let (index, hits) = match known {
            Some(known) => (known.index.clone(), known.hits.clone()),
            None => {
                let index = PrefixIndex::claim(ids);
                let hits = Arc::new(PrefixHits::of(index.clone(), name, plugin_type));
                (index, hits)
            }
        };
        let took_over = known.is_some();
        Self { key, memory: PrefixMemory { index, hits, settings }, took_over, hash_key }
    }

    /// The parts it plays.
    pub(super) fn into_parts(self, also: Capabilities) -> Capabilities {
        let signals = Needs { cache: self.memory.settings.auto_tune, ..also.signals };
        let also = if self.took_over { also.with(Arc::new(TookOver)) } else { also };
        let hits: Arc<dyn PluginMetrics> = self.memory.hits.clone();
        let cache = Arc::new(self);
        also.with(Arc::new(cache.memory.clone()))
            .with::<dyn Producer>(cache.clone())
            .with::<dyn PickObserver>(cache)
            .with(hits)
            .reading(signals)
            .remembering("prefix index")
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let auto_tune = p.bool("autoTune").unwrap_or(true);
    let mut tokens = p.int("blockSizeTokens").unwrap_or(DEFAULT_BLOCK_TOKENS);
    if let Some(old) = p.int("blockSize") {
        let used = old > 0 && tokens == DEFAULT_BLOCK_TOKENS;
        let note = if used { "its value counts as tokens" } else { "it is ignored" };
        p.warning("blockSize", format!("replaced by 'blockSizeTokens'; {note}"));
        tokens = if used { old } else { tokens };
    }
    if !auto_tune && tokens <= 0 {
        p.error("blockSizeTokens", "must be at least 1 where autoTune is false");
    }
    let max_tokens = p.int_in("maxPrefixTokensToMatch", 0..=i64::MAX);
    let max_tokens = max_tokens.unwrap_or(DEFAULT_MAX_TOKENS).unsigned_abs();
    let blocks = p.int("maxPrefixBlocksToMatch");
    if blocks.is_some() && max_tokens > 0 {
        let why = "replaced by 'maxPrefixTokensToMatch', which must be 0 for it to count";
        p.warning("maxPrefixBlocksToMatch", why);
    } else if let Some(blocks @ ..0) = blocks {
        p.error("maxPrefixBlocksToMatch", format!("must be at least 0, found {blocks}"));
    }
    let limit = match (max_tokens, blocks.unwrap_or(DEFAULT_MAX_BLOCKS)) {
        (0, 0) => Limit::None,
        (0, blocks) => Limit::Blocks(u32::try_from(blocks).unwrap_or(u32::MAX)),
        (tokens, _) => Limit::Bytes(tokens.saturating_mul(u64::from(BYTES_PER_TOKEN))),
    };
    let lru_capacity =
        super::parameters::positive_u32(&mut p, "lruCapacityPerServer", DEFAULT_LRU_CAPACITY);
    let capacity_by_tokens = p.bool("capacityByTokens").unwrap_or(false);
    if capacity_by_tokens && !auto_tune {
        p.warning("capacityByTokens", "has no effect where autoTune is false");
    }
    p.finish();
    let tokens = tokens.clamp(0, MAX_BLOCK_TOKENS.into()) as u32;
    let settings = PrefixCacheSettings {
        auto_tune,
        block_bytes: tokens * BYTES_PER_TOKEN,
        min_block_bytes: MIN_BLOCK_TOKENS * BYTES_PER_TOKEN,
        limit,
        keep_tail: true,
        lru_capacity,
        capacity_by_tokens,
    };
    let key = build.dependencies.provide(build.name);
    let whose = (build.name, TYPE.name);
    PrefixCache::new(whose, key, build.ids, build.hash_key, settings, build.predecessor)
        .into_parts(Capabilities::default())
}

impl Producer for PrefixCache {
    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData) {
        let Some(first) = cycle.candidates.first() else { return };
        if cycle.request.prompt.is_empty() {
            return;
        }
        let PrefixMemory { index, settings, .. } = &self.memory;
        let rule = settings.rule(&first.signals);
        let seed = self.hash_key.seed(&cycle.request.target_model, &cycle.request.cache_salt);
        let hashed = hash_prompt(&cycle.request.prompt, seed, rule);
        if hashed.hashes.is_empty() {
            return;
        }
        let chains = Chains { hashes: &hashed.hashes, breaks: &hashed.breaks };
        let matched = cycle.candidates.iter().map(|c| index.matched(c.endpoint, chains)).collect();
        let result = PrefixMatch {
            matched,
            total: hashed.hashes.len() as u32,
            block_bytes: rule.block_bytes,
            hashes: hashed.hashes,
            breaks: hashed.breaks,
            tiers: Vec::new(),
            source: PrefixSource::Predicted,
        };
        data.set(self.key, result);
    }
}

impl PickObserver for PrefixCache {
    /// The targets are recorded at once, not behind the request's back as in the reference, so
    /// that the next of a burst of like prompts finds them.
    fn picked(&self, cycle: &Cycle<'_>, picked: Picked<'_>) {
        let Some(found) = cycle.data.get(self.key) else { return };
        if let Some(primary) = picked.primary() {
            self.memory.hits.observe(found.blocks(primary), found.total, found.block_bytes);
        }
        let chains = Chains { hashes: &found.hashes, breaks: &found.breaks };
        for target in picked.holders() {
            let worker = &cycle.candidates[target as usize];
            let PrefixMemory { index, settings, .. } = &self.memory;
            let capacity = settings.capacity(&worker.signals, found.block_bytes);
            index.record(worker.endpoint, chains, capacity);
        }
    }
}
