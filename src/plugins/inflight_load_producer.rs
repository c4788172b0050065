//! `inflight-load-producer`: what the request would cost each candidate, in tokens.
//!
//! The tokens in flight themselves are kept by reservations: the cycle takes what this producer
//! found for the target, and the exchange gives it back.

use std::sync::Arc;

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, DataKey, PrefixMatch, Producer, RequestData, TokenLoad};

pub(super) const TYPE: PluginType =
    PluginType { name: "inflight-load-producer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Producer],
    stability: Stability::Beta,
    since: "GIE v1.5, llm-d v0.8",
    summary: "what the request would cost each endpoint, in tokens",
    formula: "tokens of the blocks that are not cached there; with an estimate also prompt · outputRatio, no more than max_tokens",
    parameters: Parameters::Listed(&[
        Parameter::boolean("addEstimatedOutputTokens", "count the tokens of the answer too")
            .default("false"),
        Parameter::number("outputRatio", "tokens of an answer for each of its prompt")
            .default("1.5")
            .at_least(0.0)
            .beside("{addEstimatedOutputTokens: true}"),
        Parameter::integer("maxEstimatedOutputTokens", "the longest answer that is expected")
            .unit("tokens")
            .at_least(0.0)
            .beside("{addEstimatedOutputTokens: true}"),
        Parameter::prefix_producer(),
        Parameter::boolean("syncCrossReplicaState", "share what is in flight between replicas")
            .default("false")
            .without_effect("replicas do not exchange their state"),
    ]),
};

const DEFAULT_OUTPUT_RATIO: f64 = 1.5;

#[derive(Debug)]
struct InflightLoadProducer {
    key: DataKey<TokenLoad>,
    /// Where the prefix match comes from; `None` means from the first producer that has one.
    prefix: Option<DataKey<PrefixMatch>>,
    /// `None` where output is not estimated.
    output: Option<OutputEstimate>,
}

#[derive(Clone, Copy, Debug)]
struct OutputEstimate {
    /// Output tokens per prompt token.
    ratio: f64,
    /// Tokens at most.
    max: u64,
}

impl OutputEstimate {
    /// Rounded as in the reference, and no more than the request itself allows.
    fn tokens(&self, prompt: u64, allowed: Option<u64>) -> u64 {
        let estimate = (prompt as f64 * self.ratio).round() as u64;
        estimate.min(self.max).min(allowed.unwrap_or(u64::MAX))
    }
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let estimated = p.bool("addEstimatedOutputTokens").unwrap_or(false);
    let ratio = parameters::non_negative(&mut p, "outputRatio", DEFAULT_OUTPUT_RATIO);
    let max = p.int_in("maxEstimatedOutputTokens", 0..=i64::MAX);
    let max = max.map_or(u64::MAX, i64::unsigned_abs);
    // Only a name makes a prefix producer necessary: without one, whole prompts are counted.
    let prefix = parameters::prefix_producer(&mut p);
    let prefix = prefix.map(|name| build.dependencies.read(Some(name)));
    if prefix.is_none() {
        build.dependencies.read_first::<PrefixMatch>();
    }
    if p.bool("syncCrossReplicaState") == Some(true) {
        let why = "has no effect: replicas do not exchange their state in this version";
        p.warning("syncCrossReplicaState", why);
    }
    p.finish();
    let output = estimated.then_some(OutputEstimate { ratio, max });
    let key = build.dependencies.provide(build.name);
    let producer = InflightLoadProducer { key, prefix, output };
    Capabilities::default().with::<dyn Producer>(Arc::new(producer))
}

impl Producer for InflightLoadProducer {
    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData) {
        let prompt = cycle.request.prompt.token_count();
        let allowed = cycle.request.max_output_tokens;
        let output = self.output.map_or(0, |o| o.tokens(prompt, allowed));
        let found = match self.prefix {
            Some(key) => data.get(key),
            None => data.first::<PrefixMatch>(),
        };
        let uncached = (0..cycle.candidates.len() as u32)
            .map(|c| uncached(found, prompt, c).saturating_add(output))
            .map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
            .collect();
        // llm-d-router main at ebab6879 releases nothing at the first chunk where it estimates.
        let until_end = self.output.is_some();
        let output = u32::try_from(output).unwrap_or(u32::MAX);
        data.set(self.key, TokenLoad { uncached, prompt, output, until_end });
    }
}

/// Tokens of the prompt that `candidate` does not hold: those of the blocks that did not match,
/// the last one counted in full as in the reference, and those that were beyond the producer's
/// limit and never looked at.
fn uncached(found: Option<&PrefixMatch>, prompt: u64, candidate: u32) -> u64 {
    let Some(found) = found else { return prompt };
    let tokens = |blocks: u32| u64::from(blocks) * u64::from(found.block_tokens());
    let in_blocks = tokens(found.total.saturating_sub(found.blocks(candidate)));
    in_blocks + prompt.saturating_sub(tokens(found.total))
}
