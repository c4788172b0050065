//! `token-quota`: grants tenants so many tokens or requests in a window of time, and refuses what
//! goes beyond it. Ours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::quota_rules::{self, Rule};
use super::tokens_used::{TokensUsed, estimated_prompt};
use super::{Build, Capabilities, PluginType};
use crate::endpoints::Pool;
use crate::error::{Code, DropReason, RequestError};
use crate::exchange::{Ending, Outcome, OutcomeListener};
use crate::quota::{Counters, Hold, Overdrawn, Standing, Take};
use crate::scheduling::{
    Admitter, AskForUsage, CountTokens, Cycle, DataKey, Directions, InferenceRequest, Lifecycle,
    MetricFamily, MetricKind, MetricSample, MetricValue, PluginMetrics, RequestDatum,
    RequestProcessor, ResponseHook, RoutedRequest, Runtime,
};

pub(super) const TYPE: PluginType = PluginType { name: "token-quota", aliases: &[], build };

/// Tenants whose use is remembered.
const MAX_TENANTS: i64 = 100_000;
/// Tokens of an answer that are set aside where the request does not say how many it wants.
const RESERVED_OUTPUT: i64 = 256;

#[derive(Debug)]
struct TokenQuota {
    name: String,
    rules: Vec<Rule>,
    counts: Vec<RuleCounts>,
    counters: Counters,
    /// Refuses a request that may come to use more than is left; else one may overdraw.
    strict: bool,
    /// Counts, and refuses nothing.
    dry_run: bool,
    reserved_output: u64,
    /// Tells clients on every answer how they stand.
    response_headers: bool,
    ticket: DataKey<Ticket>,
    /// Tells the time, once the pool is there.
    runtime: OnceLock<Arc<dyn Runtime>>,
}

/// What a request holds until it has ended.
#[derive(Debug, Default)]
struct Ticket {
    prompt: u64,
    /// By index of the rule.
    holds: Mutex<SmallVec<[(usize, Hold); 2]>>,
}

impl RequestDatum for Ticket {
    const PRODUCER: &'static str = "quota of a request";
    const DEFAULT_PRODUCER: Option<&'static str> = None;
}

/// What became of the requests that a rule is for.
#[derive(Debug, Default)]
struct RuleCounts {
    admitted: AtomicU64,
    refused: AtomicU64,
    tokens: AtomicU64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let rules = quota_rules::read(&mut p);
    let tenants = p.int_in("maxTenants", 1..=10_000_000).unwrap_or(MAX_TENANTS);
    let reserved = p.int_in("reservedOutputTokens", 1..=1_000_000).unwrap_or(RESERVED_OUTPUT);
    let quota = Arc::new(TokenQuota {
        name: build.name.to_owned(),
        counts: rules.iter().map(|_| RuleCounts::default()).collect(),
        rules,
        counters: Counters::new(tenants.unsigned_abs() as usize),
        strict: p.bool("strict").unwrap_or(false),
        dry_run: p.bool("dryRun").unwrap_or(false),
        reserved_output: reserved.unsigned_abs(),
        response_headers: p.bool("responseHeaders").unwrap_or(true),
        ticket: build.dependencies.provide(build.name),
        runtime: OnceLock::new(),
    });
    let ask = p.bool("includeUsage").unwrap_or(false);
    p.finish();
    let parts = Capabilities::default()
        .with::<dyn RequestProcessor>(quota.clone())
        .with::<dyn Admitter>(quota.clone())
        .with::<dyn ResponseHook>(quota.clone())
        .with::<dyn OutcomeListener>(quota.clone())
        .with::<dyn Lifecycle>(quota.clone())
        .with::<dyn PluginMetrics>(quota)
        .with(Arc::new(CountTokens));
    if ask { parts.with(Arc::new(AskForUsage)) } else { parts }
}

impl TokenQuota {
    /// Seconds since 1970.
    fn now(&self) -> u64 {
        self.runtime.get().map_or(0, |runtime| runtime.unix_time().as_secs())
    }

    /// Takes what the request may come to use from every rule that is for it.
    fn take(&self, request: &InferenceRequest, ticket: &Ticket) -> Result<(), RequestError> {
        let mut holds = ticket.holds.lock();
        // A request is scheduled a second time where the first found no fit endpoint.
        if !holds.is_empty() {
            return Ok(());
        }
        let output = request.max_output_tokens.unwrap_or(self.reserved_output);
        let (now, tokens) = (self.now(), ticket.prompt.saturating_add(output));
        for (i, (rule, counts)) in self.rules.iter().zip(&self.counts).enumerate() {
            let key = match rule.key(request) {
                Ok(Some(key)) => key,
                Err(error) if !self.dry_run => {
                    self.give_back(&mut holds, now);
                    return Err(error);
                }
                _ => continue,
            };
            let limits = rule.limits.as_slice();
            let (strict, anyway) = (self.strict, self.dry_run);
            let taken = self.counters.take(Take { key: &key, limits, tokens, now, strict, anyway });
            match taken {
                Ok((hold, overdrawn)) => {
                    let count =
                        if overdrawn.is_some() { &counts.refused } else { &counts.admitted };
                    count.fetch_add(1, Ordering::Relaxed);
                    holds.push((i, hold));
                }
                Err(overdrawn) => {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    self.give_back(&mut holds, now);
                    return Err(refusal(&rule.name, &overdrawn));
                }
            }
        }
        Ok(())
    }

