use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus::proto::MetricFamily;
use tonic::Code;

use super::buckets;
use super::exposition::{Info, LazyCollector, histogram_sample};
use crate::scheduling::Histogram;

const IN_FLIGHT: Info =
    Info::gauge("llm_d_epp_extproc_streams_inflight", "ext_proc streams now open.");
const DURATION: Info =
    Info::histogram("llm_d_epp_extproc_stream_duration_seconds", "Life of an ext_proc stream.");
const TOTAL: Info =
    Info::counter("llm_d_epp_extproc_streams_total", "ext_proc streams ended, by gRPC code.");

/// The codes of gRPC by number, as Go spells them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// What is counted of ext_proc streams with `--enable-grpc-stream-metrics`.
#[derive(Debug)]
pub struct StreamMetrics {
    in_flight: AtomicI64,
    duration: Histogram,
    ended: [AtomicU64; CODES.len()],
}

impl StreamMetrics {
    pub(super) fn new() -> Self {
        Self {
            in_flight: AtomicI64::new(0),
            duration: Histogram::seconds(buckets::STREAM),
            ended: [const { AtomicU64::new(0) }; CODES.len()],
        }
    }

    /// A stream was opened.
    pub fn opened(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream ended with `code`, `seconds` after it was opened.
    pub fn ended(&self, code: Code, seconds: f64) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.duration.observe(seconds);
        if let Some(count) = self.ended.get(code as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn collector(
        self: Arc<Self>,
    ) -> prometheus::Result<impl prometheus::core::Collector> {
        LazyCollector::new(&[IN_FLIGHT, DURATION, TOTAL], move || self.collect())
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let in_flight = self.in_flight.load(Ordering::Relaxed) as f64;
        let ended = CODES.iter().zip(&self.ended).filter_map(|(code, count)| {
            let count = count.load(Ordering::Relaxed);
            (count > 0).then(|| TOTAL.sample(&[("code", code)], count as f64))
        });
        vec![
            IN_FLIGHT.family(vec![IN_FLIGHT.sample(&[], in_flight)]),
            DURATION.family(vec![histogram_sample(&[], &self.duration.tally())]),
            TOTAL.family(ended.collect()),
        ]
    }
}
