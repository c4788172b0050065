use std::time::Duration;

use bytes::Bytes;
use epp::sim::worker::{Server, WorkerConfig};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Speaks HTTP to one worker, a connection per request.
#[derive(Clone, Debug)]
pub struct Client {
    pub address: String,
}

pub struct Reply {
    pub status: u16,
    pub worker: String,
    pub content_type: String,
    pub text: String,
    headers: hyper::HeaderMap,
}

impl Reply {
    /// The value of a header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

/// A response being received; dropping it closes the connection.
pub struct Stream {
    response: hyper::Response<Incoming>,
    connection: tokio::task::JoinHandle<()>,
    received: String,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Stream {
    /// The next `data:` of the stream with its `event:`, `None` at its end.
    pub async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some(end) = self.received.find("\n\n") {
                let message: String = self.received.drain(..end + 2).collect();
                let field = |name: &str| {
                    let value = message.lines().find_map(|line| line.strip_prefix(name));
                    value.unwrap_or_default().to_owned()
                };
                assert!(!field("data: ").is_empty(), "no data in {message:?}");
                return Some((field("event: "), field("data: ")));
            }
            let frame = tokio::time::timeout(PATIENCE, self.response.frame());
            let frame = frame.await.expect("a frame in time")?.expect("an intact stream");
            let data = frame.into_data().expect("a frame of data");
            self.received.push_str(std::str::from_utf8(&data).expect("UTF-8"));
        }
    }

    /// What is left of the stream: the data of each message.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some((_, data)) = self.next().await {
            all.push(data);
        }
        all
    }
}

impl Client {
    /// Sends a request and returns the head of its response; an empty body makes it a GET.
    pub async fn open(&self, path: &str, body: &str) -> Stream {
        self.open_with(path, body, &[]).await
    }

    /// [`Client::open`] with headers beside the usual ones.
    pub async fn open_with(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Stream {
        let socket = TcpStream::connect(&self.address).await.expect("a listening worker");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.expect("HTTP");
        let connection = tokio::spawn(async move {
            // Ends with an error where the test hangs up.
            let _ = connection.await;
        });
        let mut request = hyper::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .method(if body.is_empty() { "GET" } else { "POST" })
            .uri(path)
            .header("host", &self.address)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("a request");
        let response = tokio::time::timeout(PATIENCE, sender.send_request(request));
        let response = response.await.expect("a response in time").expect("a response");
        Stream { response, connection, received: String::new() }
    }

    pub async fn post(&self, path: &str, body: &str) -> Reply {
        self.post_with(path, body, &[]).await
    }

    /// [`Client::post`] with headers beside the usual ones.
    pub async fn post_with(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        let mut stream = self.open_with(path, body, headers).await;
        let headers = stream.response.headers().clone();
        let header = |name: &str| {
            let value = headers.get(name);
            value.map_or("", |v| v.to_str().expect("text")).to_owned()
        };
        let (worker, content_type) = (header("x-sim-worker"), header("content-type"));
        let status = stream.response.status().as_u16();
        let body = stream.response.body_mut().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        Reply { status, worker, content_type, text, headers }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.post(path, "").await
    }

    /// The value of the first series of `/metrics` that begins so.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics").await.text;
        let line = page.lines().find(|line| line.starts_with(series))?;
        Some(line.rsplit(' ').next()?.parse().expect("a number"))
    }

    /// Waits until `/metrics` shows these running, waiting, and says so.
    pub async fn wait_for_load(&self, running: f64, waiting: f64) {
        let shown = async {
            loop {
                let now = (
                    self.metric("vllm:num_requests_running{").await,
                    self.metric("vllm:num_requests_waiting{").await,
                );
                if now == (Some(running), Some(waiting)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, shown).await;
        in_time.unwrap_or_else(|_| panic!("never {running} running and {waiting} waiting"));
    }
}

/// Starts a worker in this process; it ends with the test's runtime.
pub async fn worker(config: WorkerConfig) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = Server::start(config).expect("a valid configuration");
    tokio::spawn(server.serve(listener, std::future::pending()));
    Client { address }
}
