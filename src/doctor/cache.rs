//! The engines' caches against what the configuration takes them for.

use std::collections::BTreeMap;

use super::engine::{Cache, Seen};
use super::plugins::{Estimate, Plugin};
use super::setup::Setup;
use super::{Finding, Report, Subject};

const SUBJECT: Subject = Subject::Cache;
/// Blocks remembered of an endpoint where nobody says.
const DEFAULT_LRU: u64 = 31_250;
/// Sizes that are apart by this much are of engines that differ.
const APART: f64 = 1.5;

pub(super) fn look(setup: &Setup, seen: &[Seen], report: &Report) {
    let told: Vec<(&Seen, Cache)> = seen.iter().map(|seen| (seen, seen.cache)).collect();
    let by_prefix = uses_prefixes(setup);
    prefix_caching(&told, by_prefix, report);
    differ(&told, by_prefix, report);
    for plan in &setup.pipeline.hooks.follows {
        for (seen, cache) in &told {
            precise(seen, *cache, plan.block_tokens, &plan.plugin, report);
        }
    }
    for plugin in &setup.plugins {
        if let Some(how) = plugin.estimate() {
            estimate(&plugin.name, how, &told, report);
        }
    }
    seeds(&setup.plugins, report);
    well(&told, report);
}

/// Whether endpoints are picked by what they hold of a prompt.
fn uses_prefixes(setup: &Setup) -> bool {
    setup.plugins.iter().any(|plugin| plugin.kind.contains("prefix"))
}

fn prefix_caching(told: &[(&Seen, Cache)], by_prefix: bool, report: &Report) {
    for (seen, _) in told.iter().filter(|(_, cache)| cache.prefix_caching == Some(false)) {
        let what = "keeps no prefixes: enable_prefix_caching is False";
        let finding = match by_prefix {
            true => Finding::problem(SUBJECT, "prefix-caching", what)
                .why("prompts are sent there for a cache that it does not have"),
            false => Finding::note(SUBJECT, "prefix-caching", what)
                .why("prompts that begin alike are computed in full each time"),
        };
        let change = "start this engine with --enable-prefix-caching (vLLM), without \
                      --no-enable-prefix-caching";
        report.add(finding.about(seen.name()).change(change));
    }
}

/// Engines of one pool that differ from most.
fn differ(told: &[(&Seen, Cache)], by_prefix: bool, report: &Report) {
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    let known = told.iter().filter_map(|(_, cache)| cache.block_size);
    known.for_each(|size| *sizes.entry(size).or_default() += 1);
    let Some((&usual, _)) = sizes.iter().max_by_key(|(_, count)| **count) else { return };
    for (seen, cache) in told {
        let Some(size) = cache.block_size.filter(|size| *size != usual) else { continue };
        let what = format!("has blocks of {size} tokens, where others have {usual}");
        let finding = match by_prefix {
            true => Finding::problem(SUBJECT, "block-size-differs", what)
                .why("the pool's prompts are cut into blocks of one size: its hits are misjudged"),
            false => Finding::note(SUBJECT, "block-size-differs", what),
        };
        let change = format!("start it with --block-size {usual} (vLLM)");
        report.add(finding.about(seen.name()).change(change));
    }
    let mut tokens: Vec<u64> = told.iter().filter_map(|(_, cache)| cache.tokens()).collect();
    tokens.sort_unstable();
    let Some(&middle) = tokens.get(tokens.len() / 2) else { return };
    for (seen, cache) in told {
        let Some(holds) = cache.tokens() else { continue };
        let ratio = holds as f64 / middle as f64;
        if (APART.recip()..=APART).contains(&ratio) {
            continue;
        }
        let what = format!("has a cache of {holds} tokens, where others have {middle}");
        report.add(
            Finding::note(SUBJECT, "cache-size-differs", what)
                .about(seen.name())
                .why("the same share of use is not the same load, and it forgets at another pace")
                .change(
                    "--gpu-memory-utilization and --num-gpu-blocks-override (vLLM), or other GPUs",
                ),
        );
    }
}

fn precise(seen: &Seen, cache: Cache, ours: u32, plugin: &str, report: &Report) {
    let Some(theirs) = cache.block_size else { return };
    if theirs == ours {
        return;
    }
    let what = format!("has cache blocks of {theirs} tokens, {plugin} expects {ours}");
    report.add(
        Finding::problem(SUBJECT, "block-size", what)
            .about(seen.name())
            .why(
                "nothing is found in its cache until its events say their size; in other pickers \
                 never",
            )
            .change(format!("{plugin}: tokenProcessorConfig: {{blockSizeTokens: {theirs}}}")),
    );
}

