//! `expected-delay-scorer`: the less time a choice costs everyone, the better. A type of our own;
//! the reference has none like it.

use super::{
    About, Build, Capabilities, Parameter, Parameters, Part, PluginType, Stability, parameters,
};
use crate::scheduling::{Candidate, Cycle, DataKey, PrefixMatch, ReadsAnswers, Scorer, TokenLoad};
use crate::scrape_config::Needs;

pub(super) const TYPE: PluginType =
    PluginType { name: "expected-delay-scorer", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Scorer],
    stability: Stability::Own,
    since: "",
    summary: "the less time a choice costs everyone, the better",
    formula: "(least d + 16)/(d + 16), d = queued + 200 · waiting + own + w · (own · decoding + L · (2.2 n + 0.0007 · (context + n · prompt))), over the endpoint's speed, + copyWeight · copied²/cache, where copied is what another endpoint holds more of the prompt than this one",
    parameters: Parameters::Listed(&[
        Parameter::prefix_producer(),
        Parameter::in_flight_producer(),
        Parameter::number(
            "streamDelayWeight",
            "w: what a delay of a stream counts against the same delay of a first token",
        )
        .default("0.05")
        .at_least(0.0),
        Parameter::number(
            "copyWeight",
            "what a copy of a cached conversation displaces: how often its tokens count, by its share of the cache",
        )
        .default("20.0")
        .at_least(0.0),
        Parameter::integer("answerTokens", "L: the length of an answer; 0 is the default")
            .unit("tokens")
            .default("200"),
    ]),
};

/// What a moment's delay of a stream that is being answered counts, against the same moment added
/// to the wait for a first token: people wait for the latter.
const DEFAULT_STREAM_DELAY_WEIGHT: f64 = 0.05;
/// Length of an answer, tokens. Its order of magnitude matters, not more.
const DEFAULT_ANSWER_TOKENS: u32 = 200;
/// What one more sequence adds to every decoding step of a worker, in prompt tokens computed in
/// that time: 22 us against 20 us a token (7B model on one H200, vLLM 0.24: `sim::CostModel`).
/// Both are work of the same accelerator on the same model, so other ones differ less in the
/// ratio than in either.
const SEQUENCE_PER_STEP: f64 = 1.1;
/// What one more token of context adds to every step, likewise: 14 ns against 20 us.
const CONTEXT_TOKEN_PER_STEP: f64 = 0.0007;
/// What a prompt takes beside its tokens, in tokens: a step with prompt tokens in it takes 6.5 ms,
/// one that goes on from cached blocks 4.6 ms more, and several prompts may share a step. Where
/// prompts wait for another reason, for a place in a full batch or for memory, it is what makes
/// their number count.
const PROMPT_OVERHEAD: f64 = 200.0;
/// What a copy of something that another endpoint holds already costs beside being computed, as a
/// multiple of that, where it fills the whole cache; in proportion where it fills less. At a
/// twentieth of the cache it counts twice. Found on one half of the traces and judged on the other
/// (docs/performance.md); 10 and 40 do little worse.
const DEFAULT_COPY_WEIGHT: f64 = 20.0;
/// Tokens in the cache of an endpoint that does not tell: as many as the reference takes an
/// endpoint's index to hold that does not, 31,250 blocks of 16 tokens.
const ASSUMED_CACHE: f64 = 500_000.0;
/// A prompt that is cached as a whole still has its last block computed, so nothing is for free
/// and nothing is infinitely better.
const LEAST: f64 = 16.0;

#[derive(Debug)]
struct ExpectedDelayScorer {
    load: DataKey<TokenLoad>,
    prefix: DataKey<PrefixMatch>,
    copy_weight: f64,
    stream_delay_weight: f64,
    answer_tokens: f64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    // The producer of what is in flight reads it; without one every prompt looks uncached.
    let prefix = build.dependencies.read(parameters::prefix_producer(&mut p));
    let load = build.dependencies.read(parameters::in_flight_producer(&mut p));
    let mut weight = |name, default| parameters::non_negative(&mut p, name, default);
    let stream_delay_weight = weight("streamDelayWeight", DEFAULT_STREAM_DELAY_WEIGHT);
    let copy_weight = weight("copyWeight", DEFAULT_COPY_WEIGHT);
    let answer = parameters::positive_u32(&mut p, "answerTokens", DEFAULT_ANSWER_TOKENS);
    p.finish();
    Capabilities::scorer(ExpectedDelayScorer {
        load,
        prefix,
        copy_weight,
        stream_delay_weight,
        answer_tokens: f64::from(answer),
    })
    // What waits at an endpoint, and what it works on, is known by the answers that began.
    .reading_answers(ReadsAnswers::FirstToken)
    .reading(Needs { cache: true, ..Needs::default() })
}

