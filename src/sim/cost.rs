//! How long an engine step takes, fitted to measurements of a real server.

use serde::{Deserialize, Serialize};

use super::config_error::ConfigError;
use crate::sim::Nanos;

/// Durations of the parts of a request's way and of a step, in nanoseconds.
///
/// A step that only decodes takes `decode_step_ns` (by batch size) plus the time to read the KV
/// cache of the batch. A step with prompt tokens in it takes `prefill_step_ns` instead of what a
/// batch of one takes, and on top the prompt's matrix work (linear in its tokens) and attention
/// (linear in the pairs of a new token and one before it). A step of more than `graph_tokens`
/// tokens is not replayed from a CUDA graph: its kernels are launched one by one, and it takes
/// `eager_step_ns` at least, however little they compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    /// What the API server does for a request whatever its size. It reads requests one by one,
    /// so those sent at once wait for each other; it occupies no step.
    #[serde(default)]
    pub frontend_request_ns: f64,
    /// What it does on top for each token of the prompt: parsing, checking, block hashing.
    #[serde(default)]
    pub frontend_token_ns: f64,
    /// A step with at least one prompt token in it, before its tokens are counted.
    pub prefill_step_ns: f64,
    /// Each prompt token computed.
    pub prefill_token_ns: f64,
    /// Each pair of a computed prompt token and a token it attends to.
    #[serde(default)]
    pub attention_pair_ns: f64,
    /// Added once to a step that admits a prompt whose head was found in the prefix cache.
    #[serde(default)]
    pub resume_ns: f64,
    /// The most tokens a step may have to be replayed from a CUDA graph, prompt tokens and
    /// decoding sequences together.
    #[serde(default)]
    pub graph_tokens: u32,
    /// The least a step of more than `graph_tokens` tokens takes.
    #[serde(default)]
    pub eager_step_ns: f64,
    /// A step that decodes for this many sequences, at points between which it is linear;
    /// beyond the last point the last slope goes on. Ordered by batch size, starting at 1.
    pub decode_step_ns: Vec<(u32, f64)>,
    /// Each token of context that a decoding sequence attends to.
    #[serde(default)]
    pub kv_token_ns: f64,
}

impl CostModel {
    /// An engine that takes no time at all: for tests of everything around it.
    pub fn instant() -> Self {
        Self {
            frontend_request_ns: 0.0,
            frontend_token_ns: 0.0,
            prefill_step_ns: 0.0,
            prefill_token_ns: 0.0,
            attention_pair_ns: 0.0,
            resume_ns: 0.0,
            graph_tokens: 0,
            eager_step_ns: 0.0,
            decode_step_ns: vec![(1, 0.0)],
            kv_token_ns: 0.0,
        }
    }

    /// The same engine, `speed` times as fast, which must be above 0.
    pub(super) fn at_speed(self, speed: f64) -> Self {
        self.scaled(1.0 / speed)
    }

    fn scaled(mut self, factor: f64) -> Self {
        self.frontend_request_ns *= factor;
        self.frontend_token_ns *= factor;
        self.prefill_step_ns *= factor;
        self.prefill_token_ns *= factor;
        self.attention_pair_ns *= factor;
        self.resume_ns *= factor;
        self.eager_step_ns *= factor;
        self.kv_token_ns *= factor;
        for (_, ns) in &mut self.decode_step_ns {
            *ns *= factor;
        }
        self
    }

