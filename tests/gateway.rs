//! The main job end to end: a client's HTTP request, a real Envoy, the real `epp`, and simulated
//! vLLM workers behind it.

#[path = "gateway/connections.rs"]
mod connections;
#[path = "gateway/rate_limit.rs"]
mod rate_limit;
#[path = "gateway/response_bodies.rs"]
mod response_bodies;
mod support;
#[path = "gateway/tokens.rs"]
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use futures_util::StreamExt;
use serde_json::{Value, json};
use support::envoy::Envoy;
use support::process::Process;
use support::program::{Program, TUTORIAL};
use support::{PATIENCE, eventually};

struct Worker {
    process: Process,
    address: SocketAddr,
}

impl Worker {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epp-sim"));
        command.args(["--port", "0", "--model", "m"]).args(arguments);
        let process = Process::start("epp-sim", &mut command);
        let address = process.wait_for("its address", |line| {
            line.split_once("listening on http://")?.1.trim().parse().ok()
        });
        Self { process, address }
    }
}

/// Workers, `epp` and Envoy, wired together.
struct Gateway {
    workers: Vec<Worker>,
    epp: Program,
    envoy: Envoy,
    http: reqwest::Client,
}

impl Gateway {
    async fn start(envoy: PathBuf, workers: usize, worker_arguments: &[&str]) -> Self {
        Self::start_edited(envoy, workers, worker_arguments, |yaml| yaml).await
    }

    async fn start_edited(
        envoy: PathBuf,
        workers: usize,
        worker_arguments: &[&str],
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        Self::start_configured(envoy, workers, worker_arguments, TUTORIAL, edit).await
    }

    /// With this configuration of `epp`, and Envoy's edited.
    async fn start_configured(
        envoy: PathBuf,
        workers: usize,
        worker_arguments: &[&str],
        config: &str,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let workers: Vec<Worker> = (0..workers).map(|_| Worker::start(worker_arguments)).collect();
        let addresses: Vec<SocketAddr> = workers.iter().map(|w| w.address).collect();
        // TLS as deployments have it: a certificate of our own making that Envoy does not check.
        let epp = Program::start(config, &addresses, &["--secure-serving=true"]);
        let envoy = Envoy::start(envoy, epp.grpc_port, edit).await;
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { workers, epp, envoy, http }
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.http.post(format!("{}{path}", self.envoy.url)).json(body);
        request.send().await.expect("Envoy answers")
    }

    async fn in_flight(&self) -> i64 {
        let url = format!("http://127.0.0.1:{}/debug/endpoints", self.epp.metrics_port);
        let page: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        let endpoints = page["endpoints"].as_array().unwrap();
        endpoints.iter().map(|e| e["inFlight"]["requests"].as_i64().unwrap()).sum()
    }
}

fn worker_of(response: &reqwest::Response) -> String {
    response.headers()["x-sim-worker"].to_str().unwrap().to_owned()
}

fn chat(messages: &[Value]) -> Value {
    json!({"model": "m", "messages": messages, "max_tokens": 4})
}

#[tokio::test]
async fn every_api_goes_through() {
    let Some(envoy) = support::envoy::binary() else { return };
    let gateway = Gateway::start(envoy, 2, &["--instant"]).await;
    let hello = [json!({"role": "user", "content": "hello"})];
    for (path, body) in [
        ("/v1/chat/completions", chat(&hello)),
        ("/v1/completions", json!({"model": "m", "prompt": "once upon a time", "max_tokens": 4})),
        ("/v1/completions", json!({"model": "m", "prompt": [1, 2, 3], "max_tokens": 4})),
    ] {
        let response = gateway.post(path, &body).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["x-went-into-resp-headers"], "true");
        let answer: Value = response.json().await.unwrap();
        assert!(answer["usage"]["completion_tokens"].as_u64().is_some_and(|n| n > 0), "{answer}");
    }
    let models = gateway.http.get(format!("{}/v1/models", gateway.envoy.url)).send().await.unwrap();
    let models: Value = models.json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "m");
}

#[tokio::test]
async fn a_large_prompt_arrives_whole() {
    let Some(envoy) = support::envoy::binary() else { return };
    let gateway = Gateway::start(envoy, 1, &["--instant", "--max-model-len", "700000"]).await;
    let prompt = "0123456789abcdef".repeat(60_000);
    let body = json!({"model": "m", "prompt": prompt, "max_tokens": 1});
    let response = gateway.post("/v1/completions", &body).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["usage"]["prompt_tokens"], prompt.len() / 4);
}