    fn give_back(&self, holds: &mut SmallVec<[(usize, Hold); 2]>, now: u64) {
        for (i, hold) in holds.drain(..) {
            if let Some(rule) = self.rules.get(i) {
                self.counters.give_back(hold, &rule.limits, now);
            }
        }
    }
}

/// What a client that has used up a limit is told.
fn refusal(rule: &str, overdrawn: &Overdrawn) -> RequestError {
    let Overdrawn { standing, retry_after } = overdrawn;
    let message = format!("quota '{rule}' is used up: {}", standing.limit);
    let mut error = RequestError::new(Code::ResourceExhausted, message)
        .with_reason(DropReason::OverQuota)
        .with_retry_after(Some(std::time::Duration::from_secs(*retry_after)));
    for (name, value) in headers(standing) {
        error = error.with_header(name, value);
    }
    error
}

/// The headers that Envoy's rate-limit filter sets (draft-ietf-httpapi-ratelimit-headers-03).
fn headers(standing: &Standing) -> [(&'static str, String); 3] {
    let Standing { limit, remaining, window, reset } = standing;
    let amount = limit.amount;
    [
        ("x-ratelimit-limit", format!("{amount}, {amount};w={}", window.length())),
        ("x-ratelimit-remaining", remaining.to_string()),
        ("x-ratelimit-reset", reset.to_string()),
    ]
}

impl RequestProcessor for TokenQuota {
    fn process(&self, request: &mut InferenceRequest) {
        let ticket = Ticket { prompt: estimated_prompt(request), ..Ticket::default() };
        request.kept.set(self.ticket, ticket);
    }
}

impl Admitter for TokenQuota {
    fn admit(&self, cycle: &Cycle<'_>) -> Result<(), RequestError> {
        match cycle.request.kept.get(self.ticket) {
            Some(ticket) => self.take(cycle.request, ticket),
            None => Ok(()),
        }
    }
}

impl ResponseHook for TokenQuota {
    fn response_headers(
        &self,
        exchange: &RoutedRequest<'_>,
        _: Option<u16>,
        directions: &mut Directions,
    ) {
        if !self.response_headers || self.dry_run {
            return;
        }
        let Some(ticket) = exchange.request.kept.get(self.ticket) else { return };
        let now = self.now();
        let holds = ticket.holds.lock();
        let standings = holds.iter().filter_map(|(i, hold)| {
            let rule = self.rules.get(*i)?;
            hold.standing(&rule.limits, now)
        });
        let share = |s: &Standing| s.remaining as f64 / s.limit.amount as f64;
        if let Some(least) = standings.min_by(|a, b| share(a).total_cmp(&share(b))) {
            for (name, value) in headers(&least) {
                directions.set_header(name, value);
            }
        }
    }
}

impl OutcomeListener for TokenQuota {
    fn ended(&self, outcome: &Outcome<'_>) {
        let Some(ticket) = outcome.request.kept.get(self.ticket) else { return };
        let mut holds = ticket.holds.lock();
        let now = self.now();
        if matches!(outcome.ending, Ending::Refused | Ending::CutBeforeDecision) {
            self.give_back(&mut holds, now);
            return;
        }
        let used = TokensUsed::of(&outcome.response.so_far(), ticket.prompt).total();
        for (i, hold) in holds.drain(..) {
            let (Some(rule), Some(counts)) = (self.rules.get(i), self.counts.get(i)) else {
                continue;
            };
            counts.tokens.fetch_add(used, Ordering::Relaxed);
            self.counters.settle(hold, &rule.limits, used, now);
        }
    }
}

impl Lifecycle for TokenQuota {
    fn start(&self, _: &Arc<Pool>, runtime: &Arc<dyn Runtime>) {
        // A second start would bring the same one.
        let _ = self.runtime.set(runtime.clone());
    }
}

impl PluginMetrics for TokenQuota {
    fn families(&self) -> Vec<MetricFamily> {
        let (mut requests, mut tokens) = (Vec::new(), Vec::new());
        let refused = if self.dry_run { "would_refuse" } else { "refused" };
        for (rule, counts) in self.rules.iter().zip(&self.counts) {
            let sample = |decision: Option<&str>, count: &AtomicU64| MetricSample {
                labels: [("plugin", self.name.clone()), ("rule", rule.name.clone())]
                    .into_iter()
                    .chain(decision.map(|decision| ("decision", decision.to_owned())))
                    .collect(),
                value: MetricValue::Number(count.load(Ordering::Relaxed) as f64),
            };
            requests.push(sample(Some("admitted"), &counts.admitted));
            requests.push(sample(Some(refused), &counts.refused));
            tokens.push(sample(None, &counts.tokens));
        }
        let tenants = MetricSample {
            labels: vec![("plugin", self.name.clone())],
            value: MetricValue::Number(self.counters.len() as f64),
        };
        let family = |name, help, kind, samples| MetricFamily { name, help, kind, samples };
        vec![
            family(
                "llm_d_epp_quota_requests_total",
                "Requests that a rule of a quota is for, by what it said of them.",
                MetricKind::Counter,
                requests,
            ),
            family(
                "llm_d_epp_quota_tokens_total",
                "Tokens that were charged to a rule of a quota.",
                MetricKind::Counter,
                tokens,
            ),
            family(
                "llm_d_epp_quota_tenants",
                "Tenants whose use a quota remembers.",
                MetricKind::Gauge,
                vec![tenants],
            ),
        ]
    }
}
