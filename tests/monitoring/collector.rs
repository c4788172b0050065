//! A collector of spans that is not ours: OTLP over gRPC, with the protocol's own types.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::support::eventually;

/// A collector that runs until it is dropped.
pub struct Collector {
    pub address: SocketAddr,
    received: Arc<Received>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Received {
    spans: Mutex<Vec<Span>>,
    /// Attributes of the services that sent them.
    services: Mutex<Vec<KeyValue>>,
    calls: AtomicUsize,
    hangs: AtomicBool,
}

impl Collector {
    /// On any free port, or on this one.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Received::default());
        let service = TraceServiceServer::new(Service(received.clone()));
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.unwrap() });
        Self { address, received, server }
    }

    /// Takes everything and never answers.
    pub async fn that_hangs() -> Self {
        let collector = Self::start(0).await;
        collector.received.hangs.store(true, Ordering::Relaxed);
        collector
    }

    pub fn calls(&self) -> usize {
        self.received.calls.load(Ordering::Relaxed)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.received.spans.lock().clone()
    }

    /// What the sender says of itself.
    pub fn service(&self) -> HashMap<String, String> {
        attributes(&self.received.services.lock())
    }

    /// The spans of a request, when the exchange has ended.
    pub async fn trace_of(&self, request_id: &str) -> Trace {
        eventually(&format!("the spans of {request_id}"), async || self.find_trace_of(request_id))
            .await
    }

    /// The spans of the exchange with this id, if they have come.
    pub fn find_trace_of(&self, request_id: &str) -> Option<Trace> {
        let spans = self.spans();
        let is_root = |span: &&Span| {
            span.name == "gateway.request"
                && attributes(&span.attributes)["gen_ai.request.id"] == request_id
        };
        let root = spans.iter().find(is_root)?.clone();
        let spans = spans.into_iter().filter(|span| span.trace_id == root.trace_id).collect();
        Some(Trace { root, spans })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service(Arc<Received>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        if self.0.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        for of_service in request.into_inner().resource_spans {
            *self.0.services.lock() = of_service.resource.unwrap_or_default().attributes;
            let spans = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.spans.lock().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The spans of one trace that came.
#[derive(Debug)]
pub struct Trace {
    pub root: Span,
    pub spans: Vec<Span>,
}

impl Trace {
    /// The one span of this name.
    pub fn span(&self, name: &str) -> &Span {
        let named: Vec<&Span> = self.spans.iter().filter(|span| span.name == name).collect();
        let [one] = named.as_slice() else { panic!("{name}: {:?}", self.tree()) };
        one
    }

    /// Every span as `name < parent's name`, sorted.
    pub fn tree(&self) -> Vec<String> {
        let name = |id: &[u8]| {
            let parent = self.spans.iter().find(|span| span.span_id == id);
            parent.map_or("-", |span| span.name.as_str())
        };
        let spans = self.spans.iter();
        let mut tree: Vec<String> =
            spans.map(|s| format!("{} < {}", s.name, name(&s.parent_span_id))).collect();
        tree.sort();
        tree
    }
}

/// Attributes as text.
pub fn attributes(list: &[KeyValue]) -> HashMap<String, String> {
    list.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(array)) => {
            array.values.iter().map(|value| text(Some(value))).collect::<Vec<_>>().join(",")
        }
        other => format!("{other:?}"),
    }
}
