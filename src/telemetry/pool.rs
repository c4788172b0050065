//! The metrics of the pool, worked out from its present state whenever somebody scrapes.

use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::endpoint_counts::EndpointCounts;
use super::exposition::{Info, LazyCollector};
use crate::endpoints::{Endpoint, Pool, Snapshot};
use crate::scheduling::DEFAULT_FAIRNESS_ID;

/// Mean and sample standard deviation of a signal over the endpoints with fresh metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeanAndDeviation {
    pub mean: f64,
    pub deviation: f64,
}

/// The averages published for a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolReading {
    /// Endpoints whose metrics are fresh.
    pub ready: usize,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_usage: MeanAndDeviation,
    /// Requests waiting.
    pub queue: MeanAndDeviation,
    /// Requests running.
    pub running: MeanAndDeviation,
}

/// How many scrapes went wrong since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeErrors {
    /// The endpoint did not answer, or not with metrics.
    pub poll: u64,
    /// The answer lacked a metric or had an unusable value.
    pub extract: u64,
    /// The same for each endpoint.
    pub endpoints: Vec<EndpointScrapeErrors>,
    /// The same of the pages that are asked for beside the metrics.
    pub pages: Vec<PageScrapeErrors>,
}

/// Scrapes of one kind of page that went wrong since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageScrapeErrors {
    /// Type of the data source, and of the extractor that reads its pages.
    pub source: &'static str,
    pub extractor: &'static str,
    pub poll: u64,
    pub extract: u64,
}

/// The scrapes of one endpoint that went wrong since it came into the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointScrapeErrors {
    pub name: String,
    pub namespace: String,
    pub poll: u64,
    pub extract: u64,
}

/// Where the numbers of the pool come from.
pub struct PoolSource {
    /// The pool's name, the `name` label.
    pub name: String,
    pub pool: Arc<Pool>,
    /// Averages of now.
    pub reading: Box<dyn Fn() -> PoolReading + Send + Sync>,
    pub scrape_errors: Box<dyn Fn() -> ScrapeErrors + Send + Sync>,
    /// The name of the plugin that says what is in flight, the `producer_name` label.
    pub load_producer: String,
    /// What the exchanges of each endpoint came to.
    pub counts: Arc<EndpointCounts>,
    /// The health of an endpoint of the pool; `None` where nobody watches it.
    pub health: Option<HealthReader>,
}

/// Reads the health of an endpoint.
pub type HealthReader = Box<dyn Fn(&Endpoint) -> HealthReading + Send + Sync>;

/// The health of one endpoint as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthReading {
    /// Out of service now.
    pub is_out: bool,
    /// How often it was ejected, and how often it came back.
    pub ejections: u64,
    pub returns: u64,
}

impl std::fmt::Debug for PoolSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolSource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A number of a [`PoolReading`] and the names it is published under.
struct Average {
    current: Info,
    older: Option<Info>,
    read: fn(&PoolReading) -> f64,
}

static AVERAGES: [Average; 7] = [
    Average {
        current: Info::gauge(
            "llm_d_epp_average_kv_cache_utilization",
            "Mean share of the KV cache in use, over endpoints with fresh metrics.",
        ),
        older: Some(Info::gauge(
            "inference_pool_average_kv_cache_utilization",
            "[Deprecated: use llm_d_epp_average_kv_cache_utilization] Mean share of the KV cache \
             in use.",
        )),
        read: |r| r.kv_usage.mean,
    },
    Average {
        current: Info::gauge(
            "llm_d_epp_average_queue_size",
            "Mean number of requests waiting at an endpoint, over endpoints with fresh metrics.",
        ),
        older: Some(Info::gauge(
            "inference_pool_average_queue_size",
            "[Deprecated: use llm_d_epp_average_queue_size] Mean number of requests waiting.",
        )),
        read: |r| r.queue.mean,
    },
    Average {
        current: Info::gauge(
            "llm_d_epp_average_running_requests",
            "Mean number of requests an endpoint runs, over endpoints with fresh metrics.",
        ),
        older: Some(Info::gauge(
            "inference_pool_average_running_requests",
            "[Deprecated: use llm_d_epp_average_running_requests] Mean number of requests run.",
        )),
        read: |r| r.running.mean,
    },
    Average {
        current: Info::gauge(
            "llm_d_epp_std_dev_kv_cache_utilization",
            "Sample standard deviation of the share of the KV cache in use.",
        ),
        older: None,
        read: |r| r.kv_usage.deviation,
    },
    Average {
        current: Info::gauge(
            "llm_d_epp_std_dev_queue_size",
            "Sample standard deviation of the number of requests waiting.",
        ),
        older: None,
        read: |r| r.queue.deviation,
    },
    Average {
        current: Info::gauge(
            "llm_d_epp_std_dev_running_requests",
            "Sample standard deviation of the number of requests run.",
        ),
        older: None,
        read: |r| r.running.deviation,
    },
    Average {
        current: Info::gauge("llm_d_epp_ready_endpoints", "Endpoints with fresh metrics."),
        older: Some(Info::gauge(
            "inference_pool_ready_pods",
            "[Deprecated: use llm_d_epp_ready_endpoints] Endpoints with fresh metrics.",
        )),
        read: |r| r.ready as f64,
    },
];

