//! `prefix-based-pd-decider`: a prompt of which enough is not cached on the endpoint that is to
//! answer is computed by another one (llm-d-router main at ebab6879).

use std::sync::Arc;

use super::disaggregation::DisaggregationDecider;
use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Cycle, DataKey, PrefixMatch};

pub(super) const TYPE: PluginType =
    PluginType { name: "prefix-based-pd-decider", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Decider],
    stability: Stability::Beta,
    since: "llm-d v0.6",
    summary: "yes to prompts of which enough is not cached on the endpoint that is to answer",
    formula: "tokens ≥ promptTokens and tokens - cached tokens ≥ nonCachedTokens; never with nonCachedTokens 0",
    parameters: Parameters::Listed(&[
        Parameter::integer(
            "nonCachedTokens",
            "uncached tokens from which a prompt is computed elsewhere; 0: never",
        )
        .unit("tokens")
        .default("0")
        .at_least(0.0),
        Parameter::integer("promptTokens", "shorter prompts are not looked at")
            .unit("tokens")
            .default("0")
            .at_least(0.0),
        Parameter::prefix_producer(),
    ]),
};

#[derive(Debug)]
struct PrefixBasedPdDecider {
    prefix: DataKey<PrefixMatch>,
    /// Tokens that are not cached from which a prompt is computed elsewhere; 0: never.
    non_cached_tokens: u64,
    /// Shorter prompts are not looked at.
    prompt_tokens: u64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let prefix = build.dependencies.read(parameters::prefix_producer(&mut p));
    let mut tokens = |name| p.int_in(name, 0..=i64::MAX).unwrap_or(0).unsigned_abs();
    let (non_cached_tokens, prompt_tokens) = (tokens("nonCachedTokens"), tokens("promptTokens"));
    if non_cached_tokens == 0 {
        // In v0.6 it meant always.
        p.warning("nonCachedTokens", "is 0: no prompt is ever computed by another endpoint");
    }
    p.finish();
    let decider = PrefixBasedPdDecider { prefix, non_cached_tokens, prompt_tokens };
    Capabilities::default().with::<dyn DisaggregationDecider>(Arc::new(decider))
}

impl DisaggregationDecider for PrefixBasedPdDecider {
    /// True where `prompt - cached >= nonCachedTokens`, both in tokens, on the chosen endpoint.
    fn disaggregates(&self, cycle: &Cycle<'_>, decode: Option<u32>) -> bool {
        let prompt = cycle.request.prompt.token_count();
        if self.non_cached_tokens == 0
            || prompt < self.prompt_tokens
            || prompt < self.non_cached_tokens
        {
            return false;
        }
        let (Some(decode), Some(found)) = (decode, cycle.data.get(self.prefix)) else {
            return false;
        };
        let cached = u64::from(found.held(decode)) * u64::from(found.block_tokens());
        prompt.saturating_sub(cached) >= self.non_cached_tokens
    }
}
