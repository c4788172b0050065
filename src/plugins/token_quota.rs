//! `token-quota`: grants tenants so many tokens or requests in a window of time, and refuses what
//! goes beyond it. Ours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::quota_rules::{self, Rule};
use super::shared_quota::{self, Lease, SharedQuota, Verdict};
use super::tokens_used::{INCLUDE_USAGE, TokensUsed, estimated_prompt};
use super::{
    About, Build, Capabilities, Outside, Parameter, Parameters, Part, PluginType, ReachOutside,
    Stability, TookOver,
};
use crate::endpoints::Pool;
use crate::error::{Code, DropReason, RequestError};
use crate::exchange::{Ending, Outcome, OutcomeListener};
use crate::quota::{Counters, Hold, Overdrawn, Standing, Take, Tenant};
use crate::scheduling::{
    Admitter, AskForUsage, AwaitingProducer, BoxFuture, CountTokens, Cycle, DataKey, Directions,
    InferenceRequest, Lifecycle, MetricFamily, MetricKind, MetricSample, MetricValue,
    PluginMetrics, Put, ReadsAnswers, RequestDatum, RequestProcessor, ResponseHook, RoutedRequest,
    Runtime,
};

pub(super) const TYPE: PluginType =
    PluginType { name: "token-quota", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Admitter, Part::RequestProcessor, Part::ResponsePlugin],
    stability: Stability::Own,
    since: "",
    summary: "refuses a request whose tenant has used up a limit in tokens or requests (429)",
    formula: "",
    parameters: Parameters::Listed(&[
        Parameter::each("rules", &quota_rules::RULE, "who is granted what").required(),
        Parameter::boolean("dryRun", "count, and refuse nothing").default("false"),
        Parameter::boolean("strict", "refuse a request that may come to use more than is left")
            .default("false"),
        Parameter::integer(
            "reservedOutputTokens",
            "set aside for the answer of a request that names no bound",
        )
        .unit("tokens")
        .default("256")
        .at_least(1.0)
        .at_most(1_000_000.0),
        Parameter::boolean("responseHeaders", "x-ratelimit headers on answers").default("true"),
        Parameter::integer("maxTenants", "tenants that are remembered")
            .default("100000")
            .at_least(1.0)
            .at_most(10_000_000.0),
        INCLUDE_USAGE,
        Parameter::fields("redis", &shared_quota::REDIS, "counters that replicas share")
            .example("{url: \"redis://localhost:6379\"}"),
    ]),
};

/// Tenants whose use is remembered.
const MAX_TENANTS: i64 = 100_000;
/// Tokens of an answer that are set aside where the request does not say how many it wants.
const RESERVED_OUTPUT: i64 = 256;
/// Tokens that are set aside for one request at most.
const MAX_FORESEEN: u64 = 1_000_000_000_000;