const QUEUE: Info = Info::gauge(
    "llm_d_epp_per_endpoint_queue_size",
    "Requests waiting at an endpoint, as it last told.",
);
const OLD_QUEUE: Info = Info::gauge(
    "inference_pool_per_pod_queue_size",
    "[Deprecated: use llm_d_epp_per_endpoint_queue_size] Requests waiting at an endpoint.",
);
const IN_FLIGHT_REQUESTS: Info = Info::gauge(
    "llm_d_epp_inflight_requests",
    "Requests sent to an endpoint whose exchange has not ended.",
);
const IN_FLIGHT_TOKENS: Info = Info::gauge(
    "llm_d_epp_inflight_tokens",
    "Prompt tokens sent to an endpoint that it has not answered yet.",
);
const POLL_ERRORS: Info = Info::counter(
    "llm_d_epp_datalayer_poll_errors_total",
    "Scrapes of a worker that failed, by data source.",
);
const OLD_POLL_ERRORS: Info = Info::counter(
    "llm_d_inference_scheduler_datalayer_poll_errors_total",
    "[Deprecated: use llm_d_epp_datalayer_poll_errors_total] Scrapes that failed.",
);
const EXTRACT_ERRORS: Info = Info::counter(
    "llm_d_epp_datalayer_extract_errors_total",
    "Answers of a worker that lacked a metric or had an unusable value.",
);
const OLD_EXTRACT_ERRORS: Info = Info::counter(
    "llm_d_inference_scheduler_datalayer_extract_errors_total",
    "[Deprecated: use llm_d_epp_datalayer_extract_errors_total] Answers not fully read.",
);
const EJECTED: Info =
    Info::gauge("llm_d_epp_ejected_endpoints", "Endpoints that are out of service for failing.");
const EJECTIONS: Info =
    Info::counter("llm_d_epp_endpoint_ejections_total", "How often an endpoint was ejected.");
const RETURNS: Info = Info::counter(
    "llm_d_epp_endpoint_returns_total",
    "How often an endpoint came back after it was ejected.",
);
const ENDPOINT_ERRORS: Info = Info::counter(
    "llm_d_epp_endpoint_scrape_errors_total",
    "Scrapes of an endpoint that failed (poll), signals they did not hold (extract).",
);
const REQUEST_ERRORS: Info = Info::counter(
    "llm_d_epp_endpoint_request_errors_total",
    "Requests that an endpoint answered with an error (ModelServerError), or not at all before \
     they ended (NoResponse).",
);
const PROMPT_TOKENS: Info = Info::counter(
    "llm_d_epp_endpoint_prompt_tokens_total",
    "Tokens of prompts that an endpoint was sent, as its usage tells.",
);
const CACHED_TOKENS: Info = Info::counter(
    "llm_d_epp_endpoint_cached_tokens_total",
    "Those of them that it had cached, as its usage tells.",
);
const SINGLE: [Info; 15] = [
    REQUEST_ERRORS,
    PROMPT_TOKENS,
    CACHED_TOKENS,
    ENDPOINT_ERRORS,
    EJECTED,
    EJECTIONS,
    RETURNS,
    QUEUE,
    OLD_QUEUE,
    IN_FLIGHT_REQUESTS,
    IN_FLIGHT_TOKENS,
    POLL_ERRORS,
    OLD_POLL_ERRORS,
    EXTRACT_ERRORS,
    OLD_EXTRACT_ERRORS,
];

pub(super) fn collector(
    source: PoolSource,
) -> prometheus::Result<impl prometheus::core::Collector> {
    let averages = AVERAGES.iter().flat_map(|a| [Some(&a.current), a.older.as_ref()]).flatten();
    LazyCollector::new(averages.chain(&SINGLE), move || collect(&source))
}

