use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use super::buckets;
use super::cardinality::{CardinalityLimiter, OTHER, cut};
use super::exposition::{Info, LazyCollector, histogram_sample, with_go_bounds};
use super::flow_control::{FlowControlSource, QueueTimes};
use super::plugin_metrics::PublishingPlugins;
use super::pool::{self, PoolSource};
use super::series::RequestSeries;
use super::streams::StreamMetrics;
use super::{families, flow_control, plugin_metrics, process};
use crate::endpoints::EndpointSpec;
use crate::exchange::Ending;
use crate::scheduling::{Histogram, PluginMetrics};

/// Distinct model names (asked for and targets together), and distinct fairness ids, before new
/// ones are counted as `other`. The reference's limits.
const MAX_NAMES: usize = 1000;

/// Combinations of labels before new ones are counted as `other`. Ours; in the reference a million
/// combinations may arise.
const MAX_SERIES: usize = 1_000;
/// The same of models that are real ([`CardinalityLimiter::is_real`]).
const MAX_REAL_SERIES: usize = 5_000;
/// Targets and endpoints, of scheduling attempts.
const MAX_ATTEMPTS: usize = 20_000;

/// What this program was built from, for the `info` metric and the first log line.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    pub commit: &'static str,
    pub build_ref: &'static str,
}

impl BuildInfo {
    /// From the variables `EPP_COMMIT` and `EPP_BUILD_REF` of the build.
    pub const fn of_this_build() -> Self {
        Self {
            commit: match option_env!("EPP_COMMIT") {
                Some(commit) => commit,
                None => "unknown",
            },
            build_ref: match option_env!("EPP_BUILD_REF") {
                Some(build_ref) => build_ref,
                None => concat!("v", env!("CARGO_PKG_VERSION")),
            },
        }
    }
}

/// Everything `epp` counts about itself.
///
/// Requests touch cached atomics; names, labels and the texts of the exposition format are put
/// together when somebody scrapes.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// One page is put together at a time, since a large one takes much memory.
    rendering: Mutex<()>,
    live: Arc<Live>,
    pub(super) queue_times: Arc<QueueTimes>,
}

/// The numbers, shared with the collectors of the registry.
#[derive(Debug)]
struct Live {
    series: DashMap<Box<[u8]>, Arc<RequestSeries>>,
    models: CardinalityLimiter,
    fairness_ids: CardinalityLimiter,
    attempts: DashMap<Box<[u8]>, Attempts>,
    scheduling: Histogram,
    request_processing: Histogram,
    response_processing: Histogram,
    rewrites: DashMap<Box<[u8]>, Rewrites>,
    endings: [AtomicU64; Ending::ALL.len()],
}

#[derive(Debug)]
struct Attempts {
    ok: bool,
    target: String,
    endpoint: String,
    namespace: String,
    port: String,
    count: AtomicU64,
}

#[derive(Debug)]
struct Rewrites {
    rewrite: String,
    model: String,
    target: String,
    count: AtomicU64,
}

const ATTEMPTS: Info =
    Info::counter("llm_d_epp_scheduler_attempts_total", "Scheduling calls, by what they picked.");
const OLD_ATTEMPTS: Info = Info::counter(
    "inference_extension_scheduler_attempts_total",
    "[Deprecated: use llm_d_epp_scheduler_attempts_total] Scheduling calls.",
);
const SCHEDULING: Info =
    Info::histogram("llm_d_epp_scheduler_e2e_duration_seconds", "Duration of a scheduling call.");
const OLD_SCHEDULING: Info = Info::histogram(
    "inference_extension_scheduler_e2e_duration_seconds",
    "[Deprecated: use llm_d_epp_scheduler_e2e_duration_seconds] Duration of a scheduling call.",
);
const REQUEST_PROCESSING: Info = Info::histogram(
    "llm_d_epp_request_processing_duration_seconds",
    "Time epp itself spent on a request.",
);
const RESPONSE_PROCESSING: Info = Info::histogram(
    "llm_d_epp_response_processing_duration_seconds",
    "Time epp itself spent on the pieces of a streamed response; else from a response's headers \
     to its end.",
);
const REWRITES: Info =
    Info::counter("llm_d_epp_model_rewrite_decisions_total", "Model names that were rewritten.");
