//! A worker that can be made ill: it speaks enough of vLLM's HTTP for a pool's member.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    Well,
    /// Answers 500 at once; its metrics are fine.
    FailsFast,
    /// The same to every other request.
    FailsOneInTwo,
    /// Takes twice as long.
    Slow,
    /// Takes requests and answers nothing; its metrics are fine.
    Hangs,
    /// Its metrics say that it has nothing to do.
    Lies,
}

const MODES: [Mode; 6] =
    [Mode::Well, Mode::FailsFast, Mode::FailsOneInTwo, Mode::Slow, Mode::Hangs, Mode::Lies];

/// What an answer takes where nobody else is being answered, half of it until its first byte.
const TIME: Duration = Duration::from_millis(40);
/// What each request that is there already adds.
const MORE: Duration = Duration::from_millis(8);

#[derive(Default)]
struct Shared {
    mode: AtomicU8,
    running: AtomicU32,
    requests: AtomicU64,
}

pub struct Worker {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    /// All that it runs, so that dropping it is what killing a process is. `None` while dead.
    runtime: Option<Runtime>,
}

impl Worker {
    pub fn start() -> Self {
        // Any loopback address, so that nobody takes the port while the worker is dead.
        let [a, b, c] = std::array::from_fn(|_| fastrand::u8(1..=250));
        let address = SocketAddr::from((Ipv4Addr::new(127, a, b, c), 0));
        let mut worker = Self { address, shared: Arc::default(), runtime: None };
        worker.revive();
        worker
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.store(mode as u8, Relaxed);
    }

    /// Requests that arrived here so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Relaxed)
    }

    /// Closes all its sockets.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Serves at the same address, with nothing running.
    pub fn revive(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        self.shared.running.store(0, Relaxed);
        let listener = {
            let _inside = runtime.enter();
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(self.address).unwrap();
            socket.listen(1024).unwrap()
        };
        self.address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, self.shared.clone()));
        self.runtime = Some(runtime);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The test may itself be inside a runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/completions", post(complete))
        .with_state(shared);
    let _ = axum::serve(listener, router).await;
}

fn mode(shared: &Shared) -> Mode {
    MODES[usize::from(shared.mode.load(Relaxed))]
}

async fn metrics(State(shared): State<Arc<Shared>>) -> String {
    let running = shared.running.load(Relaxed);
    let running = if mode(&shared) == Mode::Lies { 0 } else { running };
    // Beyond eight requests they wait.
    let waiting = running.saturating_sub(8);
    format!(
        "vllm:num_requests_running{{model_name=\"m\"}} {}\n\
         vllm:num_requests_waiting{{model_name=\"m\"}} {waiting}\n\
         vllm:kv_cache_usage_perc{{model_name=\"m\"}} {}\n",
        running - waiting,
        f64::from(running.min(20)) / 20.0,
    )
}

/// One request running; counted until the answer is dropped.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        // A worker that was revived has counted anew.
        let _ = self.0.running.fetch_update(Relaxed, Relaxed, |n| Some(n.saturating_sub(1)));
    }
}

async fn complete(State(shared): State<Arc<Shared>>, _body: Bytes) -> Response {
    let number = shared.requests.fetch_add(1, Relaxed);
    let mode = mode(&shared);
    if mode == Mode::FailsFast || mode == Mode::FailsOneInTwo && number.is_multiple_of(2) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "broken").into_response();
    }
    let others = shared.running.fetch_add(1, Relaxed);
    let running = Running(shared.clone());
    if mode == Mode::Hangs {
        while self::mode(&shared) == Mode::Hangs {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let time = (TIME + MORE * others) * if mode == Mode::Slow { 2 } else { 1 };
    tokio::time::sleep(time / 2).await;
    let pieces = async_stream::stream! {
        yield Ok::<_, std::io::Error>("data: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\n");
        tokio::time::sleep(time / 2).await;
        yield Ok("data: [DONE]\n\n");
        drop(running);
    };
    let body = Body::from_stream(pieces);
    ([("content-type", "text/event-stream")], body).into_response()
}
