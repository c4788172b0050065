//! Several prompts or several answers in one request, pictures, and counting tokens.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn each_prompt_gets_its_choices() {
    let client = worker(config(RUN)).await;
    let ids = [vec![1; 20], vec![2; 30], vec![3; 40]];
    for (what, prompt, n, choices, prompt_tokens) in [
        ("one text", json!("12345678"), 1, 1, 2),
        ("two texts", json!(["12345678", "1234"]), 1, 2, 3),
        ("lists of ids", json!(ids), 1, 3, 90),
        ("two answers", json!("12345678"), 2, 2, 2),
        ("two answers to each of two", json!(["12345678", "1234"]), 2, 4, 3),
    ] {
        let body = json!({"prompt": prompt, "n": n, "max_tokens": 3});
        let whole = client.post("/v1/completions", &body.to_string()).await.json();
        let texts: Vec<(u64, &str)> = whole["choices"]
            .as_array()
            .expect("choices")
            .iter()
            .map(|c| (c["index"].as_u64().expect("index"), c["text"].as_str().expect("text")))
            .collect();
        let expected: Vec<(u64, &str)> = (0..choices).map(|i| (i, "one two thre")).collect();
        assert_eq!(texts, expected, "{what}");
        let usage = json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": 3 * choices,
            "total_tokens": prompt_tokens + 3 * choices,
            "prompt_tokens_details": {"cached_tokens": whole["usage"]["prompt_tokens_details"]["cached_tokens"]},
        });
        assert_eq!(whole["usage"], usage, "{what}");
    }
}

#[tokio::test]
async fn choices_are_streamed_side_by_side() {
    let client = worker(config(RUN)).await;
    let body = json!({
        "messages": [{"role": "user", "content": "hi"}], "n": 3, "stream": true,
        "stream_options": {"include_usage": true},
    });
    let chunks = client.open("/v1/chat/completions", &body.to_string()).await.rest().await;
    assert_eq!(chunks.last().map(String::as_str), Some("[DONE]"));
    let chunks: Vec<Value> = chunks[..chunks.len() - 1]
        .iter()
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    for index in 0..3 {
        let own: Vec<&Value> = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"].get(0).filter(|c| c["index"] == index))
            .collect();
        assert_eq!(own[0]["delta"]["role"], "assistant");
        let text: String = own.iter().filter_map(|c| c["delta"]["content"].as_str()).collect();
        assert_eq!(text, "one two three four");
        assert_eq!(own.last().expect("chunks")["finish_reason"], "stop");
        assert_eq!(own.iter().filter(|c| !c["finish_reason"].is_null()).count(), 1);
    }
    let usage = &chunks.last().expect("chunks")["usage"];
    assert_eq!(usage["completion_tokens"], 15);
}

#[tokio::test]
async fn all_answers_end_when_the_client_leaves() {
    let client = worker(config(CRAWL)).await;
    let body = json!({
        "prompt": ["a", "b"], "n": 2, "max_tokens": 1000, "ignore_eos": true, "stream": true,
    });
    let asking = tokio::spawn({
        let (client, body) = (client.clone(), body.to_string());
        async move { client.open("/v1/completions", &body).await.rest().await }
    });
    client.wait_for_load(4.0, 0.0).await;
    asking.abort();
    client.wait_for_load(0.0, 0.0).await;
}

#[tokio::test]
async fn each_input_gets_its_embedding() {
    let client = worker(config(RUN)).await;
    for (what, input, equal, tokens) in [
        ("texts", json!(["same", "same", "other"]), [true, false], 4),
        ("ids", json!([[1, 2], [1, 2], [2, 1]]), [true, false], 6),
    ] {
        let body = json!({"input": input}).to_string();
        let body = client.post("/v1/embeddings", &body).await.json();
        let data = body["data"].as_array().expect("a list");
        assert_eq!(
            data.iter().map(|d| d["index"].clone()).collect::<Vec<_>>(),
            [0, 1, 2],
            "{what}"
        );
        let like_first = [1, 2].map(|i: usize| data[i]["embedding"] == data[0]["embedding"]);
        assert_eq!(like_first, equal, "{what}");
        assert_eq!(body["usage"]["prompt_tokens"], tokens, "{what}");
    }
}

/// A picture's base64 is long, its cost is that of its size.
#[tokio::test]
async fn a_picture_costs_what_its_size_costs_and_is_cached() {
    let client = worker(config(RUN)).await;
    let picture = |url: &str| {
        json!({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what is it?"},
        ]}]})
    };
    let ask = async |url: &str| {
        let body = picture(url).to_string();
        let usage = client.post("/v1/chat/completions", &body).await.json()["usage"].clone();
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
        (usage["prompt_tokens"].as_u64().expect("tokens"), cached.expect("tokens"))
    };
    // 640 x 360 is assumed: 23 x 13 tokens, and those of the text around it.
    let (tokens, cached) = ask("https://example.com/a.png").await;
    assert_eq!((tokens, cached), (299 + 16, 0));
    let (_, again) = ask("https://example.com/a.png").await;
    assert_eq!(again, 304, "all full blocks");
    // Another picture shares no more than the words before it.
    assert_eq!(ask("https://example.com/b.png").await.1, 0);
}

#[tokio::test]
async fn tokens_of_a_message_are_counted_without_answering() {
    let client = worker(config(RUN)).await;
    let mut body = json!({
        "model": "base", "system": "be brief",
        "messages": [{"role": "user", "content": "p".repeat(400)}],
    });
    let counted = client.post("/v1/messages/count_tokens", &body.to_string()).await.json();
    body["max_tokens"] = 1.into();
    let answered = client.post("/v1/messages", &body.to_string()).await.json();
    assert_eq!(counted, json!({"input_tokens": answered["usage"]["input_tokens"]}));
    assert_eq!(client.metric("vllm:prompt_tokens_total{").await, counted["input_tokens"].as_f64());

    body["model"] = "x".into();
    let reply = client.post("/v1/messages/count_tokens", &body.to_string()).await;
    assert_eq!((reply.status, &reply.json()["error"]["type"]), (404, &json!("not_found_error")));
}

#[tokio::test]
async fn without_prefix_caching_nothing_is_cached() {
    let mut config = config(RUN);
    config.engine.prefix_caching = false;
    let client = worker(config).await;
    let body = json!({"prompt": "p".repeat(400)}).to_string();
    for _ in 0..2 {
        let body = client.post("/v1/completions", &body).await.json();
        assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    }
    assert_eq!(client.metric("vllm:prefix_cache_queries_total{").await, Some(0.0));
    let page = client.get("/metrics").await.text;
    assert!(page.contains("enable_prefix_caching=\"False\""), "{page}");
}

#[tokio::test]
async fn the_prefix_cache_is_reset_on_request() {
    let client = worker(config(RUN)).await;
    let body = json!({"prompt": "p".repeat(400)}).to_string();
    let ask = async || {
        let body = client.post("/v1/completions", &body).await.json();
        body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("tokens")
    };
    assert_eq!((ask().await, ask().await), (0, 96));
    let reply = client.post("/reset_prefix_cache", "{}").await;
    assert_eq!((reply.status, reply.json()), (200, json!({"reset": true})));
    assert_eq!(ask().await, 0);
    assert_eq!(client.metric("vllm:prefix_cache_hits_total{").await, Some(96.0));
}