const OLD_REWRITES: Info = Info::counter(
    "inference_extension_model_rewrite_decisions_total",
    "[Deprecated: use llm_d_epp_model_rewrite_decisions_total] Model names that were rewritten.",
);
const BUILD: Info = Info::gauge("llm_d_epp_info", "What this program was built from.");
const OLD_BUILD: Info = Info::gauge(
    "inference_extension_info",
    "[Deprecated: use llm_d_epp_info] What this program was built from.",
);
/// Ours: the reference does not tell how exchanges end.
const ENDINGS: Info =
    Info::counter("llm_d_epp_exchanges_total", "HTTP exchanges that ended, by how they did.");
const OWN: [Info; 11] = [
    ENDINGS,
    ATTEMPTS,
    OLD_ATTEMPTS,
    SCHEDULING,
    OLD_SCHEDULING,
    REQUEST_PROCESSING,
    RESPONSE_PROCESSING,
    REWRITES,
    OLD_REWRITES,
    BUILD,
    OLD_BUILD,
];

impl Metrics {
    /// All metrics but the pool's, which [`Metrics::add_pool`] adds. Fails only where two
    /// metrics were given one name, which is a mistake in this crate.
    pub fn new() -> prometheus::Result<Self> {
        let live = Arc::new(Live {
            series: DashMap::new(),
            models: CardinalityLimiter::new(MAX_NAMES),
            fairness_ids: CardinalityLimiter::new(MAX_NAMES),
            attempts: DashMap::new(),
            scheduling: Histogram::seconds(buckets::SCHEDULING),
            request_processing: Histogram::seconds(buckets::REQUEST_PROCESSING),
            response_processing: Histogram::seconds(buckets::RESPONSE_PROCESSING),
            rewrites: DashMap::new(),
            endings: Default::default(),
        });
        let registry = Registry::new();
        let request_infos = families::all().map(|family| &family.info);
        let shared = live.clone();
        registry.register(Box::new(LazyCollector::new(request_infos, move || {
            let series: Vec<_> = shared.series.iter().map(|s| s.value().clone()).collect();
            families::collect(&series)
        })?))?;
        let shared = live.clone();
        registry.register(Box::new(LazyCollector::new(&OWN, move || shared.collect())?))?;
        registry.register(Box::new(process::collector()?))?;
        Ok(Self { registry, rendering: Mutex::default(), live, queue_times: Arc::default() })
    }

    /// Publishes the metrics of a pool. Fails where it was called before.
    pub fn add_pool(&self, source: PoolSource) -> prometheus::Result<()> {
        self.registry.register(Box::new(pool::collector(source)?))
    }

    /// Publishes what plugins count of their own. Fails where two of them, or a plugin and we,
    /// call different things by one name.
    pub fn add_plugins(
        &self,
        plugins: Vec<Arc<dyn PluginMetrics>>,
    ) -> prometheus::Result<Arc<PublishingPlugins>> {
        let plugins = Arc::new(PublishingPlugins::new(plugins));
        if !plugins.is_empty() {
            self.registry.register(Box::new(plugin_metrics::collector(plugins.clone())?))?;
        }
        Ok(plugins)
    }

    /// Publishes the metrics of the queue. Fails where it was called before.
    pub fn add_flow_control(&self, source: FlowControlSource) -> prometheus::Result<()> {
        let shared = self.live.clone();
        let series = move || shared.series.iter().map(|s| s.value().clone()).collect();
        let times = self.queue_times.clone();
        self.registry.register(Box::new(flow_control::collector(source, times, series)?))
    }

    /// Publishes the metrics of ext_proc streams. Fails where it was called before.
    pub fn add_streams(&self) -> prometheus::Result<Arc<StreamMetrics>> {
        let streams = Arc::new(StreamMetrics::new());
        self.registry.register(Box::new(streams.clone().collector()?))?;
        Ok(streams)
    }

    /// Model names that operators configured: they are always told apart.
    pub fn always_keep_models(&self, names: impl IntoIterator<Item = String>) {
        self.live.models.always_keep(names);
    }

