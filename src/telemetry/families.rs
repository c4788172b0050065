//! Under which names and labels the request metrics are published.
//!
//! One set of numbers per (model, target, fairness id, priority) is published under today's
//! names of llm-d-router (main at ebab6879) and, summed over the labels that did not exist yet,
//! under the names that dashboards and autoscalers of earlier versions ask for:
//! `inference_objective_*` (GIE v1) and `inference_model_*` (GIE v0.5, llm-d v0.2.0).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::proto::{Metric, MetricFamily};

use super::exposition::{Info, histogram_sample};
use super::series::RequestSeries;
use crate::scheduling::Histogram;

type Labels<'a> = Vec<(&'static str, &'a str)>;
type Groups<'a> = BTreeMap<Labels<'a>, Vec<&'a RequestSeries>>;

/// Which labels a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// Model, target, fairness id and priority.
    Full,
    /// Model, target and priority.
    Priority,
    /// Model and target.
    Target,
    /// The model alone.
    Model,
}

impl Scope {
    fn labels(self, s: &RequestSeries) -> Labels<'_> {
        let model = ("model_name", s.model.as_str());
        let target = ("target_model_name", s.target.as_str());
        let priority = ("priority", s.priority.as_str());
        match self {
            Scope::Full => vec![("fairness_id", &s.fairness), model, priority, target],
            Scope::Priority => vec![model, priority, target],
            Scope::Target => vec![model, target],
            Scope::Model => vec![model],
        }
    }
}

/// Which number of a series a family shows.
#[derive(Clone, Copy)]
enum Reading {
    Accepted,
    /// With the label `error_code`.
    Errors,
    Running,
    /// With the label `streaming`.
    FirstToken,
    Histogram(fn(&RequestSeries) -> &Histogram),
}

pub(super) struct RequestFamily {
    pub info: Info,
    scope: Scope,
    reading: Reading,
}

const fn counter(
    name: &'static str,
    help: &'static str,
    scope: Scope,
    reading: Reading,
) -> RequestFamily {
    RequestFamily { info: Info::counter(name, help), scope, reading }
}

const fn gauge(name: &'static str, help: &'static str, scope: Scope) -> RequestFamily {
    RequestFamily { info: Info::gauge(name, help), scope, reading: Reading::Running }
}

const fn histogram(
    name: &'static str,
    help: &'static str,
    scope: Scope,
    reading: Reading,
) -> RequestFamily {
    RequestFamily { info: Info::histogram(name, help), scope, reading }
}

const DURATION: Reading = Reading::Histogram(|s| &s.duration);
const REQUEST_BYTES: Reading = Reading::Histogram(|s| &s.request_bytes);
const RESPONSE_BYTES: Reading = Reading::Histogram(|s| &s.response_bytes);
const INPUT_TOKENS: Reading = Reading::Histogram(|s| &s.input_tokens);
const OUTPUT_TOKENS: Reading = Reading::Histogram(|s| &s.output_tokens);
const CACHED_TOKENS: Reading = Reading::Histogram(|s| &s.cached_tokens);
const PER_TOKEN: Reading = Reading::Histogram(|s| &s.per_output_token);
const STREAMING_PER_TOKEN: Reading = Reading::Histogram(|s| &s.streaming_per_token);
const INTER_TOKEN: Reading = Reading::Histogram(|s| &s.inter_token);

