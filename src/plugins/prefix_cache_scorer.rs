//! `prefix-cache-scorer`: the more of the prompt a worker was sent before, the better.
//!
//! Its parameters changed with every generation. Today it reads what a producer found; up to
//! llm-d-inference-scheduler v0.7 it cut and remembered prompts itself. Both are understood:
//! where a parameter of the older kind is given, the scorer comes with a producer of its own.

use super::approx_prefix_cache_producer::{
    DEFAULT_LRU_CAPACITY, Limit, PrefixCache, PrefixCacheSettings,
};
use super::precise_prefix_cache::{Generation, PreciseCache, PreciseSettings};
use super::{
    About, Build, Capabilities, Dependencies, Kind, Parameter, Parameters, Part, PluginType,
    Stability, parameters,
};
use crate::config::Fields;
use crate::endpoints::PoolIds;
use crate::prefix::HashKey;
use crate::scheduling::{Cycle, DataKey, PrefixMatch, Scorer};

pub(super) const TYPE: PluginType =
    PluginType { name: "prefix-cache-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Beta,
    since: "GIE v0.5",
    summary: "the more of the prompt an endpoint was sent before, the better",
    formula: "(1 - w) · matched/total blocks + w · min(1, matched tokens/scale)²; with parameters of older versions it cuts and remembers prompts itself",
    parameters: Parameters::Listed(&[
        Parameter::prefix_producer(),
        Parameter::number(
            "matchLengthWeight",
            "w: weight of the matched length against the matched share",
        )
        .default("0.0")
        .at_least(0.0)
        .at_most(1.0),
        Parameter::integer("matchLengthScaleTokens", "scale: matched tokens that count in full")
            .unit("tokens")
            .default("8192")
            .beside("{matchLengthWeight: 0.5}")
            .example("4096"),
        Parameter::integer("hashBlockSize", "block size")
            .unit("bytes")
            .at_least(1.0)
            .at_most(4_194_304.0)
            .older("GIE v0.5 and v1.0"),
        Parameter::integer("blockSize", "block size")
            .unit("bytes")
            .at_least(1.0)
            .at_most(4_194_304.0)
            .older("GIE v1.1 to v1.3"),
        Parameter::integer("blockSizeTokens", "block size")
            .unit("tokens")
            .at_least(1.0)
            .at_most(1_048_576.0)
            .older("GIE v1.4"),
        Parameter::boolean("autoTune", "take block size and capacity from what endpoints report")
            .older("GIE v1.2 to v1.4"),
        Parameter::integer(
            "maxPrefixBlocksToMatch",
            "how much of a prompt is looked at; without it 256",
        )
        .unit("blocks")
        .older("GIE v0.5 to v1.4"),
        Parameter::integer(
            "lruCapacityPerServer",
            "blocks remembered of an endpoint; without it 31250",
        )
        .unit("blocks")
        .older("GIE v0.5 to v1.4"),
        Parameter::one_of(
            "mode",
            &["", "estimate", "cache_tracking"],
            "cache_tracking: follow KV-cache events, as precise-prefix-cache-scorer",
        )
        .older("llm-d v0.2"),
        Parameter::of_kind(
            "tokenProcessorConfig",
            Kind::Any,
            "as in precise-prefix-cache-scorer, with the mode cache_tracking",
        )
        .older("llm-d v0.2"),
        Parameter::of_kind(
            "indexerConfig",
            Kind::Any,
            "as in precise-prefix-cache-scorer, with the mode cache_tracking",
        )
        .older("llm-d v0.2"),
        Parameter::of_kind(
            "kvEventsConfig",
            Kind::Any,
            "as in precise-prefix-cache-scorer, with the mode cache_tracking",
        )
        .older("llm-d v0.2"),
    ]),
};

const DEFAULT_SCALE_TOKENS: u32 = 8192;
/// Block size of the older kind where none is given.
const OLD_BLOCK_BYTES: u32 = 64;
/// Blocks looked at in the older kind where no limit is given.
const OLD_MAX_BLOCKS: u32 = 256;

#[derive(Debug)]
pub(super) struct PrefixCacheScorer {
    prefix: DataKey<PrefixMatch>,
    /// Share of the matched length in the score, 0 to 1; the rest is the matched ratio's.
    length_weight: f64,
    /// Matched tokens at which the length counts in full.
    length_scale: f64,
}

