//! Each API: the shape of its answers, whole and streamed, and its errors.

use serde_json::{Value, json};

use super::*;

/// 100 tokens.
fn prompt(head: char) -> String {
    head.to_string().repeat(400)
}

fn chat(content: &str, more: Value) -> String {
    let mut body = json!({"model": "base", "messages": [{"role": "user", "content": content}]});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("fields").clone());
    body.to_string()
}

fn text_of(chunks: &[String], pointer: &str) -> String {
    let parse = |data: &String| serde_json::from_str::<Value>(data).expect("JSON");
    let text = |chunk: Value| chunk.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    chunks.iter().filter(|data| *data != "[DONE]").map(parse).filter_map(text).collect()
}

#[tokio::test]
async fn a_chat_is_answered_whole() {
    let client = worker(config(RUN)).await;
    let reply = client.post("/v1/chat/completions", &chat(&prompt('a'), json!({}))).await;
    assert_eq!((reply.status, reply.worker.as_str()), (200, "w1"));
    let body = reply.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "base");
    assert!(body["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")));
    assert!(body["created"].as_u64().is_some_and(|at| at > 1_700_000_000));
    let choice = &body["choices"][0];
    assert_eq!(choice["index"], 0);
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "one two three four");
    assert_eq!(choice["finish_reason"], "stop");
    // `<|im_start|>user\n`, 400 bytes, `<|im_end|>\n<|im_start|>assistant\n`: 450 bytes.
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": 113,
            "completion_tokens": 5,
            "total_tokens": 118,
            "prompt_tokens_details": {"cached_tokens": 0},
        })
    );
    assert_eq!(body["kv_transfer_params"], Value::Null);
}

#[tokio::test]
async fn a_chat_is_streamed() {
    let client = worker(config(RUN)).await;
    let body = chat("hi", json!({"stream": true, "stream_options": {"include_usage": true}}));
    let chunks = client.open("/v1/chat/completions", &body).await.rest().await;
    assert_eq!(chunks.last().map(String::as_str), Some("[DONE]"));
    let chunks: Vec<Value> = chunks[..chunks.len() - 1]
        .iter()
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!((&chunk["id"], &chunk["created"]), (&chunks[0]["id"], &chunks[0]["created"]));
    }
    assert_eq!(
        chunks[0]["choices"],
        json!([{
            "index": 0, "delta": {"role": "assistant", "content": ""},
            "logprobs": null, "finish_reason": null,
        }])
    );
    let contents: Vec<&str> = chunks[1..6]
        .iter()
        .map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().expect("text"))
        .collect();
    assert_eq!(contents, ["one ", "two ", "thre", "e fo", "ur"]);
    let reasons: Vec<&Value> =
        chunks[..6].iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert_eq!(reasons, [&Value::Null; 5].into_iter().chain([&json!("stop")]).collect::<Vec<_>>());
    assert_eq!(chunks[6]["choices"], json!([]));
    assert_eq!(chunks[6]["usage"]["completion_tokens"], 5);
    assert_eq!(chunks.len(), 7);
}

#[tokio::test]
async fn usage_is_streamed_only_on_request() {
    let client = worker(config(RUN)).await;
    let body = chat("hi", json!({"stream": true}));
    let chunks = client.open("/v1/chat/completions", &body).await.rest().await;
    assert!(!chunks.iter().any(|chunk| chunk.contains("usage")), "{chunks:?}");
}

#[tokio::test]
async fn limits_of_the_answer() {
    let client = worker(config(RUN)).await;
    for (limits, tokens, reason) in [
        (json!({"max_tokens": 3}), 3, "length"),
        (json!({"max_completion_tokens": 2, "max_tokens": 4}), 2, "length"),
        (json!({"max_tokens": 50}), 5, "stop"),
        (json!({"max_tokens": 50, "ignore_eos": true}), 50, "length"),
        (json!({"max_tokens": 50, "min_tokens": 20}), 20, "length"),
    ] {
        let body = chat("hi", limits.clone());
        let body = client.post("/v1/chat/completions", &body).await.json();
        assert_eq!(body["usage"]["completion_tokens"], tokens, "{limits}");
        assert_eq!(body["choices"][0]["finish_reason"], reason, "{limits}");
    }
}

