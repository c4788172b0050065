//! Workers that were told to do wrong.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

const ASK: &str = r#"{"prompt":"hi","max_tokens":2}"#;

async fn set(client: &Client, fault: Value) {
    let reply = client.post("/sim/fault", &fault.to_string()).await;
    assert_eq!((reply.status, reply.json()), (200, fault));
}

#[tokio::test]
async fn requests_fail_as_told_and_health_and_metrics_go_on() {
    let client = worker(config(RUN)).await;
    for (fault, statuses) in [
        (json!({"fail": {"status": 500, "one_in": 1}}), [500, 500, 500, 500]),
        (json!({"fail": {"status": 503, "one_in": 2}}), [200, 503, 200, 503]),
        (json!({}), [200, 200, 200, 200]),
    ] {
        set(&client, fault.clone()).await;
        for (i, status) in statuses.into_iter().enumerate() {
            let path = ["/v1/completions", "/v1/embeddings"][usize::from(i > 1)];
            let body = ASK.replace("prompt", if i > 1 { "input" } else { "prompt" });
            let reply = client.post(path, &body).await;
            assert_eq!((reply.status, reply.worker.as_str()), (status, "w1"), "{fault} {i}");
        }
        assert_eq!(client.get("/health").await.status, 200);
        assert!(client.metric("vllm:num_requests_running{").await.is_some());
        assert_eq!(client.get("/sim/fault").await.json(), fault);
    }
}

#[tokio::test]
async fn a_hanging_worker_takes_requests_and_answers_none() {
    let client =
        worker(WorkerConfig { fault: Fault { hang: true, ..Fault::default() }, ..config(RUN) })
            .await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.post("/v1/completions", ASK).await.status }
    });
    // It is alive, and the request is not in its engine.
    for _ in 0..3 {
        assert_eq!(client.get("/health").await.status, 200);
        assert_eq!(client.metric("vllm:num_requests_running{").await, Some(0.0));
        assert!(!asking.is_finished());
    }
    asking.abort();
    set(&client, json!({})).await;
    assert_eq!(client.post("/v1/completions", ASK).await.status, 200);
}

#[tokio::test]
async fn a_slow_worker_takes_longer_by_its_own_account_too() {
    let client = worker(config(1.0)).await;
    let ttft = async |prompt: &str| {
        let before = client.metric("vllm:time_to_first_token_seconds_sum{").await.expect("a sum");
        let body = json!({"prompt": prompt.repeat(400), "max_tokens": 1}).to_string();
        let started = std::time::Instant::now();
        assert_eq!(client.post("/v1/completions", &body).await.status, 200);
        let sum = client.metric("vllm:time_to_first_token_seconds_sum{").await.expect("a sum");
        (sum - before, started.elapsed())
    };
    let (normal, _) = ttft("a").await;
    set(&client, json!({"slow": 20.0})).await;
    let (slow, waited) = ttft("b").await;
    // A hundred tokens cold: twenty times what the engine takes, up to rounding.
    assert!((slow / normal - 20.0).abs() < 0.1, "{slow} after {normal}");
    assert!(waited >= Duration::from_secs_f64(slow * 0.99), "{waited:?}");
    set(&client, json!({})).await;
    assert!((ttft("c").await.0 / normal - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn metrics_mislead_as_told() {
    let client = worker(config(CRAWL)).await;
    let body = json!({"prompt": "hi", "max_tokens": 1000, "ignore_eos": true, "stream": true});
    let asking = tokio::spawn({
        let (client, body) = (client.clone(), body.to_string());
        async move { client.open("/v1/completions", &body).await.rest().await }
    });
    client.wait_for_load(1.0, 0.0).await;

    set(&client, json!({"metrics": "idle"})).await;
    let running = || client.metric("vllm:num_requests_running{");
    assert_eq!(running().await, Some(0.0));
    assert_eq!(client.metric("vllm:kv_cache_usage_perc{").await, Some(0.0));
    assert!(client.get("/metrics").await.text.contains("num_gpu_blocks=\"46811\""));

    set(&client, json!({})).await;
    assert_eq!(running().await, Some(1.0));

    set(&client, json!({"metrics": "missing"})).await;
    assert_eq!(client.get("/metrics").await.status, 404);

    set(&client, json!({"metrics": "frozen"})).await;
    asking.abort();
    // The request is gone, whenever the worker notices: the page shows it for ever.
    assert_eq!(running().await, Some(1.0));
    set(&client, json!({})).await;
    client.wait_for_load(0.0, 0.0).await;

    set(&client, json!({"metrics": "hang"})).await;
    let scrape = tokio::spawn({
        let client = client.clone();
        async move { client.get("/metrics").await.status }
    });
    assert_eq!(client.get("/health").await.status, 200);
    assert!(!scrape.is_finished());
    scrape.abort();
}

#[tokio::test]
async fn impossible_faults_are_refused() {
    let client = worker(config(RUN)).await;
    for fault in [
        json!({"fail": {"status": 200}}),
        json!({"fail": {"one_in": 0}}),
        json!({"slow": -1}),
        json!({"metrics": "gone"}),
        json!({"explode": true}),
        json!([]),
    ] {
        assert_eq!(client.post("/sim/fault", &fault.to_string()).await.status, 400, "{fault}");
    }
    assert_eq!(client.get("/sim/fault").await.json(), json!({}));
}
