//! What `deploy/envoy/standalone.yaml` does where a connection to a worker fails, and with a
//! connection that nobody uses.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::envoy::{self, Envoy};
use crate::support::program::{Program, TUTORIAL};
use crate::support::{PATIENCE, eventually};

/// A worker that answers the first request of a connection, and closes it when the second comes:
/// what a client meets whose request crosses the end of a keep-alive.
struct Closing {
    address: SocketAddr,
    /// Connections that a request for an answer came on and that are still open.
    open: Arc<Mutex<BTreeSet<usize>>>,
}

impl Closing {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(BTreeSet::new()));
        let connections = open.clone();
        tokio::spawn(async move {
            for id in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let open = connections.clone();
                tokio::spawn(async move {
                    let posts = AtomicUsize::new(0);
                    let service = service_fn(|request| answer(request, &posts, id, &open));
                    // Ends with an error where the service closed it.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    open.lock().unwrap().remove(&id);
                });
            }
        });
        Self { address, open }
    }
}

/// The connection ends without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed")
    }
}

impl std::error::Error for Closed {}

async fn answer(
    request: Request<Incoming>,
    posts: &AtomicUsize,
    id: usize,
    open: &Mutex<BTreeSet<usize>>,
) -> Result<Response<Full<Bytes>>, Closed> {
    if request.method() != Method::POST {
        return Ok(Response::new(Full::default()));
    }
    open.lock().unwrap().insert(id);
    if posts.fetch_add(1, Ordering::Relaxed) > 0 {
        return Err(Closed);
    }
    let body = request.into_body().collect().await.map_err(|_| Closed)?.to_bytes();
    let answer = json!({"received": body.len()}).to_string();
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Full::from(answer)).expect("a response"))
}

/// `epp` and Envoy in front of one worker, which may not exist.
struct Setup {
    envoy: Envoy,
    http: reqwest::Client,
    _epp: Program,
}

impl Setup {
    async fn start(
        binary: std::path::PathBuf,
        worker: SocketAddr,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let epp = Program::start(TUTORIAL, &[worker], &["--secure-serving=true"]);
        let envoy = Envoy::start(binary, epp.grpc_port, edit).await;
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { envoy, http, _epp: epp }
    }

    /// Sends a prompt of so many bytes; gives the status, and what the worker says it received.
    async fn post(&self, bytes: usize) -> (u16, Option<u64>, u64) {
        let body = json!({"model": "m", "prompt": "x".repeat(bytes)}).to_string();
        let sent = body.len() as u64;
        let url = format!("{}/v1/completions", self.envoy.url);
        let request = self.http.post(url).header("content-type", "application/json").body(body);
        let response = request.send().await.expect("Envoy answers");
        let status = response.status().as_u16();
        let answer = response.json::<serde_json::Value>().await.ok();
        (status, answer.and_then(|a| a["received"].as_u64()), sent)
    }

    /// A counter of the cluster of workers.
    async fn counter(&self, name: &str) -> u64 {
        let name = format!("cluster.picked_worker.{name}");
        let url = format!("{}/stats?filter=^{name}$", self.envoy.admin);
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map_or(0, |value| value.trim().parse().expect("a count"))
    }
}

fn without_retries(yaml: String) -> String {
    assert!(yaml.contains("num_retries: 2"));
    yaml.replace("num_retries: 2", "num_retries: 0")
}

#[tokio::test]
async fn a_request_that_crosses_the_end_of_a_connection_is_sent_again() {
    let Some(binary) = envoy::binary() else { return };
    let worker = Closing::start().await;
    let setup = Setup::start(binary, worker.address, |yaml| yaml).await;
    for prompt in [10, 10, 10, 300_000, 10, 300_000] {
        let (status, received, sent) = setup.post(prompt).await;
        assert_eq!((status, received), (200, Some(sent)), "{prompt} bytes arrive whole");
    }
    assert!(setup.counter("upstream_rq_retry_success").await >= 2);
}

/// The other side of the above: without retries the same worker fails its clients.
#[tokio::test]
async fn without_retries_it_is_lost() {
    let Some(binary) = envoy::binary() else { return };
    let worker = Closing::start().await;
    let setup = Setup::start(binary, worker.address, without_retries).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(setup.post(10).await.0);
    }
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
}

#[tokio::test]
async fn a_worker_that_refuses_is_tried_three_times() {
    let Some(binary) = envoy::binary() else { return };
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let setup = Setup::start(binary, nobody, |yaml| yaml).await;
    assert_eq!(setup.post(10).await.0, 503);
    assert_eq!(setup.counter("upstream_cx_connect_fail").await, 3);
    assert_eq!(setup.counter("upstream_rq_retry").await, 2);
}

/// uvicorn ends a connection after five seconds without a request; Envoy has to be earlier.
#[tokio::test]
async fn an_idle_connection_is_closed_by_envoy_first() {
    let Some(binary) = envoy::binary() else { return };
    let worker = Closing::start().await;
    let setup = Setup::start(binary, worker.address, |yaml| yaml).await;
    assert_eq!(setup.post(10).await.0, 200);
    assert_eq!(worker.open.lock().unwrap().len(), 1, "kept for the next request");
    eventually("Envoy to close the idle connection", || async {
        worker.open.lock().unwrap().is_empty().then_some(())
    })
    .await;
    assert_eq!(setup.counter("upstream_cx_idle_timeout").await, 1);
}
