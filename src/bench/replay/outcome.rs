//! What came of a simulation.

use std::collections::BTreeMap;

use serde::Serialize;

use super::shares::{Share, Shares};
use crate::bench::latency::{Latencies, Percentiles};
use crate::bench::trace::{Trace, TraceRequest};
use crate::sim::Nanos;

/// What makes a request a good one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slo {
    pub ttft: Nanos,
    /// Mean time between tokens after the first.
    pub itl: Nanos,
}

/// Counted while a simulation runs.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub ttft: Latencies,
    pub itl: Latencies,
    pub e2e: Latencies,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
    pub finished: u64,
    pub good: u64,
    pub preemptions: u64,
    pub errors: BTreeMap<String, u64>,
    /// Prompt tokens computed by each worker.
    pub computed: Vec<u64>,
    pub requests: Vec<u64>,
    /// Sum of what the policy believed cached, weighted by prompt tokens.
    pub believed_tokens: f64,
    pub has_belief: bool,
    pub last_end: Nanos,
    prefilled_elsewhere: u64,
    received_tokens: u64,
    /// Requests asked while a fault was in force that the router had time to notice.
    asked_in_fault: u64,
    failed_in_fault: u64,
    /// The longest from the end of a fault until the worker was in service again.
    back_after: Option<Nanos>,
    shares: Shares,
    /// When requests finished, in that order.
    ends: Vec<Nanos>,
}

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    /// The one that answered.
    pub worker: usize,
    /// The one that computed the prompt.
    pub computed_by: usize,
    pub asked_at: Nanos,
    /// `None` where nobody saw it.
    pub first_token_at: Option<Nanos>,
    pub at: Nanos,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    /// Tokens of the prompt whose KV came from another worker.
    pub received_tokens: u32,
    pub output_tokens: u32,
    pub preemptions: u32,
}

impl Counts {
    pub(super) fn new(workers: usize, trace: &Trace) -> Self {
        let (computed, requests) = (vec![0; workers], vec![0; workers]);
        Self { computed, requests, shares: Shares::new(trace), ..Default::default() }
    }

    pub(super) fn finished(&mut self, f: Finished, slo: Slo, request: &TraceRequest) {
        let later = u64::from(f.output_tokens.saturating_sub(1));
        let e2e = f.at.saturating_sub(f.asked_at);
        let ttft = f.first_token_at.map(|at| at.saturating_sub(f.asked_at));
        let itl = f.first_token_at.and_then(|at| f.at.saturating_sub(at).checked_div(later));
        if let Some(ttft) = ttft {
            self.ttft.record_nanos(ttft);
        }
        self.e2e.record_nanos(e2e);
        if let Some(itl) = itl {
            self.itl.record_nanos(itl);
        }
        self.finished += 1;
        // Where only the whole time is known, it is held against the whole of the goal.
        let good = match ttft {
            Some(ttft) => ttft <= slo.ttft && itl.is_none_or(|itl| itl <= slo.itl),
            None => e2e <= slo.ttft.saturating_add(slo.itl.saturating_mul(later)),
        };
        self.good += u64::from(good);
        self.shares.finished(request, ttft.unwrap_or(e2e), good);
        self.ends.push(f.at);
        self.input_tokens += u64::from(f.prompt_tokens);
        self.cached_tokens += u64::from(f.cached_tokens);
        self.output_tokens += u64::from(f.output_tokens);
        self.preemptions += u64::from(f.preemptions);
        self.prefilled_elsewhere += u64::from(f.computed_by != f.worker);
        self.received_tokens += u64::from(f.received_tokens);
        self.computed[f.computed_by] += u64::from(f.prompt_tokens.saturating_sub(f.cached_tokens));
        self.requests[f.worker] += 1;
        self.last_end = self.last_end.max(f.at);
    }

    /// A request is asked, perhaps while a fault is in force.
    pub(super) fn asked(&mut self, in_fault: bool, request: &TraceRequest) {
        self.asked_in_fault += u64::from(in_fault);
        self.shares.asked(request);
    }

    /// A worker in trouble was in service again so long after its trouble was over.
    pub(super) fn back_after(&mut self, time: Nanos) {
        self.back_after = self.back_after.max(Some(time));
    }