    /// The series of a request: `model` as asked for, `target` as sent to the worker (after a
    /// rewrite), the client's fairness id. Fetch it once per request and keep it.
    pub fn request_series(
        &self,
        model: &str,
        target: &str,
        fairness: &str,
        priority: i32,
    ) -> Arc<RequestSeries> {
        let live = &*self.live;
        let (model, target, fairness) = (cut(model), cut(target), cut(fairness));
        if let Some(series) = live.find_series(model, target, fairness, priority) {
            return series;
        }
        let model = live.models.admit(model);
        let target = live.models.admit(target);
        let fairness = live.fairness_ids.admit(fairness);
        let is_real = || live.models.is_real(model) && live.models.is_real(target);
        let room = match live.series.len() {
            0..MAX_SERIES => true,
            MAX_SERIES..MAX_REAL_SERIES => is_real(),
            _ => false,
        };
        if room {
            return live.find_or_add_series(model, target, fairness, priority);
        }
        live.find_series(model, target, fairness, priority)
            .unwrap_or_else(|| live.find_or_add_series(OTHER, OTHER, OTHER, 0))
    }

    /// An endpoint answered a request for `target`, which was asked for as `model`.
    pub fn models_are_real(&self, model: &str, target: &str) {
        self.live.models.prove(cut(model));
        if target != model {
            self.live.models.prove(cut(target));
        }
    }