#[derive(Debug)]
struct TokenQuota {
    name: String,
    memory: Arc<QuotaMemory>,
    /// Counters that replicas share, in place of those above.
    shared: Option<SharedQuota>,
    verdict: DataKey<Verdict>,
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

/// What is counted and by which rules, as a part of its own: a plugin with other parameters and
/// the same rules goes on with it.
#[derive(Debug)]
struct QuotaMemory {
    rules: Vec<Rule>,
    counts: Vec<RuleCounts>,
    counters: Counters,
    max_tenants: usize,
}

/// What a request holds until it has ended.
#[derive(Debug, Default)]
struct Ticket {
    prompt: u64,
    /// By index of the rule.
    holds: Mutex<SmallVec<[(usize, Hold); 2]>>,
    lease: Mutex<Option<Lease>>,
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
    /// Nobody could say whether there was enough left.
    unknown: AtomicU64,
    tokens: AtomicU64,
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    let rules = quota_rules::read(&mut p);
    let tenants = p.int_in("maxTenants", 1..=10_000_000).unwrap_or(MAX_TENANTS);
    let reserved = p.int_in("reservedOutputTokens", 1..=1_000_000).unwrap_or(RESERVED_OUTPUT);
    let max_tenants = tenants.unsigned_abs() as usize;
    let known = build.predecessor.and_then(|before| before.get::<QuotaMemory>());
    let known = known.filter(|known| known.rules == rules && known.max_tenants == max_tenants);
    let took_over = known.is_some();
    let memory = known.cloned().unwrap_or_else(|| {
        Arc::new(QuotaMemory {
            counts: rules.iter().map(|_| RuleCounts::default()).collect(),
            rules,
            counters: Counters::new(max_tenants),
            max_tenants,
        })
    });
    let quota = Arc::new(TokenQuota {
        name: build.name.to_owned(),
        memory: memory.clone(),
        strict: p.bool("strict").unwrap_or(false),
        dry_run: p.bool("dryRun").unwrap_or(false),
        reserved_output: reserved.unsigned_abs(),
        response_headers: p.bool("responseHeaders").unwrap_or(true),
        ticket: build.dependencies.provide(build.name),
        verdict: build.dependencies.provide(build.name),
        shared: SharedQuota::read(&mut p),
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
        .with::<dyn PluginMetrics>(quota.clone())
        .with(Arc::new(CountTokens))
        .with(memory)
        .reading_answers(ReadsAnswers::Usage)
        .remembering("use by tenants");
    let parts = if took_over { parts.with(Arc::new(TookOver)) } else { parts };
    let parts = match quota.shared {
        None => parts,
        Some(_) => {
            let parts = parts.with::<dyn ReachOutside>(quota.clone());
            parts.with::<dyn AwaitingProducer>(quota)
        }
    };
    if ask { parts.with(Arc::new(AskForUsage)) } else { parts }
}

impl TokenQuota {
    /// Seconds since 1970.
    fn now(&self) -> u64 {
        self.runtime.get().map_or(0, |runtime| runtime.unix_time().as_secs())
    }

    /// Tokens that a request may come to use.
    fn foreseen(&self, request: &InferenceRequest, ticket: &Ticket) -> u64 {
        let output = request.max_output_tokens.unwrap_or(self.reserved_output);
        // Sums of it fit wherever they are kept.
        ticket.prompt.saturating_add(output).min(MAX_FORESEEN)
    }

    /// The tenants that a request is of, with the indices of their rules; none where a value is
    /// unfit, which the admitter says.
    fn tenants(&self, request: &InferenceRequest) -> Option<(Vec<usize>, Arc<[Tenant]>)> {
        let mut found = (Vec::new(), Vec::new());
        for (i, rule) in self.memory.rules.iter().enumerate() {
            match rule.key(request) {
                Ok(Some(key)) => {
                    found.0.push(i);
                    found.1.push(Tenant { key, limits: rule.limits.clone() });
                }
                Ok(None) => {}
                Err(_) if self.dry_run => {}
                Err(_) => return None,
            }
        }
        (!found.0.is_empty()).then(|| (found.0, found.1.into()))
    }

    /// Goes by what shared counters answered.
    fn heed(
        &self,
        shared: &SharedQuota,
        verdict: Option<&Verdict>,
        request: &InferenceRequest,
        ticket: &Ticket,
    ) -> Result<(), RequestError> {
        let mut lease_of = ticket.lease.lock();
        let Some(lease) = &mut *lease_of else {
            let unfit = self.memory.rules.iter().find_map(|rule| rule.key(request).err());
            return unfit.filter(|_| !self.dry_run).map_or(Ok(()), Err);
        };
        // A request is scheduled a second time where the first found no fit endpoint.
        if std::mem::replace(&mut lease.seen, true) {
            return Ok(());
        }
        let counts = |lease: &Lease| -> Vec<&RuleCounts> {
            lease.rules.iter().filter_map(|i| self.memory.counts.get(*i)).collect()
        };
        let Some(Verdict(Ok(known))) = verdict else {
            let unknown = |counts: &RuleCounts| {
                counts.unknown.fetch_add(1, Ordering::Relaxed);
            };
            counts(lease).into_iter().for_each(unknown);
            return if self.dry_run { Ok(()) } else { shared.unknown() };
        };
        let mut first: Option<(usize, Overdrawn)> = None;
        let rules = lease.rules.iter().zip(counts(lease));
        for ((rule, counts), overdrawn) in rules.zip(lease.overdrawn(known, self.strict)) {
            if overdrawn.is_some() {
                counts.refused.fetch_add(1, Ordering::Relaxed);
            } else if known.taken {
                counts.admitted.fetch_add(1, Ordering::Relaxed);
            }
            first = first.or(overdrawn.map(|overdrawn| (*rule, overdrawn)));
        }
        if known.taken {
            lease.stood(known);
            return Ok(());
        }
        *lease_of = None;
        match first.and_then(|(i, overdrawn)| Some((self.memory.rules.get(i)?, overdrawn))) {
            Some((rule, overdrawn)) => Err(refusal(&rule.name, &overdrawn)),
            // Somebody else has changed the script's numbers.
            None => shared.unknown(),
        }
    }

    /// Takes what the request may come to use from every rule that is for it.
    fn take(&self, request: &InferenceRequest, ticket: &Ticket) -> Result<(), RequestError> {
        let mut holds = ticket.holds.lock();
        // A request is scheduled a second time where the first found no fit endpoint.
        if !holds.is_empty() {
            return Ok(());
        }
        let (now, tokens) = (self.now(), self.foreseen(request, ticket));
        for (i, (rule, counts)) in self.memory.rules.iter().zip(&self.memory.counts).enumerate() {
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
            let taken =
                self.memory.counters.take(Take { key: &key, limits, tokens, now, strict, anyway });
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
            if let Some(rule) = self.memory.rules.get(i) {
                self.memory.counters.give_back(hold, &rule.limits, now);
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
        .with_retry_after(Some(Duration::from_secs(*retry_after)));
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
        let request = cycle.request;
        match (request.kept.get(self.ticket), &self.shared) {
            (Some(ticket), None) => self.take(request, ticket),
            (Some(ticket), Some(shared)) => {
                self.heed(shared, cycle.data.get(self.verdict), request, ticket)
            }
            (None, _) => Ok(()),
        }
    }
}

impl AwaitingProducer for TokenQuota {
    fn begin(&self, request: &Arc<InferenceRequest>) -> Option<BoxFuture<Option<Put>>> {
        let (shared, ticket) = (self.shared.as_ref()?, request.kept.get(self.ticket)?);
        let (tenants, tokens) = (self.tenants(request)?, self.foreseen(request, ticket));
        let (lease, answer) = shared.begin(tenants, tokens, self.now(), self.strict, self.dry_run);
        *ticket.lease.lock() = Some(lease);
        let key = self.verdict;
        Some(Box::pin(async move {
            let verdict = answer.await;
            let put: Put = Box::new(move |data| data.set(key, verdict));
            Some(put)
        }))
    }

    fn deadline(&self) -> Duration {
        self.shared.as_ref().map_or(Duration::ZERO, SharedQuota::deadline)
    }
}

impl ReachOutside for TokenQuota {
    fn reach(&self, outside: &Outside) {
        if let Some(shared) = &self.shared {
            shared.reach(outside);
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
            let rule = self.memory.rules.get(*i)?;
            hold.standing(&rule.limits, now)
        });
        let lease = ticket.lease.lock();
        let leased = lease.as_ref().and_then(|lease| lease.standing);
        if let Some(least) = Standing::least(standings.chain(leased)) {
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
        let sent = !matches!(outcome.ending, Ending::Refused | Ending::CutBeforeDecision);
        let used = TokensUsed::of(&outcome.response.so_far(), ticket.prompt).total();
        if let (Some(shared), Some(lease)) = (&self.shared, ticket.lease.lock().take()) {
            for counts in lease.rules.iter().filter_map(|i| self.memory.counts.get(*i)) {
                counts.tokens.fetch_add(used, Ordering::Relaxed);
            }
            shared.settle(lease, used, sent, now);
        }
        if !sent {
            self.give_back(&mut holds, now);
            return;
        }
        for (i, hold) in holds.drain(..) {
            let (Some(rule), Some(counts)) = (self.memory.rules.get(i), self.memory.counts.get(i))
            else {
                continue;
            };
            counts.tokens.fetch_add(used, Ordering::Relaxed);
            self.memory.counters.settle(hold, &rule.limits, used, now);
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
        for (rule, counts) in self.memory.rules.iter().zip(&self.memory.counts) {
            let sample = |decision: Option<&str>, count: &AtomicU64| MetricSample {
                labels: [("plugin", self.name.clone()), ("rule", rule.name.clone())]
                    .into_iter()
                    .chain(decision.map(|decision| ("decision", decision.to_owned())))
                    .collect(),
                value: MetricValue::Number(count.load(Ordering::Relaxed) as f64),
            };
            requests.push(sample(Some("admitted"), &counts.admitted));
            requests.push(sample(Some(refused), &counts.refused));
            if self.shared.is_some() {
                requests.push(sample(Some("unknown"), &counts.unknown));
            }
            tokens.push(sample(None, &counts.tokens));
        }
        let tenants = MetricSample {
            labels: vec![("plugin", self.name.clone())],
            value: MetricValue::Number(self.memory.counters.len() as f64),
        };
        let family = |name, help, kind, samples| MetricFamily { name, help, kind, samples };
        let mut families = vec![
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
        ];
        if let Some(shared) = &self.shared {
            let backlog = shared.backlog();
            let sample = |number: u64| MetricSample {
                labels: vec![("plugin", self.name.clone())],
                value: MetricValue::Number(number as f64),
            };
            families.push(family(
                "llm_d_epp_quota_settlements_waiting",
                "Requests whose use shared counters have not heard of yet.",
                MetricKind::Gauge,
                vec![sample(backlog.waiting)],
            ));
            families.push(family(
                "llm_d_epp_quota_settlements_given_up_total",
                "Requests whose use shared counters will never hear of.",
                MetricKind::Counter,
                vec![sample(backlog.given_up)],
            ));
        }
        families
    }
}