/// A plugin that estimates what endpoints hold.
fn estimate(name: &str, how: Estimate, told: &[(&Seen, Cache)], report: &Report) {
    let mut said_capacity = false;
    for (seen, cache) in told {
        let Some(theirs) = cache.block_size else { continue };
        let ours = how.block_for(theirs);
        if let Some(finding) = block_size(name, how, ours, theirs.into()) {
            report.add(finding.about(seen.name()));
            continue;
        }
        let (Some(holds), Some(blocks)) = (cache.tokens(), cache.num_blocks) else { continue };
        let remembered = match (how.auto_tune, how.by_tokens) {
            (true, true) => holds,
            (true, false) => u64::from(blocks).saturating_mul(ours),
            (false, _) => how.lru.unwrap_or(DEFAULT_LRU).saturating_mul(ours),
        };
        let finding = capacity(name, how, ours, holds, remembered);
        // Of one plugin it is the same for all.
        if let (false, Some(finding)) = (said_capacity, finding) {
            said_capacity = true;
            report.add(finding.about(seen.name()));
        }
    }
}

fn block_size(name: &str, how: Estimate, ours: u64, theirs: u64) -> Option<Finding> {
    // Whole blocks of the engine's are as good as one.
    if how.auto_tune || ours.is_multiple_of(theirs) {
        return None;
    }
    let what = format!("has cache blocks of {theirs} tokens, {name} cuts prompts in {ours}");
    let is_finer = theirs.is_multiple_of(ours) && !how.is_given;
    let finding = match is_finer {
        true => Finding::note(SUBJECT, "block-size", what),
        false => Finding::problem(SUBJECT, "block-size", what),
    };
    let size = theirs * how.min_block.div_ceil(theirs);
    Some(
        finding
            .why("hits are expected where it can have none: it caches whole blocks alone")
            .change(format!(
                "{name}: {{autoTune: false, blockSizeTokens: {size}}}, or autoTune: true"
            )),
    )
}

fn capacity(name: &str, how: Estimate, ours: u64, holds: u64, remembered: u64) -> Option<Finding> {
    let ratio = remembered as f64 / holds as f64;
    if (0.5..=2.0).contains(&ratio) {
        return None;
    }
    let is_more = ratio > 1.0;
    let much = match is_more {
        true => format!("{ratio:.1} times as much"),
        false => format!("{:.0} %", ratio * 100.0),
    };
    let what = format!("holds {holds} tokens, and {name} remembers {remembered} of it ({much})");
    let is_meant = how.lru.is_some() && !how.auto_tune;
    let finding = match is_meant && !(0.25..=4.0).contains(&ratio) {
        true => Finding::problem(SUBJECT, "lru-capacity", what),
        false => Finding::note(SUBJECT, "lru-capacity", what),
    };
    let why = match is_more {
        true => "prefixes that it dropped long ago still count as hits",
        false => "prefixes that it still has are forgotten here",
    };
    let change = match how.auto_tune {
        true => format!("{name}: {{capacityByTokens: true}}"),
        false => format!("{name}: {{lruCapacityPerServer: {}}}", (holds / ours).max(1)),
    };
    Some(finding.why(why).change(change))
}

/// Seeds that other pickers need and this one does not look at.
fn seeds(plugins: &[Plugin], report: &Report) {
    let has_seed = |plugin: &&Plugin| {
        let tokens = &plugin.parameters["tokenProcessorConfig"];
        tokens.get("hashSeed").is_some_and(|seed| !seed.is_null())
    };
    for plugin in plugins.iter().filter(has_seed) {
        let what = format!("{}: hashSeed has no effect here", plugin.name);
        report.add(Finding::note(SUBJECT, "hash-seed", what).why(
            "engines' hashes are handles and are never computed again, so PYTHONHASHSEED of the \
             engines need not match",
        ));
    }
}

fn well(told: &[(&Seen, Cache)], report: &Report) {
    let mut kinds: BTreeMap<Cache, usize> = BTreeMap::new();
    for (_, cache) in told {
        if cache.block_size.is_some() && cache.prefix_caching != Some(false) {
            *kinds.entry(*cache).or_default() += 1;
        }
    }
    for (cache, count) in kinds {
        let number = |n: Option<u32>| n.map_or("?".to_owned(), |n| n.to_string());
        let endpoints = if count == 1 { "endpoint" } else { "endpoints" };
        let caching = if cache.prefix_caching == Some(true) { ", prefix caching on" } else { "" };
        let what = format!(
            "{count} {endpoints} with {} blocks of {} tokens{caching}",
            number(cache.num_blocks),
            number(cache.block_size)
        );
        report.add(Finding::ok(SUBJECT, "cache", what));
    }
}