fn collect(source: &PoolSource) -> Vec<MetricFamily> {
    let reading = (source.reading)();
    let name = ("name", source.name.as_str());
    let mut families = Vec::new();
    for average in &AVERAGES {
        for info in [Some(&average.current), average.older.as_ref()].into_iter().flatten() {
            families.push(info.family(vec![info.sample(&[name], (average.read)(&reading))]));
        }
    }

    let endpoints = source.pool.snapshot();
    let mut queue = Vec::with_capacity(endpoints.endpoints.len());
    let mut old_queue = Vec::with_capacity(endpoints.endpoints.len());
    let mut requests = Vec::with_capacity(endpoints.endpoints.len());
    let mut tokens = Vec::with_capacity(endpoints.endpoints.len());
    for endpoint in &endpoints.endpoints {
        let signals = endpoint.signals.load();
        let endpoint_name = endpoint.spec.name.as_str();
        // Of an endpoint that was never read nothing is known, which is not 0.
        if signals.updated_at.is_some() {
            let waiting = f64::from(signals.waiting);
            queue.push(QUEUE.sample(&[("model_server_endpoint", endpoint_name), name], waiting));
            old_queue.push(OLD_QUEUE.sample(&[("model_server_pod", endpoint_name), name], waiting));
        }
        let mut sample = |fairness_id: &str, priority: i32, in_flight: (i64, i64)| {
            let labels = [
                ("endpoint_name", endpoint_name),
                ("fairness_id", fairness_id),
                ("namespace", endpoint.spec.namespace.as_str()),
                ("priority", &priority.to_string()),
                ("producer_name", source.load_producer.as_str()),
            ];
            requests.push(IN_FLIGHT_REQUESTS.sample(&labels, in_flight.0 as f64));
            tokens.push(IN_FLIGHT_TOKENS.sample(&labels, in_flight.1 as f64));
        };
        let shares = endpoint.in_flight.shares.all();
        if shares.is_empty() {
            // Nothing is known better than that nothing is in flight there.
            sample(DEFAULT_FAIRNESS_ID, 0, (0, 0));
        }
        for share in shares {
            let in_flight = (share.requests(), share.tokens());
            sample(&share.fairness_id, share.priority, in_flight);
        }
    }
    families.extend([
        QUEUE.family(queue),
        OLD_QUEUE.family(old_queue),
        IN_FLIGHT_REQUESTS.family(requests),
        IN_FLIGHT_TOKENS.family(tokens),
    ]);

    families.extend(count_families(&endpoints, &source.counts));
    if let Some(health) = &source.health {
        families.extend(health_families(&endpoints, name, health));
    }

    let errors = (source.scrape_errors)();
    let metrics = PageScrapeErrors {
        source: "metrics-data-source",
        extractor: "core-metrics-extractor",
        poll: errors.poll,
        extract: errors.extract,
    };
    let pages = || std::iter::once(&metrics).chain(&errors.pages);
    for info in [POLL_ERRORS, OLD_POLL_ERRORS] {
        let sample = |page: &PageScrapeErrors| {
            info.sample(&[("source_type", page.source)], page.poll as f64)
        };
        families.push(info.family(pages().map(sample).collect()));
    }
    for info in [EXTRACT_ERRORS, OLD_EXTRACT_ERRORS] {
        let sample = |page: &PageScrapeErrors| {
            let labels = [("extractor_type", page.extractor), ("source_type", page.source)];
            info.sample(&labels, page.extract as f64)
        };
        families.push(info.family(pages().map(sample).collect()));
    }
    let mut of_endpoints = Vec::with_capacity(2 * errors.endpoints.len());
    for endpoint in &errors.endpoints {
        for (stage, count) in [("extract", endpoint.extract), ("poll", endpoint.poll)] {
            let labels = [
                ("endpoint_name", endpoint.name.as_str()),
                ("namespace", endpoint.namespace.as_str()),
                ("stage", stage),
            ];
            of_endpoints.push(ENDPOINT_ERRORS.sample(&labels, count as f64));
        }
    }
    families.push(ENDPOINT_ERRORS.family(of_endpoints));
    families
}

fn count_families(endpoints: &Snapshot, counts: &EndpointCounts) -> [MetricFamily; 3] {
    let (mut errors, mut prompt, mut cached) = (Vec::new(), Vec::new(), Vec::new());
    for endpoint in &endpoints.endpoints {
        let Some(count) = counts.of(endpoint) else { continue };
        let name = ("endpoint_name", endpoint.spec.name.as_str());
        let namespace = ("namespace", endpoint.spec.namespace.as_str());
        for (code, n) in
            [("ModelServerError", count.server_errors), ("NoResponse", count.unanswered)]
        {
            let labels = [name, ("error_code", code), namespace];
            errors.push(REQUEST_ERRORS.sample(&labels, n as f64));
        }
        prompt.push(PROMPT_TOKENS.sample(&[name, namespace], count.prompt_tokens as f64));
        cached.push(CACHED_TOKENS.sample(&[name, namespace], count.cached_tokens as f64));
    }
    [REQUEST_ERRORS.family(errors), PROMPT_TOKENS.family(prompt), CACHED_TOKENS.family(cached)]
}

fn health_families(
    endpoints: &Snapshot,
    pool: (&'static str, &str),
    health: &HealthReader,
) -> [MetricFamily; 3] {
    let (mut out, mut ejections, mut returns) = (0.0, Vec::new(), Vec::new());
    for endpoint in &endpoints.endpoints {
        let reading = health(endpoint);
        out += f64::from(u8::from(reading.is_out));
        let labels = [
            ("endpoint_name", endpoint.spec.name.as_str()),
            ("namespace", endpoint.spec.namespace.as_str()),
        ];
        ejections.push(EJECTIONS.sample(&labels, reading.ejections as f64));
        returns.push(RETURNS.sample(&labels, reading.returns as f64));
    }
    [
        EJECTED.family(vec![EJECTED.sample(&[pool], out)]),
        EJECTIONS.family(ejections),
        RETURNS.family(returns),
    ]
}
