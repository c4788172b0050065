//! The metrics of the queue: names, labels and buckets of llm-d-router main at ebab6879, each
//! under its name of earlier versions too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::proto::{Metric, MetricFamily};

use super::Metrics;
use super::buckets;
use super::exposition::{Info, LazyCollector, histogram_sample};
use super::series::RequestSeries;
use crate::clock;
use crate::exchange::QueueListener;
use crate::flow_control::{
    FlowController, FlowObserver, LoadReading, Outcome, ProgramAware, QueueSnapshot,
};
use crate::scheduling::InferenceRequest;
use crate::scheduling::{Histogram, Tally};

/// What the metrics of a queue are made from.
#[derive(Debug)]
pub struct FlowControlSource {
    /// Name of the pool, a label.
    pub pool: String,
    pub controller: Arc<FlowController>,
    /// What the configuration in force has.
    pub plugins: Arc<ArcSwap<FlowControlPlugins>>,
}

/// The plugins that metrics of the queue tell of.
#[derive(Debug)]
pub struct FlowControlPlugins {
    /// Name of the saturation detector, a label.
    pub detector: String,
    pub programs: Vec<Arc<ProgramAware>>,
}

/// How long things took, over all requests.
#[derive(Debug)]
pub(super) struct QueueTimes {
    cycles: Histogram,
    confirmations: Histogram,
}

impl Default for QueueTimes {
    fn default() -> Self {
        Self {
            cycles: Histogram::seconds(buckets::SCHEDULING),
            confirmations: Histogram::seconds(buckets::CONFIRMATION),
        }
    }
}

impl FlowObserver for Metrics {
    fn dispatch_cycle(&self, took: Duration) {
        self.queue_times.cycles.observe(took.as_secs_f64());
    }

    fn revocation_confirmed(&self, after: Duration) {
        self.queue_times.confirmations.observe(after.as_secs_f64());
    }
}

impl QueueListener for Metrics {
    fn asked(&self, request: &InferenceRequest, outcome: Option<Outcome>, took: Duration) {
        self.series_for(request).queue().asked(outcome, request.body_bytes, took);
    }

    fn left(&self, request: &InferenceRequest, outcome: Outcome, waited: Duration) {
        self.series_for(request).queue().left(outcome, request.body_bytes, waited);
    }
}

impl Metrics {
    fn series_for(&self, request: &InferenceRequest) -> Arc<RequestSeries> {
        let (model, target) = (&request.incoming_model, &request.target_model);
        self.request_series(model, target, request.fairness_id(), request.priority)
    }
}

/// A metric under its two names.
type Names = [Info; 2];

macro_rules! names {
    ($kind:ident, $suffix:literal, $help:literal) => {
        [
            Info::$kind(concat!("llm_d_epp_flow_control_", $suffix), $help),
            Info::$kind(
                concat!("inference_extension_flow_control_", $suffix),
                concat!("[Deprecated: use llm_d_epp_flow_control_", $suffix, "] ", $help),
            ),
        ]
    };
}

const QUEUED: Names = names!(
    histogram,
    "request_queue_duration_seconds",
    "Time from a request's arrival at the queue until it was let through or rejected."
);
const ASKED: Names = names!(
    histogram,
    "request_enqueue_duration_seconds",
    "Time to put a request into the queue, or to find that it need not wait."
);
const CYCLE: Names = names!(
    histogram,
    "dispatch_cycle_duration_seconds",
    "Time to let go what may go when capacity is freed."
);
const SIZE: Names = names!(gauge, "queue_size", "Requests that wait.");
const BYTES: Names = names!(gauge, "queue_bytes", "Bytes of the bodies of requests that wait.");
const SATURATION: Names =
    names!(gauge, "pool_saturation", "How full the pool is; from 1 on it is saturated.");
const STALE: Names =
    names!(gauge, "stale_endpoints", "Endpoints whose metrics are too old for the detector.");
const BAND_REQUESTS: Names = names!(
    gauge,
    "capacity_utilization_requests",
    "Share of the requests that may wait in a band."
);
const BAND_BYTES: Names =
    names!(gauge, "capacity_utilization_bytes", "Share of the bytes that may wait in a band.");
const GLOBAL_REQUESTS: Names = names!(
    gauge,
    "global_capacity_utilization_requests",
    "Share of the requests that may wait in all bands together."
);
const GLOBAL_BYTES: Names = names!(
    gauge,
    "global_capacity_utilization_bytes",
    "Share of the bytes that may wait in all bands together."
);
const REQUESTS: Names =
    names!(counter, "requests_total", "Requests that left the queue or never got in, by outcome.");
