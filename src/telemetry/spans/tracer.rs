use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanKind, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};

use super::delivery::{Bounded, Counting, Delivered};
use super::{Sampling, TracingOptions, outcome};
use crate::exchange::{ExchangeTracer, Kept, Outcome, OutcomeListener, Traced};
use crate::headers::{Headers, TRACE_PARENT};
use crate::scheduling::PluginMetrics;
use crate::telemetry::BuildInfo;

/// Whose spans they are, by the name that the field calls the scope.
const SCOPE: &str = "epp";
/// The span of an exchange.
const EXCHANGE: &str = "gateway.request";

/// Makes spans of exchanges and sends them to a collector.
#[derive(Debug)]
pub struct SpanTracer {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    delivered: Arc<Delivered>,
}

/// The span of an exchange that is sampled.
#[derive(Debug)]
pub(super) struct Active {
    pub context: Context,
    /// When the exchange began, by the calendar.
    pub begun: SystemTime,
}

impl SpanTracer {
    /// Starts to deliver spans; nothing is connected to before there are any. To be called within
    /// a tokio runtime, which the connection lives in.
    ///
    /// # Errors
    /// Where the collector cannot be spoken to at all, for want of certificates for instance.
    pub fn start(options: &TracingOptions) -> Result<Self, ExporterBuildError> {
        let mut exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&options.endpoint)
            .with_timeout(options.timeout);
        if options.endpoint.starts_with("https:") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let delivered = Arc::new(Delivered::default());
        let exporter =
            Counting::new(exporter.build()?, options.endpoint.clone(), delivered.clone());
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(options.queue)
            .with_scheduled_delay(options.delay)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let processor = Bounded::new(processor, options.queue, delivered.clone());
        let resource = Resource::builder()
            .with_service_name(options.service_name.clone())
            .with_attribute(KeyValue::new("service.version", BuildInfo::of_this_build().build_ref))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(options.sampling))
            .with_resource(resource)
            .with_span_processor(processor)
            .build();
        let tracer = provider.tracer(SCOPE);
        tracing::info!(
            endpoint = options.endpoint,
            service = options.service_name,
            ratio = options.sampling.ratio,
            "Spans are sent"
        );
        Ok(Self { provider, tracer, propagator: TraceContextPropagator::new(), delivered })
    }

    /// What became of spans, to be published.
    pub fn metrics(&self) -> Arc<dyn PluginMetrics> {
        self.delivered.clone()
    }

    /// Delivers what waits, for `limit` at most. It blocks.
    pub fn finish(&self, limit: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(limit) {
            tracing::debug!(%error, "The last spans were not delivered");
        }
    }
}

fn sampler(Sampling { ratio, follows_parent }: Sampling) -> Sampler {
    let root = Sampler::TraceIdRatioBased(ratio);
    if follows_parent { Sampler::ParentBased(Box::new(root)) } else { root }
}

impl ExchangeTracer for SpanTracer {
    fn begin(&self, headers: &Headers, kept: &Kept) -> Traced {
        let parent = match headers.get_raw(TRACE_PARENT) {
            None => Context::new(),
            Some(_) => self.propagator.extract_with_context(&Context::new(), &Of(headers)),
        };
        let has_parent = parent.span().span_context().is_valid();
        let begun = SystemTime::now();
        let span =
            SpanBuilder::from_name(EXCHANGE).with_kind(SpanKind::Server).with_start_time(begun);
        let span = self.tracer.build_with_context(span, &parent);
        let context = parent.with_span(span);
        let ours = context.span().span_context().clone();
        let recorded = ours.is_sampled();
        if recorded {
            kept.get_or_make(|| Arc::new(Active { context: context.clone(), begun }));
        }
        // A trace that is not sampled goes on as it came. One that does not begin here would begin
        // at the endpoint, though, and be sampled by what that thinks right.
        let leaves = recorded || !has_parent;
        Traced { parent: leaves.then(|| self.parent_of(&ours)).flatten(), recorded }
    }
}

impl SpanTracer {
    /// The header by which others call this span their parent.
    fn parent_of(&self, span: &SpanContext) -> Option<Bytes> {
        let mut header = Written(None);
        let context = Context::new().with_remote_span_context(span.clone());
        self.propagator.inject_context(&context, &mut header);
        header.0
    }
}

impl OutcomeListener for SpanTracer {
    fn ended(&self, outcome: &Outcome<'_>) {
        if let Some(active) = outcome.kept.get::<Active>() {
            outcome::end(&self.tracer, &active, outcome);
        }
    }
}

/// The headers of a request, to be read.
struct Of<'a>(&'a Headers);

impl Extractor for Of<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().filter_map(|(key, _)| std::str::from_utf8(key).ok()).collect()
    }
}

/// The one header that we set.
struct Written(Option<Bytes>);

impl Injector for Written {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACE_PARENT {
            self.0 = Some(value.into());
        }
    }
}