#[tokio::test]
async fn completions_take_prompts_in_every_form() {
    let client = worker(config(RUN)).await;
    let ids: Vec<u32> = (0..50).collect();
    for (prompt, tokens) in
        [(json!("12345"), 2), (json!(["123456789"]), 3), (json!(ids), 50), (json!([ids]), 50)]
    {
        let body = json!({"model": "alias", "prompt": prompt, "max_tokens": 3}).to_string();
        let whole = client.post("/v1/completions", &body).await.json();
        assert_eq!(whole["object"], "text_completion");
        assert_eq!(whole["model"], "alias");
        assert_eq!(whole["choices"][0]["text"], "one two thre");
        assert_eq!(whole["usage"]["prompt_tokens"], tokens, "{prompt}");
        let body = body.replace("\"max", "\"stream\":true,\"max");
        let chunks = client.open("/v1/completions", &body).await.rest().await;
        assert_eq!(text_of(&chunks, "/choices/0/text"), "one two thre");
    }
}

#[tokio::test]
async fn a_repeated_prompt_is_cached_and_an_adapter_has_its_own_cache() {
    let client = worker(config(RUN)).await;
    let ask = async |model: &str, salt: &str| {
        let body = json!({"model": model, "prompt": prompt('p'), "cache_salt": salt});
        let body = client.post("/v1/completions", &body.to_string()).await.json();
        body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a number")
    };
    for (model, salt, cached) in [
        ("base", "", 0),
        ("base", "", 96),
        ("alias", "", 96),
        ("red", "", 0),
        ("red", "", 96),
        ("blue", "", 0),
        ("base", "mine", 0),
    ] {
        assert_eq!(ask(model, salt).await, cached, "{model} {salt}");
    }
    assert_eq!(client.metric("vllm:prefix_cache_queries_total{").await, Some(700.0));
    assert_eq!(client.metric("vllm:prefix_cache_hits_total{").await, Some(3.0 * 96.0));
}

#[tokio::test]
async fn the_next_turn_finds_the_answer_of_the_one_before_in_the_cache() {
    let client = worker(WorkerConfig { answer: "z".repeat(640), ..config(RUN) }).await;
    let first = json!([{"role": "user", "content": prompt('a')}]);
    let body = json!({"messages": first}).to_string();
    let body = client.post("/v1/chat/completions", &body).await.json();
    let (answer, tokens) =
        (&body["choices"][0]["message"]["content"], &body["usage"]["total_tokens"]);
    let next = json!({"messages": [
        first[0], {"role": "assistant", "content": answer}, {"role": "user", "content": "more"},
    ]});
    let body = client.post("/v1/chat/completions", &next.to_string()).await.json();
    let cached = body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
    // All of the first turn but what did not fill a block, and its last token.
    assert_eq!((tokens.as_u64(), cached), (Some(113 + 160), Some(272 / 16 * 16)));
}

#[tokio::test]
async fn anthropics_messages() {
    let client = worker(config(RUN)).await;
    let body = json!({
        "model": "base", "max_tokens": 4, "system": [{"type": "text", "text": "be brief"}],
        "messages": [{"role": "user", "content": prompt('m')}],
    });
    let whole = client.post("/v1/messages", &body.to_string()).await.json();
    assert_eq!(whole["type"], "message");
    assert_eq!(whole["content"], json!([{"type": "text", "text": "one two three fo"}]));
    assert_eq!(whole["stop_reason"], "max_tokens");
    let total = whole["usage"]["input_tokens"].as_u64().expect("a number");
    assert_eq!(whole["usage"]["cache_read_input_tokens"], 0);

    let body = body.to_string().replace("\"max_tokens\"", "\"stream\":true,\"max_tokens\"");
    let mut stream = client.open("/v1/messages", &body).await;
    let mut events = Vec::new();
    let mut chunks = Vec::new();
    while let Some((event, data)) = stream.next().await {
        let parsed: Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!(parsed["type"], event.as_str());
        events.push(event);
        chunks.push(data);
    }
    let delta = "content_block_delta";
    assert_eq!(
        events,
        [
            "message_start",
            "content_block_start",
            delta,
            delta,
            delta,
            delta,
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(text_of(&chunks, "/delta/text"), "one two three fo");
    let start: Value = serde_json::from_str(&chunks[0]).expect("JSON");
    let usage = &start["message"]["usage"];
    assert_eq!(usage["cache_read_input_tokens"], 112);
    assert_eq!(usage["input_tokens"], total - 112);

    let unknown = r#"{"model":"x","max_tokens":1,"messages":[]}"#;
    let reply = client.post("/v1/messages", unknown).await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.json()["type"], "error");
    assert_eq!(reply.json()["error"]["type"], "not_found_error");
}

#[tokio::test]
async fn responses() {
    let client = worker(config(RUN)).await;
    for input in [json!("hello"), json!([{"role": "user", "content": "hello"}])] {
        let body = json!({"model": "base", "input": input});
        let whole = client.post("/v1/responses", &body.to_string()).await.json();
        assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("completed")));
        assert_eq!(whole["output"][0]["content"][0]["text"], "one two three four");
        assert_eq!(whole["usage"]["input_tokens"], 14);
        assert_eq!(whole["usage"]["output_tokens"], 5);
    }
    let body = json!({"input": "hello", "stream": true, "max_output_tokens": 2});
    let chunks = client.open("/v1/responses", &body.to_string()).await.rest().await;
    assert_eq!(text_of(&chunks, "/delta"), "one two ");
    let kinds: Vec<String> = chunks
        .iter()
        .enumerate()
        .map(|(number, data)| {
            let event: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(event["sequence_number"], number);
            event["type"].as_str().expect("a type").trim_start_matches("response.").to_owned()
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "created",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "incomplete",
        ]
    );
    let last: Value = serde_json::from_str(&chunks[8]).expect("JSON");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(last["response"]["usage"]["output_tokens"], 2);
}

