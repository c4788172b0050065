//! Quotas whose counters several replicas share: how a request asks for its share and settles.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Outside, Parameter};
use crate::config::Fields;
use crate::error::{Code, RequestError};
use crate::quota::{
    Backlog, Overdrawn, SharedCounters, SharedSettings, SharedSettle, SharedTake, SharedUse,
    Standing, Tenant, Unavailable,
};
use crate::scheduling::{BoxFuture, RequestDatum};

const PREFIX: &str = "epp-quota";
const TIMEOUT: Duration = Duration::from_millis(50);
const LEASE: Duration = Duration::from_secs(900);

/// `redis`, as parameters.
pub(super) const REDIS: [Parameter; 5] = [
    Parameter::text("url", "redis://[user:password@]host[:port][/database]")
        .required()
        .example("redis://localhost:6379"),
    Parameter::text("prefix", "how its keys begin; 1 to 64 characters, none of them a brace")
        .default("epp-quota"),
    Parameter::duration("timeout", "longest wait for an answer, 1ms to 5s")
        .default("50ms")
        .example("20ms"),
    Parameter::duration("lease", "how long a request may take that is never settled, 1s to 24h")
        .default("15m"),
    Parameter::one_of(
        "whenUnavailable",
        &["Open", "Closed"],
        "whether requests are let in while nobody knows what is left",
    )
    .default("Open"),
];

/// Where shared counters are, and what happens while they are away.
#[derive(Debug)]
pub(super) struct SharedQuota {
    settings: SharedSettings,
    /// Requests are let in while nobody knows what is left; else they are refused.
    open: bool,
    counters: OnceLock<Arc<dyn SharedCounters>>,
}

/// What a request asked shared counters for.
#[derive(Debug)]
pub(super) struct Lease {
    id: Arc<str>,
    /// By index of the rule, in the order of `tenants`.
    pub rules: Vec<usize>,
    pub tenants: Arc<[Tenant]>,
    tokens: u64,
    taken_at: u64,
    /// An admitter has seen the answer.
    pub seen: bool,
    /// How the tenants stood when it was let in.
    pub standing: Option<Standing>,
}

/// What shared counters answered.
#[derive(Debug)]
pub(super) struct Verdict(pub Result<SharedUse, Unavailable>);

impl RequestDatum for Verdict {
    const PRODUCER: &'static str = "shared quota";
    const DEFAULT_PRODUCER: Option<&'static str> = None;
}

impl SharedQuota {
    /// Reads `redis`; `None` where it is absent.
    pub(super) fn read(p: &mut Fields<'_>) -> Option<Self> {
        let mut redis = p.nested("redis");
        if redis.is_absent() {
            redis.ignore_rest();
            return None;
        }
        let address = redis.string("url").unwrap_or_default().to_owned();
        let host = address.strip_prefix("redis://").map(|rest| rest.rsplit('@').next());
        if !host.flatten().is_some_and(|host| host.starts_with(|c: char| c != '/' && c != ':')) {
            redis.error("url", "must be redis://[user:password@]host[:port][/database]");
        }
        let prefix = redis.string("prefix").unwrap_or(PREFIX).to_owned();
        if prefix.is_empty() || prefix.len() > 64 || prefix.contains(['{', '}']) {
            redis.error("prefix", "must be 1 to 64 characters, none of them a brace");
        }
        let mut duration = |name, default: Duration, least: Duration, most: Duration| {
            let given = redis.duration(name).unwrap_or(default);
            if !(least..=most).contains(&given) {
                redis.error(name, format!("must be from {least:?} to {most:?}"));
            }
            given
        };
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let deadline = duration("timeout", TIMEOUT, ms(1), s(5));
        let lease = duration("lease", LEASE, s(1), s(86_400));
        let open = match redis.string("whenUnavailable") {
            None | Some("Open") => true,
            Some("Closed") => false,
            Some(_) => {
                redis.error("whenUnavailable", "must be Open or Closed");
                true
            }
        };
        redis.finish();
        let settings = SharedSettings { address, prefix, deadline, lease };
        Some(Self { settings, open, counters: OnceLock::new() })
    }

    pub(super) fn reach(&self, outside: &Outside) {
        match outside.quotas.open(&self.settings) {
            // A second call would bring the same ones.
            Ok(counters) => drop(self.counters.set(counters)),
            Err(error) => tracing::error!(error, "the url of a quota's Redis"),
        }
    }

    /// Longest wait for an answer, with some time to hand it over.
    pub(super) fn deadline(&self) -> Duration {
        self.settings.deadline + Duration::from_millis(20)
    }

    /// Asks for what a request may come to use.
    pub(super) fn begin(
        &self,
        (rules, tenants): (Vec<usize>, Arc<[Tenant]>),
        tokens: u64,
        now: u64,
        strict: bool,
        anyway: bool,
    ) -> (Lease, BoxFuture<Verdict>) {
        let id: Arc<str> = uuid::Uuid::new_v4().simple().to_string().into();
        let lease = Lease {
            id: id.clone(),
            rules,
            tenants: tenants.clone(),
            tokens,
            taken_at: now,
            seen: false,
            standing: None,
        };
        let take = SharedTake { id, tenants, tokens, now, strict, anyway };
        let answer = self.counters.get().map(|counters| counters.take(take));
        let answer = async {
            Verdict(match answer {
                Some(answer) => answer.await,
                None => Err(Unavailable),
            })
        };
        (lease, Box::pin(answer))
    }

    /// Tells what a request has used; it `counts` where it was sent.
    pub(super) fn settle(&self, lease: Lease, tokens: u64, counts: bool, now: u64) {
        let Some(counters) = self.counters.get() else { return };
        counters.settle(SharedSettle {
            id: lease.id,
            tenants: lease.tenants,
            reserved: lease.tokens,
            tokens,
            counts,
            taken_at: lease.taken_at,
            now,
        });
    }

    /// Whether a request may go on that nobody can say anything of.
    pub(super) fn unknown(&self) -> Result<(), RequestError> {
        if self.open {
            return Ok(());
        }
        let message = "quotas cannot be looked up now";
        let retry_after = Some(Duration::from_secs(1));
        Err(RequestError::new(Code::ServiceUnavailable, message).with_retry_after(retry_after))
    }

    pub(super) fn backlog(&self) -> Backlog {
        self.counters.get().map(|counters| counters.backlog()).unwrap_or_default()
    }
}

impl Lease {
    /// What there was too little of, by index of the tenant.
    pub(super) fn overdrawn<'a>(
        &'a self,
        known: &'a SharedUse,
        strict: bool,
    ) -> impl Iterator<Item = Option<Overdrawn>> + 'a {
        known.tenants.iter().zip(self.tenants.iter()).map(move |(known, tenant)| {
            known.overdrawn(&tenant.limits, self.tokens, strict, self.taken_at)
        })
    }

    /// Remembers how the tenants stood.
    pub(super) fn stood(&mut self, known: &SharedUse) {
        let of = |(known, tenant): (&crate::quota::TenantUse, &Tenant)| {
            Standing::least(known.standings(&tenant.limits, self.taken_at))
        };
        let standings = known.tenants.iter().zip(self.tenants.iter()).filter_map(of);
        self.standing = Standing::least(standings);
    }
}