impl ExpectedDelayScorer {
    /// The delay of sending the request to `candidate`, in prompt tokens computed in that time:
    ///
    /// `queued + P * waiting + own + w * (own * decoding + L * (S * 2n + C * (context + n * prompt)))`
    ///
    /// - `queued + P * waiting + own`: the request's first token waits for the tokens of the
    ///   `waiting` prompts before it, for what those take besides, and for its own `own` uncached
    ///   tokens.
    /// - `own * decoding`: meanwhile each of the `decoding` requests that are being answered
    ///   waits too, which is why a recomputed prefix costs more where more is going on.
    /// - `L * ...`: over the `L` steps of an answer, each of the `n` requests there slows this one
    ///   by `S` and is slowed by it as much; their `context` tokens are read in each of its steps,
    ///   and its `prompt` tokens in each of theirs.
    /// - `w` is `streamDelayWeight`: what delays streams counts less than what delays first
    ///   tokens.
    ///
    /// All of it takes longer at an endpoint that was found to be slower than the others.
    ///
    /// Everything is counted by reservations, at the moment of the pick: nothing of it is scraped,
    /// so nothing is stale, and a burst sees itself.
    fn delay(&self, candidate: &Candidate<'_>, own: f64, prompt: f64) -> f64 {
        let n = candidate.in_flight_requests.max(0) as f64;
        let waiting = candidate.in_flight_unanswered.max(0) as f64;
        let queued = candidate.in_flight_tokens.max(0) as f64 + PROMPT_OVERHEAD * waiting;
        let context = candidate.in_flight_prompt_tokens.max(0) as f64;
        let step = SEQUENCE_PER_STEP * 2.0 * n + CONTEXT_TOKEN_PER_STEP * (context + n * prompt);
        let streams = own * (n - waiting).max(0.0) + self.answer_tokens * step;
        (queued + own + self.stream_delay_weight * streams) / candidate.speed
    }

    /// What it costs those that come later that `candidate` would compute `copied` tokens which
    /// another endpoint holds: `k * copied * copied / cache`, in tokens, where `cache` is what
    /// its cache holds.
    ///
    /// The copy takes the place of other prefixes, which will be computed anew when they are asked
    /// for: the more of them the larger its share of the cache, and each a token for a token.
    /// Small copies are good to have, since a prefix that many ask for is best held everywhere; a
    /// long conversation belongs to one endpoint, and moving it sets others in motion.
    fn displacement(&self, candidate: &Candidate<'_>, copied: f64) -> f64 {
        let signals = &candidate.signals;
        let told = f64::from(signals.num_blocks) * f64::from(signals.block_size);
        let cache = if told > 0.0 { told } else { ASSUMED_CACHE };
        self.copy_weight * copied * copied / cache
    }
}

impl Scorer for ExpectedDelayScorer {
    /// `(least + 16) / (delay + 16)`, where `least` is the least delay of all candidates: 1 for
    /// the best, 0.5 for one that delays twice as long.
    fn score(&self, cycle: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        let load = cycle.data.get(self.load);
        let prompt = load.map_or(0, |load| load.prompt) as f64;
        let found = cycle.data.get(self.prefix);
        let held = |c: u32| {
            found.map_or(0, |f| u64::from(f.blocks(c)) * u64::from(f.block_tokens())) as f64
        };
        let most = candidates.iter().map(|&c| held(c)).fold(0.0, f64::max);
        for (score, &c) in scores.iter_mut().zip(candidates) {
            let own = f64::from(load.map_or(0, |load| load.uncached(c)));
            let candidate = &cycle.candidates[c as usize];
            let copied = most - held(c);
            *score =
                self.delay(candidate, own, prompt) + self.displacement(candidate, copied) + LEAST;
        }
        let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
        scores.iter_mut().for_each(|score| *score = least / *score);
    }
}