impl PrefixCacheScorer {
    /// The matched ratio alone.
    pub(super) fn of_ratio(prefix: DataKey<PrefixMatch>) -> Self {
        Self { prefix, length_weight: 0.0, length_scale: f64::from(DEFAULT_SCALE_TOKENS) }
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    if p.string("mode") == Some("cache_tracking") {
        return track_caches(build.name, p, build.dependencies, build.ids, build.hash_key);
    }
    let producer = parameters::prefix_producer(&mut p);
    let length_weight = p.float("matchLengthWeight").unwrap_or(0.0);
    if !(0.0..=1.0).contains(&length_weight) {
        p.error("matchLengthWeight", format!("must be from 0 to 1, found {length_weight}"));
    }
    let scale = p.int("matchLengthScaleTokens").unwrap_or(i64::from(DEFAULT_SCALE_TOKENS));
    if length_weight > 0.0 && scale <= 0 {
        let message = format!("must be above 0 where matchLengthWeight is, found {scale}");
        p.error("matchLengthScaleTokens", message);
    }
    read_mode(&mut p);
    let own = own_settings(&mut p);
    if own.is_some() && producer.is_some() {
        p.error(
            "prefixMatchInfoProducerName",
            "cannot stand together with parameters that cut and remember prompts; \
             give those to the producer",
        );
    }
    p.finish();

    let prefix = match own {
        Some(_) => build.dependencies.provide(build.name),
        None => build.dependencies.read(producer),
    };
    let scorer = PrefixCacheScorer { prefix, length_weight, length_scale: scale as f64 };
    let parts = Capabilities::scorer(scorer);
    match own {
        Some(settings) => {
            let whose = (build.name, TYPE.name);
            PrefixCache::new(whose, prefix, build.ids, build.hash_key, settings, build.predecessor)
                .into_parts(parts)
        }
        None => parts,
    }
}

/// `mode` chose between an estimate and the workers' own KV-cache events in
/// llm-d-inference-scheduler v0.2.
fn read_mode(p: &mut Fields<'_>) {
    match p.string("mode").unwrap_or_default() {
        "" => {}
        "estimate" => p.warning("mode", "has no effect: the estimate is what this type does"),
        _ => p.error("mode", "must be 'estimate' or 'cache_tracking'"),
    }
    for name in ["tokenProcessorConfig", "indexerConfig", "kvEventsConfig"] {
        let why = "it belongs to the mode 'cache_tracking'";
        parameters::without_effect(p, name, why);
    }
}

/// The mode `cache_tracking`: the workers' events, and scores between the least and the most that
/// a worker which holds anything holds.
fn track_caches(
    name: &str,
    mut p: Fields<'_>,
    dependencies: &mut Dependencies,
    ids: &PoolIds,
    hash_key: HashKey,
) -> Capabilities {
    let settings = PreciseSettings::read(&mut p, Generation::Scorer);
    p.ignore_rest();
    let cache = PreciseCache::new(name, settings, dependencies, ids, hash_key);
    let scorer = Capabilities::scorer(TrackingScorer { prefix: cache.key() });
    cache.into_parts(scorer)
}

/// Scores of the mode `cache_tracking` (llm-d-inference-scheduler v0.2.0).
#[derive(Debug)]
struct TrackingScorer {
    prefix: DataKey<PrefixMatch>,
}

impl Scorer for TrackingScorer {
    /// From 0 for the least to 1 for the most among those that hold anything of the prompt, 1 for
    /// all of them where they hold the same; 0 for the others.
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let Some(found) = cycle.data.get(self.prefix) else { return };
        let held = || found.matched.iter().copied().filter(|&blocks| blocks > 0);
        let (Some(least), Some(most)) = (held().min(), held().max()) else { return };
        for (score, &c) in scores.iter_mut().zip(candidates) {
            *score = match found.blocks(c) {
                0 => 0.0,
                _ if least == most => 1.0,
                blocks => f64::from(blocks - least) / f64::from(most - least),
            };
        }
    }
}

/// The parameters of the older kinds, all in bytes of prompt: `hashBlockSize` (GIE v0.5 to
/// v1.0), `blockSize` and `autoTune` (GIE v1.1 to v1.3), `blockSizeTokens` (GIE v1.4), and
/// `maxPrefixBlocksToMatch` and `lruCapacityPerServer` (all of them). `None` where none is given.
///
/// Blocks may be smaller than 64 tokens, and what is left after the last whole block is dropped,
/// as it was then. Deliberately not as in GIE v0.5: there the model counted as one more matched
/// block, so a worker that had ever served the model beat one that had not.
fn own_settings(p: &mut Fields<'_>) -> Option<PrefixCacheSettings> {
    const MAX_BLOCK_BYTES: i64 = 1 << 22;
    let hash_block = p.int_in("hashBlockSize", 1..=MAX_BLOCK_BYTES);
    let block = p.int_in("blockSize", 1..=MAX_BLOCK_BYTES);
    let tokens = p.int_in("blockSizeTokens", 1..=MAX_BLOCK_BYTES / 4);
    let auto_tune = p.bool("autoTune");
    let given = ["hashBlockSize", "blockSize", "blockSizeTokens", "autoTune"]
        .into_iter()
        .chain(["maxPrefixBlocksToMatch", "lruCapacityPerServer"])
        .any(|name| p.node(name).is_some());
    let max_blocks = parameters::positive_u32(p, "maxPrefixBlocksToMatch", OLD_MAX_BLOCKS);
    let lru_capacity = parameters::positive_u32(p, "lruCapacityPerServer", DEFAULT_LRU_CAPACITY);
    if !given {
        return None;
    }
    let newest = tokens.map(|t| 4 * t).or(block);
    if newest.is_some() && hash_block.is_some() {
        p.warning("hashBlockSize", "has no effect beside its successor");
    }
    if tokens.is_some() && block.is_some() {
        p.warning("blockSize", "has no effect beside 'blockSizeTokens'");
    }
    let bytes = newest.or(hash_block).and_then(|bytes| u32::try_from(bytes).ok());
    Some(PrefixCacheSettings {
        // Came with `blockSize`, on unless switched off.
        auto_tune: auto_tune.unwrap_or(newest.is_some()),
        block_bytes: bytes.unwrap_or(OLD_BLOCK_BYTES),
        min_block_bytes: 1,
        limit: Limit::Blocks(max_blocks),
        keep_tail: false,
        lru_capacity,
        capacity_by_tokens: false,
    })
}

impl Scorer for PrefixCacheScorer {
    /// `(1-w) * matched/total + w * min(1, matched tokens / scale)^2`; with w = 0, the default,
    /// the matched ratio alone (llm-d-router main at ebab6879).
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let Some(found) = cycle.data.get(self.prefix) else { return };
        let w = self.length_weight;
        let block_tokens = f64::from(found.block_bytes) / 4.0;
        for (score, &c) in scores.iter_mut().zip(candidates) {
            *score = (1.0 - w) * found.ratio(c);
            if w > 0.0 {
                let tokens = f64::from(found.blocks(c)) * block_tokens;
                let length = (tokens / self.length_scale).min(1.0);
                *score += w * length * length;
            }
        }
    }
}
