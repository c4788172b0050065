use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

use crate::scheduling::{MetricFamily, MetricKind, MetricSample, MetricValue, PluginMetrics};

/// Ours: the reference does not tell what becomes of its spans.
const NAME: &str = "llm_d_epp_trace_spans_total";

/// What became of spans.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// Spans that wait for delivery.
    waiting: AtomicUsize,
    exported: AtomicU64,
    /// The collector did not take them.
    failed: AtomicU64,
    /// There were too many.
    dropped: AtomicU64,
    /// The last delivery failed, which was said.
    is_away: AtomicBool,
}

impl PluginMetrics for Delivered {
    fn families(&self) -> Vec<MetricFamily> {
        let outcomes =
            [("dropped", &self.dropped), ("exported", &self.exported), ("failed", &self.failed)];
        let sample = |(outcome, count): (&str, &AtomicU64)| MetricSample {
            labels: vec![("outcome", outcome.to_owned())],
            value: MetricValue::Number(count.load(Ordering::Relaxed) as f64),
        };
        vec![MetricFamily {
            name: NAME,
            help: "Spans that the collector took, that it did not take, and that were dropped \
                   because too many waited.",
            kind: MetricKind::Counter,
            samples: outcomes.map(sample).into(),
        }]
    }
}

/// Hands spans on to a processor as long as not too many wait there.
#[derive(Debug)]
pub(super) struct Bounded<P> {
    inner: P,
    limit: usize,
    delivered: Arc<Delivered>,
}

impl<P> Bounded<P> {
    pub(super) fn new(inner: P, limit: usize, delivered: Arc<Delivered>) -> Self {
        Self { inner, limit, delivered }
    }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.inner.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        let told = &*self.delivered;
        if told.waiting.fetch_add(1, Ordering::Relaxed) < self.limit {
            self.inner.on_end(span);
            return;
        }
        told.waiting.fetch_sub(1, Ordering::Relaxed);
        if told.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                waiting = self.limit,
                "Spans are dropped: more wait than there is room for ({NAME} counts them)"
            );
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what an exporter delivers, and says when the collector goes away and when it is back.
#[derive(Debug)]
pub(super) struct Counting<E> {
    inner: E,
    endpoint: String,
    delivered: Arc<Delivered>,
}

impl<E> Counting<E> {
    pub(super) fn new(inner: E, endpoint: String, delivered: Arc<Delivered>) -> Self {
        Self { inner, endpoint, delivered }
    }
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let told = &*self.delivered;
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        // They waited until now: what comes meanwhile must find the room taken.
        told.waiting.fetch_sub(spans, Ordering::Relaxed);
        let (count, is_away) = match &result {
            Ok(()) => (&told.exported, false),
            Err(_) => (&told.failed, true),
        };
        count.fetch_add(spans as u64, Ordering::Relaxed);
        let was_away = told.is_away.swap(is_away, Ordering::Relaxed);
        let endpoint = self.endpoint.as_str();
        match &result {
            Err(error) if !was_away => tracing::warn!(
                endpoint,
                %error,
                "Spans cannot be delivered; they are lost until they can ({NAME} counts them)"
            ),
            Ok(()) if was_away => tracing::info!(endpoint, "Spans are delivered again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