/// The families of one older generation: the same numbers under one prefix.
macro_rules! older {
    ($prefix:literal, $counter_scope:expr) => {
        [
            counter(
                concat!($prefix, "_request_total"),
                "[Deprecated: use llm_d_epp_request_total] Requests scheduled.",
                $counter_scope,
                Reading::Accepted,
            ),
            counter(
                concat!($prefix, "_request_error_total"),
                "[Deprecated: use llm_d_epp_request_error_total] Requests that ended in an error.",
                Scope::Target,
                Reading::Errors,
            ),
            histogram(
                concat!($prefix, "_request_duration_seconds"),
                "[Deprecated: use llm_d_epp_request_duration_seconds] Duration of a request.",
                Scope::Target,
                DURATION,
            ),
            histogram(
                concat!($prefix, "_request_sizes"),
                "[Deprecated: use llm_d_epp_request_size_bytes] Size of a request body in bytes.",
                Scope::Target,
                REQUEST_BYTES,
            ),
            histogram(
                concat!($prefix, "_response_sizes"),
                "[Deprecated: use llm_d_epp_response_size_bytes] Size of a response in bytes.",
                Scope::Target,
                RESPONSE_BYTES,
            ),
            histogram(
                concat!($prefix, "_input_tokens"),
                "[Deprecated: use llm_d_epp_request_input_tokens] Tokens of a prompt.",
                Scope::Target,
                INPUT_TOKENS,
            ),
            histogram(
                concat!($prefix, "_output_tokens"),
                "[Deprecated: use llm_d_epp_request_output_tokens] Tokens of an answer.",
                Scope::Target,
                OUTPUT_TOKENS,
            ),
            gauge(
                concat!($prefix, "_running_requests"),
                "[Deprecated: use llm_d_epp_request_running] Requests now at a worker.",
                Scope::Model,
            ),
            histogram(
                concat!($prefix, "_normalized_time_per_output_token_seconds"),
                "[Deprecated: use llm_d_epp_request_ntpot_seconds] Duration of a request divided \
                 by its output tokens.",
                Scope::Target,
                PER_TOKEN,
            ),
        ]
    };
}

static CURRENT: [RequestFamily; 13] = [
    counter(
        "llm_d_epp_request_total",
        "Requests accepted and scheduled.",
        Scope::Full,
        Reading::Accepted,
    ),
    counter(
        "llm_d_epp_request_error_total",
        "Requests that ended in an error, by its code.",
        Scope::Full,
        Reading::Errors,
    ),
    histogram(
        "llm_d_epp_request_duration_seconds",
        "From the request's headers to the end of the response.",
        Scope::Full,
        DURATION,
    ),
    histogram(
        "llm_d_epp_request_size_bytes",
        "Size of a request body in bytes.",
        Scope::Full,
        REQUEST_BYTES,
    ),
    histogram(
        "llm_d_epp_response_size_bytes",
        "Size of a response body in bytes.",
        Scope::Full,
        RESPONSE_BYTES,
    ),
    histogram(
        "llm_d_epp_request_input_tokens",
        "Tokens of a prompt, as the worker's usage tells.",
        Scope::Full,
        INPUT_TOKENS,
    ),
    histogram(
        "llm_d_epp_request_output_tokens",
        "Tokens of an answer, as the worker's usage tells.",
        Scope::Full,
        OUTPUT_TOKENS,
    ),
    histogram(
        "llm_d_epp_request_cached_tokens",
        "Tokens of a prompt that the worker had cached, as its usage tells.",
        Scope::Full,
        CACHED_TOKENS,
    ),
    gauge("llm_d_epp_request_running", "Requests now at a worker.", Scope::Full),
    histogram(
        "llm_d_epp_request_ntpot_seconds",
        "Duration of a request divided by its output tokens.",
        Scope::Full,
        PER_TOKEN,
    ),
    histogram(
        "llm_d_epp_request_ttft_seconds",
        "From the request's headers to the first byte of the response body.",
        Scope::Full,
        Reading::FirstToken,
    ),
    histogram(
        "llm_d_epp_request_streaming_tpot_seconds",
        "Time per output token after the first one, streamed responses only.",
        Scope::Full,
        STREAMING_PER_TOKEN,
    ),
    histogram(
        "llm_d_epp_request_streaming_itl_seconds",
        "Time between two chunks of a streamed response.",
        Scope::Full,
        INTER_TOKEN,
    ),
];

