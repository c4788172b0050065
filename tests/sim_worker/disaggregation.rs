//! Prompts computed by one worker, answers given by another.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

/// 100 tokens.
fn prompt(head: char) -> String {
    head.to_string().repeat(400)
}

fn role(name: &str, role: Role) -> WorkerConfig {
    WorkerConfig { name: name.into(), role, ..config(RUN) }
}

/// A prefill and a decode worker.
async fn pair() -> (Client, Client) {
    (worker(role("p", Role::Prefill)).await, worker(role("d", Role::Decode)).await)
}

async fn prompt_tokens(client: &Client, source: &str) -> f64 {
    let page = client.get("/metrics").await.text;
    let series = format!("source=\"{source}\"}}");
    let line = page
        .lines()
        .find(|l| l.starts_with("vllm:prompt_tokens_by_source_total{") && l.contains(&series));
    line.and_then(|l| l.rsplit(' ').next()?.parse().ok()).expect("a number")
}

#[tokio::test]
async fn every_api_has_its_prompt_computed_by_the_prefill_worker() {
    for (path, body, text, usage) in [
        (
            "/v1/completions",
            json!({"prompt": prompt('a'), "max_tokens": 4}),
            "/choices/0/text",
            "/usage/prompt_tokens_details/cached_tokens",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": prompt('b')}], "max_tokens": 4}),
            "/choices/0/message/content",
            "/usage/prompt_tokens_details/cached_tokens",
        ),
        (
            "/v1/messages",
            json!({
                "model": "base", "max_tokens": 4,
                "messages": [{"role": "user", "content": prompt('c')}],
            }),
            "/content/0/text",
            "/usage/cache_read_input_tokens",
        ),
        (
            "/v1/responses",
            json!({"input": prompt('d'), "max_output_tokens": 4}),
            "/output/0/content/0/text",
            "/usage/input_tokens_details/cached_tokens",
        ),
    ] {
        let (prefill, decode) = pair().await;
        let header = [("x-prefiller-host-port", prefill.address.as_str())];
        let reply = decode.post_with(path, &body.to_string(), &header).await;
        assert_eq!((reply.status, reply.worker.as_str()), (200, "d"), "{path}: {}", reply.text);
        assert_eq!(reply.header("x-sim-prefill"), prefill.address, "{path}");
        let answer = reply.json();
        assert_eq!(answer.pointer(text), Some(&json!("one two three fo")), "{path}");
        assert_eq!(answer.pointer(usage), Some(&json!(0)), "{path}");

        let tokens = prefill.metric("vllm:prompt_tokens_total{").await.expect("a counter");
        assert!(tokens >= 100.0, "{path}");
        assert_eq!(prompt_tokens(&prefill, "local_compute").await, tokens, "{path}");
        assert_eq!(prefill.metric("vllm:generation_tokens_total{").await, Some(1.0), "{path}");
        assert_eq!(prompt_tokens(&decode, "external_kv_transfer").await, tokens, "{path}");
        assert_eq!(prompt_tokens(&decode, "local_compute").await, 0.0, "{path}");
        assert_eq!(decode.metric("vllm:generation_tokens_total{").await, Some(4.0), "{path}");
        let ok = "sim:remote_prefill_total{result=\"ok\"}";
        assert_eq!(decode.metric(ok).await, Some(1.0), "{path}");

        // Again: both have the prompt now, and what the prefill worker found is reported.
        let reply = decode.post_with(path, &body.to_string(), &header).await;
        let cached = reply.json().pointer(usage).and_then(Value::as_f64).expect("a number");
        assert_eq!(cached, ((tokens - 1.0) / 16.0).floor() * 16.0, "{path}");
        assert_eq!(prompt_tokens(&decode, "local_cache_hit").await, cached, "{path}");
    }
}

#[tokio::test]
async fn a_stream_comes_from_the_decode_worker_alone() {
    let (prefill, decode) = pair().await;
    let body = json!({
        "prompt": prompt('s'), "max_tokens": 3, "stream": true,
        "stream_options": {"include_usage": true},
    });
    let header = [("x-prefiller-host-port", prefill.address.as_str())];
    let mut stream = decode.open_with("/v1/completions", &body.to_string(), &header).await;
    let chunks = stream.rest().await;
    assert_eq!(chunks.len(), 3 + 1 + 1);
    let usage: Value = serde_json::from_str(&chunks[3]).expect("JSON");
    assert_eq!(usage["usage"]["completion_tokens"], 3);
}