    /// A request failed that was asked while a fault was in force, or was not.
    pub(super) fn failed(&mut self, kind: &str, in_fault: bool, request: &TraceRequest) {
        self.failed_in_fault += u64::from(in_fault);
        self.shares.failed(request, kind);
        match self.errors.get_mut(kind) {
            Some(n) => *n += 1,
            None => drop(self.errors.insert(kind.to_owned(), 1)),
        }
    }

    /// Requests a second between the first tenth of those that finished and the last, where
    /// there are enough for that to mean something.
    fn steady_rate(&self) -> Option<f64> {
        let tenth = self.ends.len() / 10;
        let (first, last) = (self.ends.get(tenth)?, self.ends.get(self.ends.len() - 1 - tenth)?);
        let seconds = last.saturating_sub(*first) as f64 / 1e9;
        (seconds > 0.0).then(|| (self.ends.len() - 1 - 2 * tenth) as f64 / seconds)
    }

    pub(super) fn outcome(self) -> Outcome {
        let seconds = (self.last_end as f64 / 1e9).max(f64::MIN_POSITIVE);
        let steady_rate = self.steady_rate();
        let (tenants, bands) = self.shares.outcome(seconds);
        let failed: u64 = self.errors.values().sum();
        let tokens = (self.input_tokens as f64).max(1.0);
        Outcome {
            seconds,
            finished: self.finished,
            failed,
            hit_rate: self.cached_tokens as f64 / tokens,
            believed_hit_rate: self.has_belief.then_some(self.believed_tokens / tokens),
            ttft: self.ttft.summary(),
            itl: self.itl.summary(),
            e2e: self.e2e.summary(),
            requests_per_second: self.finished as f64 / seconds,
            output_tokens_per_second: self.output_tokens as f64 / seconds,
            good_per_second: self.good as f64 / seconds,
            good_share: self.good as f64 / ((self.finished + failed) as f64).max(1.0),
            preemptions: self.preemptions,
            computed_imbalance: imbalance(&self.computed),
            request_imbalance: imbalance(&self.requests),
            errors: self.errors,
            prefilled_elsewhere: self.prefilled_elsewhere as f64 / (self.finished as f64).max(1.0),
            received_tokens: self.received_tokens,
            lost_share: failed as f64 / ((self.finished + failed) as f64).max(1.0),
            lost_in_fault: (self.asked_in_fault > 0)
                .then(|| self.failed_in_fault as f64 / self.asked_in_fault as f64),
            tenants,
            bands,
            steady_rate,
            back_after_seconds: self.back_after.map(|time| time as f64 / 1e9),
        }
    }
}

/// The largest over the mean; 1 is perfectly even.
fn imbalance(values: &[u64]) -> f64 {
    let sum: u64 = values.iter().sum();
    let largest = values.iter().copied().max().unwrap_or(0);
    if sum == 0 { 1.0 } else { largest as f64 * values.len() as f64 / sum as f64 }
}

/// A simulation's figures. Times are virtual.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    /// From the first arrival to the last token.
    pub seconds: f64,
    pub finished: u64,
    pub failed: u64,
    /// Requests that failed, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Share of prompt tokens that workers found in their caches.
    pub hit_rate: f64,
    /// The share that the policy believed in when it picked; `None` where it has no belief.
    pub believed_hit_rate: Option<f64>,
    pub ttft: Percentiles,
    /// Of each request's mean time between tokens.
    pub itl: Percentiles,
    pub e2e: Percentiles,
    pub requests_per_second: f64,
    pub output_tokens_per_second: f64,
    /// Requests per second that met the goal.
    pub good_per_second: f64,
    /// Share of all requests, failed ones too, that met the goal.
    pub good_share: f64,
    pub preemptions: u64,
    /// Prompt tokens computed: the busiest worker over the mean.
    pub computed_imbalance: f64,
    pub request_imbalance: f64,
    /// Share of the finished requests whose prompt another worker computed.
    pub prefilled_elsewhere: f64,
    /// Prompt tokens whose KV went from one worker to another.
    pub received_tokens: u64,
    /// Share of all requests that failed.
    pub lost_share: f64,
    /// Share of the requests that failed, of those asked while a fault was in force for a second
    /// or longer; `None` where none was.
    pub lost_in_fault: Option<f64>,
    /// The longest time from the end of a fault until its worker was in service again; `None`
    /// where none was.
    pub back_after_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Share>,
    /// By priority.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bands: Vec<Share>,
    /// Requests that finished a second, without how it began and ended.
    pub steady_rate: Option<f64>,
}