    /// # Errors
    /// Where a duration is negative or not a number, or the batch sizes are out of order.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let durations = [
            ("frontend_request_ns", self.frontend_request_ns),
            ("frontend_token_ns", self.frontend_token_ns),
            ("prefill_step_ns", self.prefill_step_ns),
            ("prefill_token_ns", self.prefill_token_ns),
            ("attention_pair_ns", self.attention_pair_ns),
            ("resume_ns", self.resume_ns),
            ("eager_step_ns", self.eager_step_ns),
            ("kv_token_ns", self.kv_token_ns),
        ];
        let decode = self.decode_step_ns.iter().map(|&(_, ns)| ("decode_step_ns", ns));
        for (name, ns) in durations.into_iter().chain(decode) {
            if !ns.is_finite() || ns < 0.0 {
                return Err(ConfigError::Duration(name));
            }
        }
        let ascending = self.decode_step_ns.is_sorted_by(|a, b| a.0 < b.0);
        if !ascending || self.decode_step_ns.first().is_none_or(|first| first.0 != 1) {
            return Err(ConfigError::DecodeSteps);
        }
        Ok(())
    }

    fn decode_ns(&self, batch: u32) -> f64 {
        let points = &self.decode_step_ns;
        let after = points.partition_point(|&(at, _)| at < batch);
        let at = |i: usize| points.get(i).map_or((1.0, 0.0), |&(b, ns)| (f64::from(b), ns));
        if after == 0 || points.len() < 2 {
            return at(0).1;
        }
        let right = after.min(points.len() - 1);
        let ((b0, t0), (b1, t1)) = (at(right - 1), at(right));
        // A slope may fall; time does not become negative.
        (t0 + (t1 - t0) * (f64::from(batch) - b0) / (b1 - b0)).max(0.0)
    }
}

/// The prompt tokens computed in one step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PrefillWork {
    tokens: u64,
    pairs: u64,
    /// A prompt admitted in this step continues from cached blocks.
    pub(super) resumed: bool,
}

impl PrefillWork {
    /// Adds `tokens` new tokens that follow `context` tokens already computed.
    pub(super) fn add(&mut self, context: u32, tokens: u32) {
        let (context, tokens) = (u64::from(context), u64::from(tokens));
        self.tokens += tokens;
        self.pairs += tokens * context + tokens * (tokens + 1) / 2;
    }
}

/// A [`CostModel`] with the decode time of every batch size worked out.
#[derive(Debug)]
pub(super) struct StepCost {
    model: CostModel,
    decode_ns: Vec<f64>,
}

impl StepCost {
    pub(super) fn new(model: CostModel, max_num_seqs: u32) -> Self {
        let decode_ns = (0..=max_num_seqs).map(|batch| model.decode_ns(batch)).collect();
        Self { model, decode_ns }
    }

    /// Time that the API server spends on a request before it is in the engine's queue.
    pub(super) fn frontend(&self, prompt_tokens: u32) -> Nanos {
        let tokens = self.model.frontend_token_ns * f64::from(prompt_tokens);
        (self.model.frontend_request_ns + tokens).round() as Nanos
    }

    /// Time of a step that decodes for `decoding` sequences with `kv_tokens` tokens of context in
    /// all, and computes `prefill`.
    pub(super) fn step(&self, prefill: &PrefillWork, decoding: usize, kv_tokens: u64) -> Nanos {
        let decode = self.decode_ns.get(decoding).copied().unwrap_or_default();
        let mut ns = self.model.kv_token_ns * kv_tokens as f64;
        if prefill.tokens == 0 {
            ns += decode;
        } else {
            let one = self.decode_ns.get(1).copied().unwrap_or_default();
            ns += self.model.prefill_step_ns
                + self.model.prefill_token_ns * prefill.tokens as f64
                + self.model.attention_pair_ns * prefill.pairs as f64
                + (decode - one).max(0.0);
            if prefill.tokens + decoding as u64 > u64::from(self.model.graph_tokens) {
                ns = ns.max(self.model.eager_step_ns);
            }
            if prefill.resumed {
                ns += self.model.resume_ns;
            }
        }
        ns.round() as Nanos
    }

    /// Time until the kernels of a step are launched: replaying a CUDA graph takes next to none.
    pub(super) fn launch(&self, prefill: &PrefillWork, decoding: usize) -> Nanos {
        match prefill.tokens + decoding as u64 > u64::from(self.model.graph_tokens) {
            true => self.model.eager_step_ns.round() as Nanos,
            false => 0,
        }
    }

    /// The least that any step takes.
    pub(super) fn shortest_step(&self) -> Nanos {
        let least = self.decode_ns.iter().skip(1).copied().fold(f64::INFINITY, f64::min);
        let least = least.min(self.model.prefill_step_ns);
        if least.is_finite() { least.floor() as Nanos } else { 0 }
    }
}
