use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::history::History;
use crate::endpoints::{Endpoint, EndpointMemory, Pool, StateSlot};
use crate::exchange::{Ending, Outcome, OutcomeListener};
use crate::scheduling::{
    MetricFamily, MetricKind, MetricSample, MetricValue, PluginMetrics, PrefixSource,
};

/// Counts what became of the requests to each endpoint of a pool.
#[derive(Debug)]
pub struct Tallies {
    pool: Arc<Pool>,
    slot: StateSlot<EndpointTally>,
}

impl EndpointMemory for EndpointTally {}

/// What became of the requests to one endpoint, since it came into the pool.
#[derive(Debug, Default)]
pub struct EndpointTally {
    picks: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    /// Answers with a number of prompt tokens.
    with_usage: AtomicU64,
    /// Those of them that said how many were cached.
    with_cached: AtomicU64,
    prompt_tokens: AtomicU64,
    predicted_tokens: AtomicU64,
    indexed_tokens: AtomicU64,
    delivered_tokens: AtomicU64,
    first_bytes: AtomicU64,
    ttft_micros: AtomicU64,
    /// Tokens of a block by which prompts are compared with what engines tell; 0: they are not.
    indexed_block: AtomicU64,
    pub(super) history: parking_lot::Mutex<History>,
}

/// An [`EndpointTally`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub picks: u64,
    pub ended: u64,
    /// Answered with a status from 500 on, or not at all.
    pub failed: u64,
    pub with_usage: u64,
    pub with_cached: u64,
    /// Of the answers that told how many tokens their prompts had.
    pub prompt_tokens: u64,
    /// What our own picks made us believe to be cached of those.
    pub predicted_tokens: u64,
    /// What engines' events made us believe so.
    pub indexed_tokens: u64,
    /// What engines reported to have been cached.
    pub delivered_tokens: u64,
    pub first_bytes: u64,
    pub ttft_micros: u64,
    pub indexed_block: u64,
}

impl Tally {
    /// What came since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let less = |f: fn(&Self) -> u64| f(self).saturating_sub(f(earlier));
        Self {
            picks: less(|t| t.picks),
            ended: less(|t| t.ended),
            failed: less(|t| t.failed),
            with_usage: less(|t| t.with_usage),
            with_cached: less(|t| t.with_cached),
            prompt_tokens: less(|t| t.prompt_tokens),
            predicted_tokens: less(|t| t.predicted_tokens),
            indexed_tokens: less(|t| t.indexed_tokens),
            delivered_tokens: less(|t| t.delivered_tokens),
            first_bytes: less(|t| t.first_bytes),
            ttft_micros: less(|t| t.ttft_micros),
            indexed_block: self.indexed_block,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.picks += other.picks;
        self.ended += other.ended;
        self.failed += other.failed;
        self.with_usage += other.with_usage;
        self.with_cached += other.with_cached;
        self.prompt_tokens += other.prompt_tokens;
        self.predicted_tokens += other.predicted_tokens;
        self.indexed_tokens += other.indexed_tokens;
        self.delivered_tokens += other.delivered_tokens;
        self.first_bytes += other.first_bytes;
        self.ttft_micros += other.ttft_micros;
        self.indexed_block = self.indexed_block.max(other.indexed_block);
    }

    /// This many tokens as a share of the prompts; `None` where no prompt was reported.
    pub fn share(&self, tokens: u64) -> Option<f64> {
        (self.prompt_tokens > 0).then(|| tokens as f64 / self.prompt_tokens as f64)
    }

    /// Mean time to the first byte, milliseconds.
    pub fn ttft_ms(&self) -> Option<f64> {
        (self.first_bytes > 0).then(|| self.ttft_micros as f64 / self.first_bytes as f64 / 1e3)
    }
}