#[tokio::test]
async fn errors_reach_the_client_with_their_reason() {
    let Some(envoy) = support::envoy::binary() else { return };
    let gateway = Gateway::start(envoy, 1, &["--instant"]).await;
    let url = format!("{}/v1/chat/completions", gateway.envoy.url);
    let response = gateway.http.post(&url).body("no json").send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer: Value = response.json().await.unwrap();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("error unmarshaling request bodyMap: "), "{answer}");
    // The worker's own errors pass through.
    let unknown = json!({"model": "nobody", "messages": [{"role": "user", "content": "x"}]});
    let response = gateway.post("/v1/chat/completions", &unknown).await;
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn a_hundred_chats_stay_with_their_prefix() {
    let Some(envoy) = support::envoy::binary() else { return };
    let gateway = Gateway::start(envoy, 4, &["--instant"]).await;
    let mut moved = 0;
    let mut homes = std::collections::BTreeMap::<String, usize>::new();
    for chat_id in 0..100 {
        let rules = format!("Chat {chat_id}. {}", "Answer politely and briefly. ".repeat(20));
        let mut messages = vec![json!({"role": "system", "content": rules})];
        let mut home = None;
        for turn in 0..3 {
            messages.push(
                json!({"role": "user", "content": format!("turn {turn}: {}", "word ".repeat(60))}),
            );
            let response = gateway.post("/v1/chat/completions", &chat(&messages)).await;
            assert_eq!(response.status(), 200);
            let worker = worker_of(&response);
            let answer: Value = response.json().await.unwrap();
            if turn > 0 {
                let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
                assert!(
                    cached.as_u64().is_some_and(|n| n > 0),
                    "turn {turn} hits the cache: {answer}"
                );
            }
            messages.push(answer["choices"][0]["message"].clone());
            moved += usize::from(*home.get_or_insert(worker.clone()) != worker);
        }
        *homes.entry(home.unwrap()).or_default() += 1;
    }
    assert_eq!(moved, 0, "every turn lands where its prefix is");
    assert_eq!(homes.len(), 4, "chats spread over the workers: {homes:?}");
}

#[tokio::test]
async fn a_stream_arrives_piece_by_piece() {
    let Some(envoy) = support::envoy::binary() else { return };
    // Slow enough that a stream cannot have ended when its first piece arrives.
    let gateway = Gateway::start(envoy, 2, &["--speed", "0.2"]).await;
    let body = json!({
        "model": "m", "stream": true, "max_tokens": 40, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "hello"}],
    });
    let response = gateway.post("/v1/chat/completions", &body).await;
    assert_eq!(
        response.headers()["content-type"].to_str().unwrap().split(';').next(),
        Some("text/event-stream")
    );
    let mut pieces = response.bytes_stream();
    let first = pieces.next().await.unwrap().unwrap();
    assert!(
        !String::from_utf8_lossy(&first).contains("[DONE]"),
        "the first piece is not the whole"
    );
    assert_eq!(gateway.in_flight().await, 1, "the request is counted while it streams");
    let mut text = String::from_utf8_lossy(&first).into_owned();
    let mut count = 1;
    while let Some(piece) = pieces.next().await {
        text.push_str(&String::from_utf8_lossy(&piece.unwrap()));
        count += 1;
    }
    assert!(count >= 10, "{count} pieces");
    assert!(text.contains("\"usage\":{") && text.trim_end().ends_with("data: [DONE]"));
    eventually("the books to be closed", || async {
        (gateway.in_flight().await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn clients_that_leave_are_not_counted_on() {
    let Some(envoy) = support::envoy::binary() else { return };
    let gateway = Gateway::start(envoy, 2, &["--speed", "0.05"]).await;
    let body = json!({
        "model": "m", "stream": true, "max_tokens": 400,
        "messages": [{"role": "user", "content": "hello"}],
    });
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(gateway.post("/v1/chat/completions", &body).await);
    }
    assert_eq!(gateway.in_flight().await, 6);
    drop(streams);
    eventually("the abandoned requests to be forgotten", || async {
        (gateway.in_flight().await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_worker_loses_only_its_own_streams() {
    let Some(envoy) = support::envoy::binary() else { return };
    let mut gateway = Gateway::start(envoy, 3, &["--speed", "0.3"]).await;
    let mut streams = Vec::new();
    for i in 0..12 {
        let body = json!({
            "model": "m", "stream": true, "max_tokens": 30,
            "messages": [{"role": "user", "content": format!("request {i}")}],
        });
        let response = gateway.post("/v1/chat/completions", &body).await;
        assert_eq!(response.status(), 200);
        streams.push((worker_of(&response), response));
    }
    let killed = streams[0].0.clone();
    let port = killed.rsplit(':').next().unwrap().to_owned();
    let at = gateway.workers.iter().position(|w| w.address.port().to_string() == port);
    let mut worker = gateway.workers.remove(at.expect("a worker of ours served"));
    worker.process.signal("KILL");
    worker.process.wait();
    for (name, response) in streams {
        let whole = response.text().await.is_ok_and(|t| t.contains("[DONE]"));
        assert!(whole || name == killed, "a stream of {name} broke, {killed} was killed");
    }
    eventually("the books to be closed", || async {
        (gateway.in_flight().await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_gateway_in_buffered_mode_works() {
    let Some(envoy) = support::envoy::binary() else { return };
    let buffered = |yaml: String| {
        yaml.replace("FULL_DUPLEX_STREAMED", "BUFFERED")
            .replace("trailer_mode: SEND", "trailer_mode: SKIP")
    };
    let gateway = Gateway::start_edited(envoy, 2, &["--instant"], buffered).await;
    let response = gateway
        .post("/v1/chat/completions", &chat(&[json!({"role": "user", "content": "hi"})]))
        .await;
    assert_eq!(response.status(), 200);
    let renamed = gateway
        .http
        .post(format!("{}/v1/chat/completions", gateway.envoy.url))
        .header("x-llm-d-model-name-rewrite", "m")
        .json(&json!({"model": "alias", "messages": [{"role": "user", "content": "hi"}]}))
        .send()
        .await
        .unwrap();
    assert_eq!(renamed.status(), 200);
    let answer: Value = renamed.json().await.unwrap();
    assert_eq!(answer["model"], "alias", "the client sees the name it asked for");
}