const ISSUED: Names = names!(
    counter,
    "revocations_issued_total",
    "Running requests that were asked to end, by their priority."
);
const REVOCATIONS: Names = names!(
    counter,
    "revocations_total",
    "Running requests that were asked to end, by whether they did in time."
);
const TARGET: Names =
    names!(gauge, "reclaim_target", "Running requests that the last round wanted to end.");
const PENDING: Names =
    names!(gauge, "pending_reclaim", "Running requests that were asked to end and have not.");
const CONFIRMATION: Names = names!(
    histogram,
    "revocation_confirmation_seconds",
    "Time until a running request that was asked to end has ended."
);
const ALL: [Names; 17] = [
    QUEUED,
    ASKED,
    CYCLE,
    SIZE,
    BYTES,
    SATURATION,
    STALE,
    BAND_REQUESTS,
    BAND_BYTES,
    GLOBAL_REQUESTS,
    GLOBAL_BYTES,
    REQUESTS,
    ISSUED,
    REVOCATIONS,
    TARGET,
    PENDING,
    CONFIRMATION,
];

const JAIN: Info = Info::gauge(
    "llm_d_epp_program_aware_jains_fairness_index",
    "How equal the programs' mean waits are: 1 where all are the same.",
);
const WAIT: Info = Info::gauge(
    "llm_d_epp_program_aware_avg_wait_time_milliseconds",
    "A program's mean time in the queue.",
);
const SERVICE: Info = Info::gauge(
    "llm_d_epp_program_aware_attained_service_tokens",
    "What a program was served lately, in prompt tokens.",
);

/// `series` lists the labels that requests came with.
pub(super) fn collector(
    source: FlowControlSource,
    times: Arc<QueueTimes>,
    series: impl Fn() -> Vec<Arc<RequestSeries>> + Send + Sync,
) -> prometheus::Result<impl prometheus::core::Collector> {
    let programs = [JAIN, WAIT, SERVICE];
    let programs = programs.iter().copied();
    let infos: Vec<Info> = ALL.into_iter().flatten().chain(programs).collect();
    LazyCollector::new(infos.iter(), move || {
        let mut families = Vec::new();
        of_requests(&source.pool, &series(), &mut families);
        of_times(&times, &mut families);
        let snapshot = source.controller.snapshot(clock::now());
        of_queue(&source, &snapshot, &mut families);
        of_revocations(&source.pool, &snapshot, &mut families);
        of_programs(&source.plugins.load().programs, &mut families);
        families
    })
}

fn publish(names: &Names, samples: Vec<Metric>, families: &mut Vec<MetricFamily>) {
    let [current, older] = names;
    families.push(older.family(samples.clone()));
    families.push(current.family(samples));
}

fn of_requests(pool: &str, series: &[Arc<RequestSeries>], families: &mut Vec<MetricFamily>) {
    let (mut size, mut bytes, mut queued) = (Vec::new(), Vec::new(), Vec::new());
    let mut asked: BTreeMap<(&str, &str, &str), Tally> = BTreeMap::new();
    let mut totals: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for s in series {
        let Some(queue) = s.queue_if_any() else { continue };
        let labels = |outcome: Option<&'static str>| {
            let before = [("fairness_id", s.fairness.as_str()), ("inference_pool", pool)];
            let after = [("priority", s.priority.as_str()), ("target_model_name", &*s.target)];
            let mut labels = Vec::from(before);
            labels.push(("model_name", &*s.model));
            labels.extend(outcome.map(|outcome| ("outcome", outcome)));
            labels.extend(after);
            labels
        };
        let (requests, held) = queue.waiting();
        size.push(SIZE[0].sample(&labels(None), requests as f64));
        bytes.push(BYTES[0].sample(&labels(None), held as f64));
        for (outcome, tally) in queue.queued_times() {
            queued.push(histogram_sample(&labels(Some(outcome)), &tally));
            *totals.entry((outcome, &s.priority)).or_default() += tally.total();
        }
        for (outcome, tally) in queue.asked_times() {
            let key = (s.fairness.as_str(), outcome, s.priority.as_str());
            match asked.get_mut(&key) {
                Some(sum) => sum.add(&tally),
                None => drop(asked.insert(key, tally)),
            }
        }
    }
    publish(&SIZE, size, families);
    publish(&BYTES, bytes, families);
    publish(&QUEUED, queued, families);
    let asked = asked.iter().map(|((fairness, outcome, priority), tally)| {
        let labels = [("fairness_id", *fairness), ("outcome", *outcome), ("priority", *priority)];
        histogram_sample(&labels, tally)
    });
    publish(&ASKED, asked.collect(), families);
    let totals = totals.iter().map(|((outcome, priority), count)| {
        let labels = [("inference_pool", pool), ("outcome", *outcome), ("priority", *priority)];
        REQUESTS[0].sample(&labels, *count as f64)
    });
    publish(&REQUESTS, totals.collect(), families);
}