impl EndpointTally {
    pub fn load(&self) -> Tally {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            picks: load(&self.picks),
            ended: load(&self.ended),
            failed: load(&self.failed),
            with_usage: load(&self.with_usage),
            with_cached: load(&self.with_cached),
            prompt_tokens: load(&self.prompt_tokens),
            predicted_tokens: load(&self.predicted_tokens),
            indexed_tokens: load(&self.indexed_tokens),
            delivered_tokens: load(&self.delivered_tokens),
            first_bytes: load(&self.first_bytes),
            ttft_micros: load(&self.ttft_micros),
            indexed_block: load(&self.indexed_block),
        }
    }

    fn ended(&self, outcome: &Outcome<'_>) {
        add(&self.ended, 1);
        let status = outcome.response.status;
        let unanswered = outcome.ending == Ending::CutBeforeResponse;
        add(&self.failed, u64::from(unanswered || status.is_some_and(|s| s >= 500)));
        if let Some(ttft) = outcome.times.ttft() {
            add(&self.first_bytes, 1);
            add(&self.ttft_micros, u64::try_from(ttft.as_micros()).unwrap_or(u64::MAX));
        }
        let Some(usage) = outcome.response.usage.filter(|usage| usage.prompt > 0) else { return };
        add(&self.with_usage, 1);
        add(&self.prompt_tokens, usage.prompt);
        if let Some(cached) = usage.cached {
            add(&self.with_cached, 1);
            add(&self.delivered_tokens, cached.min(usage.prompt));
        }
        // Beliefs are in blocks of our own counting; the engine counted the prompt's tokens.
        for belief in outcome.decision.map_or(&[][..], |decision| &decision.beliefs) {
            let tokens = (belief.share() * usage.prompt as f64) as u64;
            match belief.source {
                PrefixSource::Predicted => add(&self.predicted_tokens, tokens),
                PrefixSource::Indexed => {
                    add(&self.indexed_tokens, tokens);
                    self.indexed_block.store(belief.block_tokens.into(), Ordering::Relaxed);
                }
            }
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

impl Tallies {
    /// Counts for the endpoints of `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        let slot = pool.ids().claim_slot();
        Self { pool, slot }
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The counts of an endpoint of the pool.
    pub fn of<'e>(&self, endpoint: &'e Endpoint) -> Option<&'e EndpointTally> {
        endpoint.state.get_or_init(self.slot, EndpointTally::default)
    }
}

impl OutcomeListener for Tallies {
    fn routed(&self, so_far: &Outcome<'_>) {
        if let Some(tally) = so_far.endpoint.and_then(|endpoint| self.of(endpoint)) {
            add(&tally.picks, 1);
        }
    }

    fn ended(&self, outcome: &Outcome<'_>) {
        if let Some(tally) = outcome.endpoint.and_then(|endpoint| self.of(endpoint)) {
            tally.ended(outcome);
        }
    }
}

impl PluginMetrics for Tallies {
    fn families(&self) -> Vec<MetricFamily> {
        let snapshot = self.pool.snapshot();
        let (mut cached, mut prompts) = (Vec::new(), Vec::new());
        for endpoint in &snapshot.endpoints {
            let Some(tally) = self.of(endpoint).map(EndpointTally::load) else { continue };
            let labels = || {
                vec![
                    ("endpoint_name", endpoint.spec.name.clone()),
                    ("namespace", endpoint.spec.namespace.clone()),
                ]
            };
            let sample = |source: Option<&str>, value: u64| {
                let mut labels = labels();
                labels.extend(source.map(|source| ("source", source.to_owned())));
                MetricSample { labels, value: MetricValue::Number(value as f64) }
            };
            cached.push(sample(Some("predicted"), tally.predicted_tokens));
            cached.push(sample(Some("indexed"), tally.indexed_tokens));
            cached.push(sample(Some("delivered"), tally.delivered_tokens));
            prompts.push(sample(None, tally.prompt_tokens));
        }
        let counter =
            |name, help, samples| MetricFamily { name, help, kind: MetricKind::Counter, samples };
        vec![
            counter(
                "llm_d_epp_prefix_cached_tokens_total",
                "Prompt tokens that were believed cached on the endpoint picked (predicted from \
                 our picks, indexed from its events), and that it reported (delivered).",
                cached,
            ),
            counter(
                "llm_d_epp_prefix_prompt_tokens_total",
                "Prompt tokens of the requests that those are a part of.",
                prompts,
            ),
        ]
    }
}
