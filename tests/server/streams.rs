//! How streams live through the end of a server, and how they are counted.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use epp::server::{Counted, OpenCalls, Shutdown, Stage, serve_grpc};
use epp::telemetry::Metrics;
use futures_util::{Stream, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::client::{listen, plain};

/// Answers every message, and ends as the client ends; a message in observability mode is refused.
struct Echo;

#[tonic::async_trait]
impl ExternalProcessor for Echo {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let answers = request.into_inner().map(|message| {
            if message?.observability_mode {
                return Err(Status::invalid_argument("refused"));
            }
            Ok(ProcessingResponse::default())
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<()>,
    metrics: Metrics,
}

async fn serve() -> Server {
    let incoming = listen(None).await;
    let address = incoming.local_addr();
    let metrics = Metrics::new().unwrap();
    let streams = metrics.add_streams().unwrap();
    let service =
        Counted::new(ExternalProcessorServer::new(Echo), OpenCalls::default(), Some(streams));
    let shutdown = Shutdown::new();
    let stop = {
        let shutdown = shutdown.clone();
        async move { shutdown.reached(Stage::Draining).await }
    };
    let task = tokio::spawn(serve_grpc(incoming, Routes::new(service), stop));
    Server { address, shutdown, task, metrics }
}

/// One exchange, message by message.
struct Exchange {
    messages: mpsc::Sender<ProcessingRequest>,
    answers: Streaming<ProcessingResponse>,
}

impl Exchange {
    async fn open(address: SocketAddr) -> Self {
        let (messages, receiver) = mpsc::channel(1);
        messages.send(ProcessingRequest::default()).await.unwrap();
        let answers = ExternalProcessorClient::new(plain(address).await)
            .process(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        let mut exchange = Self { messages, answers };
        exchange.answer().await.unwrap();
        exchange
    }

    async fn ask(&mut self, message: ProcessingRequest) -> Result<(), Status> {
        self.messages.send(message).await.unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> Result<(), Status> {
        self.answers.message().await?.map(|_| ()).ok_or_else(|| Status::unknown("ended"))
    }
}

/// The value of a sample whose line begins with `start`, 0 where there is none.
fn sample(metrics: &Metrics, start: &str) -> f64 {
    let text = metrics.render().unwrap();
    let line = text.lines().find(|l| l.starts_with(start));
    line.map_or(0.0, |l| l.rsplit_once(' ').unwrap().1.parse().unwrap())
}

async fn until(metrics: &Metrics, start: &str, value: f64) {
    let begin = Instant::now();
    while sample(metrics, start) != value {
        assert!(begin.elapsed() < Duration::from_secs(30), "{start} never became {value}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn streams_in_progress_outlive_the_wish_to_end() {
    let server = serve().await;
    let mut exchange = Exchange::open(server.address).await;
    server.shutdown.request();

    // Nobody new is taken: the listener goes away.
    let begin = Instant::now();
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(30), "still listening");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Whoever is here goes on, for as long as it takes.
    for _ in 0..10 {
        exchange.ask(ProcessingRequest::default()).await.unwrap();
    }
    assert!(!server.task.is_finished());
    drop(exchange.messages);
    assert!(exchange.answers.message().await.unwrap().is_none());
    drop(exchange.answers);
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_server_without_streams_ends_at_once() {
    let server = serve().await;
    server.shutdown.request();
    server.task.await.unwrap();
}

#[tokio::test]
async fn many_streams_share_one_connection() {
    let server = serve().await;
    let channel = plain(server.address).await;
    let mut open = Vec::new();
    // More than hyper lets a client have by default.
    for _ in 0..500 {
        let (messages, receiver) = mpsc::channel(1);
        messages.send(ProcessingRequest::default()).await.unwrap();
        let answers = ExternalProcessorClient::new(channel.clone())
            .process(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        open.push(Exchange { messages, answers });
    }
    for exchange in &mut open {
        exchange.answer().await.unwrap();
    }
    assert_eq!(sample(&server.metrics, "llm_d_epp_extproc_streams_inflight "), 500.0);
}

#[tokio::test]
async fn streams_are_counted_by_how_they_end() {
    let server = serve().await;
    let metrics = &server.metrics;
    let in_flight = "llm_d_epp_extproc_streams_inflight ";

    let exchange = Exchange::open(server.address).await;
    until(metrics, in_flight, 1.0).await;
    drop(exchange.messages);
    let mut answers = exchange.answers;
    assert!(answers.message().await.unwrap().is_none());
    until(metrics, r#"llm_d_epp_extproc_streams_total{code="OK"}"#, 1.0).await;

    let mut refused = Exchange::open(server.address).await;
    let bad = ProcessingRequest { observability_mode: true, ..Default::default() };
    assert!(refused.ask(bad).await.is_err());
    until(metrics, r#"llm_d_epp_extproc_streams_total{code="InvalidArgument"}"#, 1.0).await;

    drop(Exchange::open(server.address).await);
    until(metrics, r#"llm_d_epp_extproc_streams_total{code="Canceled"}"#, 1.0).await;
    until(metrics, in_flight, 0.0).await;
    assert_eq!(sample(metrics, "llm_d_epp_extproc_stream_duration_seconds_count "), 3.0);
}

#[tokio::test]
async fn without_metrics_calls_pass_as_they_are() {
    let incoming = listen(None).await;
    let address = incoming.local_addr();
    let service = Counted::new(ExternalProcessorServer::new(Echo), OpenCalls::default(), None);
    tokio::spawn(serve_grpc(incoming, Routes::new(service), std::future::pending()));
    let mut exchange = Exchange::open(address).await;
    exchange.ask(ProcessingRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_goes_takes_no_other_with_it() {
    let server = serve().await;
    let mut first = Exchange::open(server.address).await;
    drop(Exchange::open(server.address).await);
    until(&server.metrics, r#"llm_d_epp_extproc_streams_total{code="Canceled"}"#, 1.0).await;
    first.ask(ProcessingRequest::default()).await.unwrap();
}