#[tokio::test]
async fn embeddings_and_tokens() {
    let client = worker(config(RUN)).await;
    let embed = async |input: &str| {
        let body = json!({"model": "base", "input": input}).to_string();
        client.post("/v1/embeddings", &body).await.json()
    };
    let (a, again, b) = (embed("a").await, embed("a").await, embed("b").await);
    assert_eq!(a["data"][0]["object"], "embedding");
    assert_eq!(a["data"][0]["embedding"].as_array().map(Vec::len), Some(16));
    assert_eq!(a["data"], again["data"]);
    assert_ne!(a["data"], b["data"]);
    assert_eq!(a["usage"], json!({"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}));

    let body = client.post("/tokenize", r#"{"prompt":"abcdef"}"#).await.json();
    assert_eq!((&body["count"], &body["max_model_len"]), (&json!(2), &json!(32_000)));
    assert_eq!(body["tokens"], json!([0x6463_6261, 0x6665]));
}

#[tokio::test]
async fn models_and_adapters_are_listed() {
    let client = worker(config(RUN)).await;
    let body = client.get("/v1/models").await.json();
    let models: Vec<(&str, &str, Option<&str>)> = body["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|card| {
            assert_eq!(card["max_model_len"], 32_000);
            let text = |field: &str| card[field].as_str();
            (text("id").expect("an id"), text("root").expect("a root"), text("parent"))
        })
        .collect();
    assert_eq!(
        models,
        [
            ("base", "base", None),
            ("alias", "base", None),
            ("red", "base", Some("base")),
            ("blue", "base", Some("base")),
        ]
    );
}

#[tokio::test]
async fn errors_are_vllms() {
    let client = worker(config(RUN)).await;
    let long = chat(&"x".repeat(4 * 32_000), json!({}));
    let chat = |fields: Value| chat("hi", fields);
    for (what, path, body, status, param) in [
        ("unknown model", "/v1/chat/completions", chat(json!({"model": "x"})), 404, json!("model")),
        ("bad JSON", "/v1/chat/completions", "{".into(), 400, Value::Null),
        ("no messages", "/v1/chat/completions", r#"{"model":"base"}"#.into(), 400, Value::Null),
        ("too long", "/v1/chat/completions", long, 400, json!("input_tokens")),
        ("n = 0", "/v1/chat/completions", chat(json!({"n": 0})), 400, json!("n")),
        ("n = 129", "/v1/chat/completions", chat(json!({"n": 129})), 400, json!("n")),
        (
            "no tokens wanted",
            "/v1/chat/completions",
            chat(json!({"max_tokens": 0})),
            400,
            json!("max_tokens"),
        ),
        (
            "more tokens than fit",
            "/v1/chat/completions",
            chat(json!({"max_tokens": 32_000})),
            400,
            json!("max_tokens"),
        ),
        ("empty", "/v1/completions", r#"{"prompt":""}"#.into(), 400, json!("prompt")),
        ("no prompt", "/v1/completions", r#"{"prompt":[]}"#.into(), 400, json!("prompt")),
        (
            "one of two empty",
            "/v1/completions",
            r#"{"prompt":["a",""]}"#.into(),
            400,
            json!("prompt"),
        ),
        ("a strange prompt", "/v1/completions", r#"{"prompt":{}}"#.into(), 400, json!("prompt")),
    ] {
        let reply = client.post(path, &body).await;
        assert_eq!((reply.status, reply.worker.as_str()), (status, "w1"), "{what}");
        let error = &reply.json()["error"];
        let kind = if status == 404 { "NotFoundError" } else { "BadRequestError" };
        assert_eq!((&error["type"], &error["code"]), (&json!(kind), &json!(status)), "{what}");
        assert_eq!(error["param"], param, "{what}");
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{what}");
    }
    let reply = client.get("/nowhere").await;
    assert_eq!((reply.status, reply.worker.as_str()), (404, "w1"));
    assert_eq!(client.get("/health").await.status, 200);
}
