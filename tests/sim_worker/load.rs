//! Queueing, batching, cancellation and what `/metrics` shows of them.

use serde_json::json;

use super::*;

fn stream(model: &str, prompt: &str, tokens: u32) -> String {
    json!({
        "model": model, "prompt": prompt, "max_tokens": tokens, "ignore_eos": true, "stream": true,
    })
    .to_string()
}

#[tokio::test]
async fn tokens_are_sent_as_they_come() {
    let client = worker(config(WALK)).await;
    let mut answer = client.open("/v1/completions", &stream("base", "hi", 20)).await;
    answer.next().await.expect("a token");
    // The first token is here, the request goes on.
    client.wait_for_load(1.0, 0.0).await;
    assert_eq!(answer.rest().await.len(), 19 + 1);
    client.wait_for_load(0.0, 0.0).await;
    assert_eq!(client.metric("vllm:generation_tokens_total{").await, Some(20.0));
    assert_eq!(client.metric("vllm:prompt_tokens_total{").await, Some(1.0));
    assert_eq!(client.metric("vllm:time_to_first_token_seconds_count{").await, Some(1.0));
    assert_eq!(client.metric("vllm:inter_token_latency_seconds_count{").await, Some(19.0));
    let ended = "vllm:request_success_total{engine=\"0\",finished_reason=\"length\"";
    assert_eq!(client.metric(ended).await, Some(1.0));
}

#[tokio::test]
async fn the_queue_is_visible_and_empties_when_clients_leave() {
    let mut config = config(CRAWL);
    config.engine.max_num_seqs = 2;
    let client = worker(config).await;
    let prompts = ["a", "b", "c", "d", "e"].map(|p| p.repeat(4000));
    let body = |prompt: &String| stream("base", prompt, 1000);
    let mut clients = Vec::new();
    for prompt in &prompts {
        let (client, body) = (client.clone(), body(prompt));
        clients.push(tokio::spawn(async move {
            client.open("/v1/completions", &body).await.rest().await
        }));
    }
    client.wait_for_load(2.0, 3.0).await;
    // Two prompts of 63 blocks each, and perhaps some of the answers already.
    let usage = client.metric("vllm:kv_cache_usage_perc{").await.expect("a gauge");
    assert!((126.0..=250.0).contains(&(usage * 46_811.0).round()), "{usage}");
    for client in clients {
        client.abort();
    }
    client.wait_for_load(0.0, 0.0).await;
    assert_eq!(client.metric("vllm:kv_cache_usage_perc{").await, Some(0.0));
    let aborted = "vllm:request_success_total{engine=\"0\",finished_reason=\"abort\"";
    assert_eq!(client.metric(aborted).await, Some(5.0));
}

#[tokio::test]
async fn a_client_that_leaves_without_streaming_is_noticed_too() {
    let client = worker(config(CRAWL)).await;
    let body = stream("base", "hi", 1000).replace("\"stream\":true", "\"stream\":false");
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.post("/v1/completions", &body).await.status }
    });
    client.wait_for_load(1.0, 0.0).await;
    asking.abort();
    client.wait_for_load(0.0, 0.0).await;
}

#[tokio::test]
async fn adapters_are_visible() {
    let mut config = config(CRAWL);
    config.engine.max_loras = 1;
    let client = worker(config).await;
    let info = |running: &str, waiting: &str| {
        format!(
            "vllm:lora_requests_info{{max_lora=\"1\",running_lora_adapters=\"{running}\",\
             waiting_lora_adapters=\"{waiting}\"}}"
        )
    };
    assert!(client.metric(&info("", "")).await.is_some());
    let ask = |model: &'static str| {
        let client = client.clone();
        tokio::spawn(async move {
            client.open("/v1/completions", &stream(model, "hi", 1000)).await.rest().await
        })
    };
    let red = ask("red");
    client.wait_for_load(1.0, 0.0).await;
    let blue = ask("blue");
    client.wait_for_load(1.0, 1.0).await;
    let time = client.metric(&info("red", "blue")).await.expect("the adapters in use");
    assert!(time > 1.7e9, "a Unix time: {time}");
    red.abort();
    client.wait_for_load(1.0, 0.0).await;
    assert!(client.metric(&info("blue", "")).await.is_some());
    blue.abort();
}

#[tokio::test]
async fn the_page_of_metrics_is_vllms() {
    let client = worker(WorkerConfig { metrics_padding: 107_000, ..config(RUN) }).await;
    let page = client.get("/metrics").await;
    assert!(page.content_type.starts_with("text/plain"), "{}", page.content_type);
    assert!((107_000..108_000).contains(&page.text.len()), "{}", page.text.len());
    for line in [
        "vllm:cache_config_info{block_size=\"16\",enable_prefix_caching=\"True\",engine=\"0\",\
         model_name=\"base\",num_gpu_blocks=\"46811\"} 1",
        "vllm:num_requests_running{engine=\"0\",model_name=\"base\"} 0",
        "vllm:num_requests_waiting{engine=\"0\",model_name=\"base\"} 0",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"base\"} 0",
        "vllm:time_to_first_token_seconds_bucket{engine=\"0\",model_name=\"base\",le=\"0.001\"} 0",
        "# TYPE vllm:num_requests_waiting gauge",
        "# TYPE vllm:prompt_tokens_total counter",
    ] {
        assert!(page.text.lines().any(|l| l == line), "{line} is missing in\n{}", page.text);
    }
}