static OBJECTIVE: [RequestFamily; 9] = older!("inference_objective", Scope::Priority);
static OBJECTIVE_CACHED: [RequestFamily; 1] = [histogram(
    "inference_objective_prompt_cached_tokens",
    "[Deprecated: use llm_d_epp_request_cached_tokens] Tokens of a prompt that were cached.",
    Scope::Target,
    CACHED_TOKENS,
)];
static MODEL: [RequestFamily; 9] = older!("inference_model", Scope::Target);

/// Every request metric there is.
pub(super) fn all() -> impl Iterator<Item = &'static RequestFamily> {
    CURRENT.iter().chain(&OBJECTIVE).chain(&OBJECTIVE_CACHED).chain(&MODEL)
}

/// The samples of all request metrics. What was never observed is left out, as in the reference.
pub(super) fn collect(series: &[Arc<RequestSeries>]) -> Vec<MetricFamily> {
    let mut by_scope: BTreeMap<Scope, Groups<'_>> = BTreeMap::new();
    for family in all() {
        by_scope.entry(family.scope).or_insert_with(|| group(series, family.scope));
    }
    all()
        .filter_map(|family| {
            let groups = by_scope.get(&family.scope)?;
            let samples =
                groups.iter().flat_map(|(labels, members)| family.samples(labels, members));
            Some(family.info.family(samples.collect()))
        })
        .collect()
}

fn group(series: &[Arc<RequestSeries>], scope: Scope) -> Groups<'_> {
    let mut groups = Groups::new();
    for s in series {
        groups.entry(scope.labels(s)).or_default().push(s);
    }
    groups
}

impl RequestFamily {
    /// The samples of one group: series that have the same labels in this family's scope.
    fn samples(&self, labels: &Labels<'_>, members: &[&RequestSeries]) -> Vec<Metric> {
        match self.reading {
            Reading::Accepted => {
                let total: u64 = members.iter().map(|s| s.accepted.load(Ordering::Relaxed)).sum();
                Vec::from_iter((total > 0).then(|| self.info.sample(labels, total as f64)))
            }
            Reading::Running => {
                if labels.contains(&("model_name", "")) {
                    return Vec::new();
                }
                let total: i64 = members.iter().map(|s| s.running.load(Ordering::Relaxed)).sum();
                vec![self.info.sample(labels, total as f64)]
            }
            Reading::Errors => {
                let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
                for s in members {
                    for (code, count) in s.errors.lock().iter() {
                        *totals.entry(code).or_default() += count;
                    }
                }
                totals
                    .into_iter()
                    .map(|(code, n)| self.info.sample(&with(labels, "error_code", code), n as f64))
                    .collect()
            }
            Reading::FirstToken => {
                let plain = merged(labels, "false", members, |s| &s.first_token);
                let streaming = merged(labels, "true", members, |s| &s.first_token_streaming);
                plain.into_iter().chain(streaming).collect()
            }
            Reading::Histogram(read) => Vec::from_iter(histogram_of(labels, members, read)),
        }
    }
}

fn merged(
    labels: &Labels<'_>,
    streaming: &str,
    members: &[&RequestSeries],
    read: fn(&RequestSeries) -> &Histogram,
) -> Option<Metric> {
    histogram_of(&with(labels, "streaming", streaming), members, read)
}

/// The sum of one histogram over `members`, if there is anything in it.
fn histogram_of(
    labels: &[(&str, &str)],
    members: &[&RequestSeries],
    read: fn(&RequestSeries) -> &Histogram,
) -> Option<Metric> {
    let mut tally = read(members.first()?).empty_tally();
    for s in members {
        read(s).add_to(&mut tally);
    }
    (tally.total() > 0).then(|| histogram_sample(labels, &tally))
}

fn with<'a>(labels: &Labels<'a>, name: &'static str, value: &'a str) -> Labels<'a> {
    let mut labels = labels.clone();
    labels.push((name, value));
    labels
}