/// What the prefill worker is sent, as a worker of another make would see it.
#[tokio::test]
async fn the_prefill_worker_is_asked_as_llmds_sidecar_asks() {
    type Seen = Arc<Mutex<Vec<(HeaderMap, Value)>>>;
    async fn answer(
        State(seen): State<Seen>,
        headers: HeaderMap,
        Json(body): Json<Value>,
    ) -> Json<Value> {
        seen.lock().expect("a lock").push((headers, body));
        Json(json!({
            "usage": {"prompt_tokens_details": {"cached_tokens": 48}},
            "kv_transfer_params": {
                "do_remote_prefill": true, "do_remote_decode": false, "remote_block_ids": [7, 8],
                "remote_engine_id": "e", "remote_host": "10.0.0.1", "remote_port": 5600,
            },
        }))
    }
    let seen = Seen::default();
    let app = axum::Router::new()
        .route("/v1/completions", axum::routing::post(answer))
        .with_state(seen.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let decode = worker(role("d", Role::Decode)).await;
    let body = json!({
        "model": "base", "prompt": prompt('x'), "max_tokens": 3, "temperature": 0.5,
    });
    // Of several the first.
    let several = format!("{address},10.0.0.9:1");
    let headers = [("x-prefiller-host-port", several.as_str()), ("x-request-id", "r1")];
    let reply = decode.post_with("/v1/completions", &body.to_string(), &headers).await;
    assert_eq!(reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"], 48);
    assert_eq!(prompt_tokens(&decode, "external_kv_transfer").await, 100.0);

    let seen = seen.lock().expect("a lock");
    let (headers, leg) = &seen[0];
    assert_eq!(headers["x-request-id"], "r1");
    assert_eq!(headers.get("x-prefiller-host-port"), None);
    for limit in ["max_tokens", "max_completion_tokens", "min_tokens"] {
        assert_eq!(leg[limit], 1, "{limit}");
    }
    assert_eq!((&leg["stream"], &leg["temperature"]), (&json!(false), &json!(0.5)));
    assert_eq!(
        leg["kv_transfer_params"],
        json!({
            "do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null,
            "remote_block_ids": null, "remote_host": null, "remote_port": null,
        })
    );
}

/// So that a real sidecar can stand in front of a worker.
#[tokio::test]
async fn the_two_legs_can_be_sent_by_hand() {
    let (prefill, decode) = pair().await;
    let mut body = json!({
        "prompt": prompt('h'), "max_tokens": 1,
        "kv_transfer_params": {"do_remote_decode": true, "do_remote_prefill": false},
    });
    let first = prefill.post("/v1/completions", &body.to_string()).await.json();
    let params = &first["kv_transfer_params"];
    assert_eq!(
        (&params["do_remote_prefill"], &params["remote_engine_id"]),
        (&json!(true), &json!("p"))
    );
    assert_eq!(params["remote_block_ids"].as_array().map(Vec::len), Some(7));
    assert_eq!(params["remote_host"], "127.0.0.1");
    body["kv_transfer_params"] = params.clone();
    body["max_tokens"] = 4.into();
    let second = decode.post("/v1/completions", &body.to_string()).await.json();
    assert_eq!(second["choices"][0]["text"], "one two three fo");
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"], 99);
    assert_eq!(prompt_tokens(&decode, "external_kv_transfer").await, 100.0);
}

#[tokio::test]
async fn where_the_prefill_worker_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let gone = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let failing = worker(WorkerConfig {
        fault: serde_json::from_str(r#"{"fail":{"status":503}}"#).expect("a fault"),
        ..role("p", Role::Prefill)
    })
    .await;
    for (what, prefiller, status, result) in [
        ("gone", gone.as_str(), 502, "unreachable"),
        ("no address", "not an address", 502, "unreachable"),
        ("failing", failing.address.as_str(), 503, "error"),
    ] {
        for fallback in [false, true] {
            let decode =
                worker(WorkerConfig { prefill_fallback: fallback, ..role("d", Role::Decode) })
                    .await;
            let body = json!({"prompt": prompt('f'), "max_tokens": 2}).to_string();
            let header = [("x-prefiller-host-port", prefiller)];
            let reply = decode.post_with("/v1/completions", &body, &header).await;
            let expected = if fallback { 200 } else { status };
            assert_eq!((reply.status, reply.worker.as_str()), (expected, "d"), "{what} {fallback}");
            let counted = format!("sim:remote_prefill_total{{result=\"{result}\"}}");
            assert_eq!(decode.metric(&counted).await, Some(1.0), "{what} {fallback}");
            let computed = if fallback { 100.0 } else { 0.0 };
            assert_eq!(prompt_tokens(&decode, "local_compute").await, computed, "{what}");
            if fallback {
                assert_eq!(reply.header("x-sim-prefill"), format!("failed {prefiller}"));
            }
        }
    }
}

#[tokio::test]
async fn the_header_means_nothing_to_a_prefill_worker_and_nothing_when_empty() {
    let (prefill, decode) = pair().await;
    let body = json!({"prompt": prompt('n'), "max_tokens": 2}).to_string();
    for (client, prefiller) in [(&prefill, decode.address.as_str()), (&decode, "")] {
        let header = [("x-prefiller-host-port", prefiller)];
        let reply = client.post_with("/v1/completions", &body, &header).await;
        assert_eq!((reply.status, reply.header("x-sim-prefill")), (200, ""));
        assert_eq!(prompt_tokens(client, "local_compute").await, 100.0);
    }
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused_by_the_api() {
    let (prefill, decode) = pair().await;
    let header = [("x-prefiller-host-port", prefill.address.as_str())];
    for (body, asked) in [("{", 0.0), ("[1]", 0.0), (r#"{"prompt":{}}"#, 1.0)] {
        let reply = decode.post_with("/v1/completions", body, &header).await;
        assert_eq!(reply.status, 400, "{body}");
        let error = "sim:remote_prefill_total{result=\"error\"}";
        assert_eq!(decode.metric(error).await, Some(asked), "{body}");
    }
}