fn of_times(times: &QueueTimes, families: &mut Vec<MetricFamily>) {
    for (names, histogram) in [(&CYCLE, &times.cycles), (&CONFIRMATION, &times.confirmations)] {
        let tally = histogram.tally();
        let sample = (tally.total() > 0).then(|| histogram_sample(&[], &tally));
        publish(names, Vec::from_iter(sample), families);
    }
}

/// Nothing of a capacity that is zero is in use.
fn share(used: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { used as f64 / of as f64 }
}

fn of_queue(
    source: &FlowControlSource,
    snapshot: &QueueSnapshot,
    families: &mut Vec<MetricFamily>,
) {
    let pool = ("inference_pool", source.pool.as_str());
    let LoadReading { effective, prefill, decode, .. } = snapshot.load.unwrap_or_default();
    let stages = [("prefill", prefill), ("decode", decode), ("effective", Some(effective))];
    let stages = stages.into_iter().filter_map(|(stage, value)| Some((stage, value?)));
    let saturation =
        stages.map(|(stage, value)| SATURATION[0].sample(&[pool, ("stage", stage)], value));
    publish(&SATURATION, saturation.collect(), families);
    let stale = snapshot.stale_endpoints as f64;
    let plugins = source.plugins.load();
    let detector = [("detector", plugins.detector.as_str())];
    publish(&STALE, vec![STALE[0].sample(&detector, stale)], families);

    let (mut requests, mut bytes) = (Vec::new(), Vec::new());
    for band in &snapshot.bands {
        let priority = band.priority.to_string();
        let labels = [pool, ("priority", priority.as_str())];
        let (by_requests, by_bytes) =
            (share(band.requests, band.max_requests), share(band.bytes, band.max_bytes));
        requests.push(BAND_REQUESTS[0].sample(&labels, by_requests));
        bytes.push(BAND_BYTES[0].sample(&labels, by_bytes));
    }
    publish(&BAND_REQUESTS, requests, families);
    publish(&BAND_BYTES, bytes, families);
    let requests = snapshot.max_requests.map(|max| share(snapshot.requests, max));
    let bytes = snapshot.max_bytes.map(|max| share(snapshot.bytes, max));
    for (names, value) in [(&GLOBAL_REQUESTS, requests), (&GLOBAL_BYTES, bytes)] {
        let sample = value.map(|value| names[0].sample(&[pool], value));
        publish(names, Vec::from_iter(sample), families);
    }
}

fn of_revocations(pool: &str, snapshot: &QueueSnapshot, families: &mut Vec<MetricFamily>) {
    let pool = ("inference_pool", pool);
    let issued = snapshot.revocations_issued.iter().map(|(priority, count)| {
        let priority = priority.to_string();
        ISSUED[0].sample(&[pool, ("priority", priority.as_str())], *count as f64)
    });
    publish(&ISSUED, issued.collect(), families);
    let outcomes = [
        ("confirmed", snapshot.revocations_confirmed),
        ("timed_out", snapshot.revocations_timed_out),
    ];
    let outcomes = outcomes
        .map(|(outcome, count)| REVOCATIONS[0].sample(&[pool, ("outcome", outcome)], count as f64));
    publish(&REVOCATIONS, outcomes.into(), families);
    publish(&TARGET, vec![TARGET[0].sample(&[pool], snapshot.reclaim_target as f64)], families);
    publish(&PENDING, vec![PENDING[0].sample(&[pool], snapshot.pending_reclaim as f64)], families);
}

fn of_programs(policies: &[Arc<ProgramAware>], families: &mut Vec<MetricFamily>) {
    let Some(first) = policies.first() else { return };
    families.push(JAIN.family(vec![JAIN.sample(&[], first.fairness_index())]));
    let (mut waits, mut services) = (Vec::new(), Vec::new());
    // Of several policies that know a program, the first one's numbers.
    let mut known: BTreeMap<Arc<str>, (Duration, f64)> = BTreeMap::new();
    for (id, wait, service) in policies.iter().flat_map(|policy| policy.programs(clock::now())) {
        known.entry(id).or_insert((wait, service));
    }
    for (id, (wait, service)) in &known {
        let labels = [("program_id", &**id)];
        waits.push(WAIT.sample(&labels, wait.as_secs_f64() * 1e3));
        services.push(SERVICE.sample(&labels, *service));
    }
    families.push(WAIT.family(waits));
    families.push(SERVICE.family(services));
}