    /// One scheduling call took `seconds` for a request for `target_model` and picked `endpoint`,
    /// or nothing.
    pub fn scheduler(&self, seconds: f64, target_model: &str, endpoint: Option<&EndpointSpec>) {
        let ok = endpoint.is_some();
        let (endpoint_name, namespace, port) = match endpoint {
            Some(spec) => (spec.name.as_str(), spec.namespace.as_str(), spec.port),
            None => ("", "", 0),
        };
        let live = &*self.live;
        let target_model = cut(target_model);
        live.scheduling.observe(seconds);
        let count = |target: &str, create: bool| {
            let target_bytes = target.as_bytes();
            let parts =
                [&[u8::from(ok)], target_bytes, endpoint_name.as_bytes(), namespace.as_bytes()];
            with_key(&parts, u32::from(port), |key| {
                if let Some(attempts) = live.attempts.get(key) {
                    attempts.count.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
                if create {
                    let fresh = || Attempts {
                        ok,
                        target: target.to_owned(),
                        endpoint: endpoint_name.to_owned(),
                        namespace: namespace.to_owned(),
                        port: if ok { port.to_string() } else { String::new() },
                        count: AtomicU64::new(0),
                    };
                    let attempts = live.attempts.entry(key.into()).or_insert_with(fresh);
                    attempts.count.fetch_add(1, Ordering::Relaxed);
                }
                create
            })
        };
        // What was counted before needs no look at the limits.
        if !count(target_model, false) {
            let is_full = live.attempts.len() >= MAX_ATTEMPTS;
            count(if is_full { OTHER } else { live.models.admit(target_model) }, true);
        }
    }

    /// Drops the series of an endpoint that left the pool, so that they do not pile up as
    /// workers come and go.
    pub fn forget_endpoint(&self, endpoint_name: &str, namespace: &str) {
        self.live.attempts.retain(|_, a| a.endpoint != endpoint_name || a.namespace != namespace);
    }

    /// `rewrite` (an object's name) turned `model` into `target`.
    pub fn model_rewritten(&self, rewrite: &str, model: &str, target: &str) {
        let live = &*self.live;
        let admit = |name| live.models.admit(cut(name));
        let (model, target) = (admit(model), admit(target));
        with_key(&[rewrite.as_bytes(), model.as_bytes(), target.as_bytes()], 0, |key| {
            let fresh = || Rewrites {
                rewrite: rewrite.to_owned(),
                model: model.to_owned(),
                target: target.to_owned(),
                count: AtomicU64::new(0),
            };
            let rewrites = live.rewrites.entry(key.into()).or_insert_with(fresh);
            rewrites.count.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// An exchange ended in this way.
    pub(super) fn ended(&self, ending: Ending) {
        if let Some(at) = Ending::ALL.iter().position(|e| *e == ending) {
            self.live.endings[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Our own time on a request, from its headers to our answer, seconds.
    pub fn request_processing(&self, seconds: f64) {
        self.live.request_processing.observe(seconds);
    }

    /// Our own time on a response ([`crate::exchange::Times::response_work`]), seconds.
    pub fn response_processing(&self, seconds: f64) {
        self.live.response_processing.observe(seconds);
    }

    /// Everything in the exposition format (`text/plain; version=0.0.4`).
    pub fn render(&self) -> prometheus::Result<String> {
        let _one_at_a_time = self.rendering.lock();
        TextEncoder::new().encode_to_string(&self.registry.gather()).map(with_go_bounds)
    }
}

impl Live {
    fn find_series(
        &self,
        model: &str,
        target: &str,
        fairness: &str,
        priority: i32,
    ) -> Option<Arc<RequestSeries>> {
        with_series_key(model, target, fairness, priority, |key| {
            self.series.get(key).map(|series| series.clone())
        })
    }

    fn find_or_add_series(
        &self,
        model: &str,
        target: &str,
        fairness: &str,
        priority: i32,
    ) -> Arc<RequestSeries> {
        with_series_key(model, target, fairness, priority, |key| {
            self.series
                .entry(key.into())
                .or_insert_with(|| RequestSeries::new(model, target, fairness, priority))
                .clone()
        })
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut attempts = Vec::with_capacity(self.attempts.len());
        let mut old_attempts = Vec::with_capacity(self.attempts.len());
        for a in &self.attempts {
            let count = a.count.load(Ordering::Relaxed) as f64;
            let labels = |endpoint_label| {
                [
                    (endpoint_label, a.endpoint.as_str()),
                    ("namespace", a.namespace.as_str()),
                    ("port", a.port.as_str()),
                    ("status", if a.ok { "success" } else { "failure" }),
                    ("target_model_name", a.target.as_str()),
                ]
            };
            attempts.push(ATTEMPTS.sample(&labels("endpoint_name"), count));
            old_attempts.push(OLD_ATTEMPTS.sample(&labels("pod_name"), count));
        }
        let mut rewrites = Vec::with_capacity(self.rewrites.len());
        for r in &self.rewrites {
            let labels = [
                ("model_name", r.model.as_str()),
                ("model_rewrite_name", r.rewrite.as_str()),
                ("target_model", r.target.as_str()),
            ];
            rewrites.push(REWRITES.sample(&labels, r.count.load(Ordering::Relaxed) as f64));
        }
        let histogram = |info: Info, h: &Histogram| {
            let tally = h.tally();
            let sample = (tally.total() > 0).then(|| histogram_sample(&[], &tally));
            info.family(Vec::from_iter(sample))
        };
        let endings = Ending::ALL.iter().zip(&self.endings).map(|(ending, count)| {
            let count = count.load(Ordering::Relaxed) as f64;
            ENDINGS.sample(&[("ending", ending.as_str())], count)
        });
        let build = BuildInfo::of_this_build();
        let labels = [("build_ref", build.build_ref), ("commit", build.commit)];
        vec![
            ENDINGS.family(endings.collect()),
            ATTEMPTS.family(attempts),
            OLD_ATTEMPTS.family(old_attempts),
            histogram(SCHEDULING, &self.scheduling),
            histogram(OLD_SCHEDULING, &self.scheduling),
            histogram(REQUEST_PROCESSING, &self.request_processing),
            histogram(RESPONSE_PROCESSING, &self.response_processing),
            OLD_REWRITES.family(rewrites.clone()),
            REWRITES.family(rewrites),
            BUILD.family(vec![BUILD.sample(&labels, 1.0)]),
            OLD_BUILD.family(vec![OLD_BUILD.sample(&labels, 1.0)]),
        ]
    }
}

fn with_series_key<R>(
    model: &str,
    target: &str,
    fairness: &str,
    priority: i32,
    f: impl FnOnce(&[u8]) -> R,
) -> R {
    let parts = [model.as_bytes(), target.as_bytes(), fairness.as_bytes()];
    with_key(&parts, priority as u32, f)
}

/// Calls `f` with a key that no other `parts` and `number` have, made without allocating.
fn with_key<R>(parts: &[&[u8]], number: u32, f: impl FnOnce(&[u8]) -> R) -> R {
    thread_local! {
        static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    KEY.with_borrow_mut(|key| {
        key.clear();
        key.extend_from_slice(&number.to_le_bytes());
        for part in parts {
            key.extend_from_slice(&(part.len() as u32).to_le_bytes());
            key.extend_from_slice(part);
        }
        f(key)
    })
}
