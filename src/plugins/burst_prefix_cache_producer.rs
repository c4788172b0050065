//! `burst-prefix-cache-producer`: brings requests with one prompt that come in a burst to one
//! endpoint, so that the prompt is computed once. Holds each request for a window, and then says of
//! each where it is best sent.

use super::burst_prefix_cache::{BalanceBy, BurstPrefixCache, BurstSettings, Rules};
use super::{About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability};
use crate::config::Fields;
use crate::prefix::BlockRule;

pub(super) const TYPE: PluginType =
    PluginType { name: "burst-prefix-cache-producer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Producer],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "holds every request with a prompt for a moment, and brings those with one prompt to one endpoint",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::integer("windowDurationMs", "how long requests are held")
            .unit("ms")
            .default("100")
            .at_least(1.0)
            .at_most(10_000.0),
        Parameter::integer(
            "maxPerReplica",
            "requests of one window for one endpoint; -1: no limit",
        )
        .unit("requests")
        .default("-1")
        .at_least(-1.0)
        .example("4"),
        Parameter::integer("blockSizeTokens", "size of the blocks that prompts are cut into")
            .unit("tokens")
            .default("64")
            .at_least(1.0)
            .at_most(1_073_741_823.0),
        Parameter::integer(
            "maxPrefixTokensToMatch",
            "how much of a prompt is looked at; 0: 2048 blocks",
        )
        .unit("tokens")
        .default("0")
        .at_least(0.0),
        Parameter::integer("minColocateBlocks", "shared blocks that bring two requests together")
            .unit("blocks")
            .default("0")
            .at_least(0.0)
            .at_most(4_294_967_295.0),
        Parameter::integer("maxBatchSize", "requests of one window; -1: no limit")
            .unit("requests")
            .default("1000")
            .at_least(-1.0)
            .example("4"),
        Parameter::one_of("balanceBy", &["requests", "tokens"], "what endpoints get alike of")
            .default("requests"),
    ]),
};

/// Blocks of a prompt that are looked at, where no number of tokens is given.
const DEFAULT_BLOCKS: i64 = 2048;
const BYTES_PER_TOKEN: u32 = 4;

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let window = p.int_in("windowDurationMs", 1..=10_000).unwrap_or(100);
    let max_per_replica = unlimited(&mut p, "maxPerReplica", -1);
    let block_tokens = p.int_in("blockSizeTokens", 1..=i64::from(u32::MAX / BYTES_PER_TOKEN));
    let max_tokens = p.int_in("maxPrefixTokensToMatch", 0..=i64::MAX).unwrap_or(0);
    let min_colocate = p.int_in("minColocateBlocks", 0..=i64::from(u32::MAX)).unwrap_or(0);
    let max_batch = unlimited(&mut p, "maxBatchSize", 1000);
    let balance_by = match p.string("balanceBy").unwrap_or_default() {
        "" | "requests" => BalanceBy::Requests,
        "tokens" => BalanceBy::Tokens,
        _ => {
            p.error("balanceBy", "must be requests or tokens");
            BalanceBy::Requests
        }
    };
    p.finish();
    let block_tokens = block_tokens.unwrap_or(64);
    let max_blocks = if max_tokens > 0 { max_tokens / block_tokens } else { DEFAULT_BLOCKS };
    let settings = BurstSettings {
        window: std::time::Duration::from_millis(window.unsigned_abs()),
        block: BlockRule {
            block_bytes: u32::try_from(block_tokens).unwrap_or(u32::MAX) * BYTES_PER_TOKEN,
            max_blocks: u32::try_from(max_blocks).unwrap_or(u32::MAX),
            keep_tail: true,
        },
        hash_key: build.hash_key,
        max_batch: max_batch.unwrap_or(usize::MAX),
        rules: Rules {
            max_per_replica: max_per_replica.unwrap_or(usize::MAX),
            min_colocate: usize::try_from(min_colocate).unwrap_or(usize::MAX),
            balance_by,
        },
    };
    BurstPrefixCache::new(build.name, settings, build.dependencies).into_parts()
}

/// A limit of 1 and more, or −1 for none.
fn unlimited(p: &mut Fields<'_>, name: &'static str, default: i64) -> Option<usize> {
    let limit = p.int(name).unwrap_or(default);
    if limit != -1 && limit < 1 {
        p.error(name, format!("must be at least 1, or -1 for no limit, found {limit}"));
    }
    usize::try_from(limit).ok()
}
