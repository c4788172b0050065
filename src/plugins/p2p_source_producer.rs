//! `p2p-source-producer`: says from which other endpoint the one that computes the prompt can pull
//! the KV blocks it lacks, in the header that llm-d's sidecar reads.

use std::sync::Arc;

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::headers::KV_CACHE_SOURCE;
use crate::scheduling::{Cycle, DataKey, Directions, Picked, PrefixMatch, RequestHook};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "p2p-source-producer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::HeaderHandler],
    stability: Stability::Experimental,
    since: "llm-d v0.10",
    summary: "names in the request header x-kv-cache-source-host-port an endpoint to pull KV blocks from",
    formula: "of those that hold within a block of the most, by the request's id, the likelier the larger 1/(1 + q); none where it holds less than minCachedTokenDelta tokens beyond the endpoint that computes the prompt",
    parameters: Parameters::Listed(&[
        Parameter::prefix_producer(),
        Parameter::integer("minCachedTokenDelta", "what it has to hold beyond the other")
            .unit("tokens")
            .default("1")
            .at_least(1.0),
        Parameter::text(
            "prefillProfileName",
            "the profile whose endpoint computes the prompt; the primary one where it did not run",
        )
        .default("prefill"),
    ]),
};

#[derive(Debug)]
struct P2pSource {
    prefix: DataKey<PrefixMatch>,
    /// Tokens that the source has to hold beyond those of the endpoint that computes.
    min_delta: u64,
    /// The profile whose endpoint computes the prompt, where it chose one; else the primary one's.
    prefill_profile: String,
}

/// An endpoint to pull from, and how many tokens of the prompt it can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    candidate: u32,
    tokens: u64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let prefix = build.dependencies.read(parameters::prefix_producer(&mut p));
    let min_delta = p.int_in("minCachedTokenDelta", 1..=i64::MAX).unwrap_or(1).unsigned_abs();
    let profile = p.string("prefillProfileName").filter(|name| !name.is_empty());
    let prefill_profile = profile.unwrap_or("prefill").to_owned();
    p.finish();
    let hook = Arc::new(P2pSource { prefix, min_delta, prefill_profile });
    Capabilities::default()
        .with::<dyn RequestHook>(hook)
        .reading(Needs { queue: true, ..Needs::default() })
}

/// One of the candidates that hold within a block of the most, the likelier the shorter its queue
/// is: weight `1 / (1 + waiting)`. Which one, the request's id says, so that requests with one
/// prefix are spread over all that hold it (llm-d-router main at ebab6879).
fn choose(cycle: &Cycle<'_>, found: &PrefixMatch) -> Option<Source> {
    let block = u64::from(found.block_tokens());
    let candidates = (0..).zip(cycle.candidates);
    let holders: Vec<(Source, f64)> = candidates
        .map(|(candidate, c)| {
            let tokens = u64::from(found.shareable(candidate)) * block;
            (Source { candidate, tokens }, 1.0 / (1.0 + f64::from(c.signals.waiting)))
        })
        .filter(|(source, _)| source.tokens > 0)
        .collect();
    let most = holders.iter().map(|(source, _)| source.tokens).max()?;
    let near = || holders.iter().filter(|(source, _)| source.tokens + block >= most);
    let total: f64 = near().map(|(_, weight)| weight).sum();
    let mut left = fraction(&cycle.request.id) * total;
    for (source, weight) in near() {
        if left < *weight {
            return Some(*source);
        }
        left -= weight;
    }
    near().next_back().map(|(source, _)| *source)
}

/// A request id's place from 0 to 1: its FNV-1a hash in 32 bits, which is what the reference takes.
fn fraction(id: &str) -> f64 {
    const BASIS: u32 = 0x811C_9DC5;
    const PRIME: u32 = 0x0100_0193;
    let hash = id.bytes().fold(BASIS, |hash, b| (hash ^ u32::from(b)).wrapping_mul(PRIME));
    f64::from(hash) / 4_294_967_296.0
}

impl RequestHook for P2pSource {
    fn before_request(&self, cycle: &Cycle<'_>, picked: Picked<'_>, directions: &mut Directions) {
        let Some(found) = cycle.data.get(self.prefix) else { return };
        let prefill = cycle.results.named(&self.prefill_profile);
        let computing = prefill.and_then(|result| result.target()).or_else(|| picked.primary());
        let (Some(computing), Some(source)) = (computing, choose(cycle, found)) else { return };
        let block = u64::from(found.block_tokens());
        let cached = u64::from(found.held(computing)) * block;
        let is_worth_it = source.tokens.saturating_sub(cached) >= self.min_delta;
        if source.candidate == computing || !is_worth_it {
            return;
        }
        if let Some(source) = cycle.candidates.get(source.candidate as usize) {
            directions.set_header(KV_CACHE_SOURCE, source.endpoint.host_port.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_spread_as_by_the_reference() {
        // Vectors of the hash's authors (draft-eastlake-fnv).
        for (id, hash) in [("", 0x811c_9dc5_u32), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(fraction(id), f64::from(hash) / 4_294_967_296.0, "{id}");
        }
    }
}
