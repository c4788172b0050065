//! What reading bodies costs, beside floors measured in the same run: a copy of the body, skipping
//! through its JSON, and the generic tree that a parser without this care would build.
//!
//! Requests: a chat of 1 KB, a prompt of 220 KB as it stands and with an escape per line, an
//! agent's chat with 50 KB of tools. Responses: an event of a stream that reports nothing, the one
//! that reports, and both through the renamer.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use epp::api::{Api, ModelRenamer, ParserKind, Parsers, ResponseReader, VideoHints};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// `bytes` of words, a line each dozen.
fn prose(bytes: usize, line_end: &str) -> String {
    let words = (0..).map(|i| {
        let end = if i % 12 == 11 { line_end } else { " " };
        format!("word{}{end}", i % 977)
    });
    let mut text = String::with_capacity(bytes + 16);
    for word in words {
        if text.len() >= bytes {
            break;
        }
        text.push_str(&word);
    }
    text
}

fn chat(system: &str, question: &str, tools: Option<Value>) -> Bytes {
    let mut body = json!({
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": question},
        ],
        "max_tokens": 256,
        "temperature": 0.7,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if let Some(tools) = tools {
        body["tools"] = tools;
    }
    body.to_string().into()
}

/// Function definitions of the size and shape that coding agents send.
fn tools(bytes: usize) -> Value {
    let tool = |i: usize| {
        json!({"type": "function", "function": {
            "name": format!("tool_{i}"),
            "description": prose(900, "\n"),
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "The <absolute> path of the file"},
                    "limit": {"type": "integer", "minimum": 1, "default": 2000},
                },
                "required": ["path"],
                "additionalProperties": false,
            },
        }})
    };
    let size = tool(0).to_string().len();
    Value::Array((0..bytes / size).map(tool).collect())
}

fn requests(c: &mut Criterion) {
    let parsers = Parsers::new(vec![ParserKind::OpenAi, ParserKind::Anthropic]);
    let none = VideoHints::default();
    let bodies = [
        ("chat 1 KB", chat(&prose(600, " "), &prose(200, " "), None)),
        ("prompt 220 KB", chat(&prose(220_000, " "), "Go on.", None)),
        ("prompt 220 KB, escapes", chat(&prose(220_000, "\n"), "Go on.", None)),
        ("tools 50 KB", chat(&prose(4_000, "\n"), "Go on.", Some(tools(50_000)))),
    ];
    for (name, body) in bodies {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("parse", |b| {
            b.iter(|| parsers.parse(CHAT, black_box(&body).clone(), true, &none).expect("a chat"));
        });
        group.bench_function("parse without prompt", |b| {
            b.iter(|| parsers.parse(CHAT, black_box(&body).clone(), false, &none).expect("a chat"));
        });
        let parsed = parsers.parse(CHAT, body.clone(), false, &none).expect("a chat");
        group.bench_function("splice the model", |b| {
            b.iter(|| parsed.with_model(black_box(&body), "adapter-7", usize::MAX));
        });
        group.bench_function("floor: copy", |b| {
            b.iter(|| Bytes::copy_from_slice(black_box(&body)));
        });
        group.bench_function("floor: skip through the JSON", |b| {
            b.iter(|| serde_json::from_slice::<IgnoredAny>(black_box(&body)).expect("JSON"));
        });
        group.bench_function("ceiling: build the tree", |b| {
            b.iter(|| serde_json::from_slice::<Value>(black_box(&body)).expect("JSON"));
        });
        group.finish();
    }
}

fn responses(c: &mut Criterion) {
    let head = "data: {\"id\":\"chatcmpl-5f3a\",\"object\":\"chat.completion.chunk\",\
                \"created\":1739400043,\"model\":\"adapter-7\"";
    let ordinary = format!(
        "{head},\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word\"}},\"logprobs\":null,\
         \"finish_reason\":null}}],\"usage\":null}}\n\n"
    );
    let report = format!(
        "{head},\"choices\":[],\"usage\":{{\"prompt_tokens\":3012,\"total_tokens\":3268,\
         \"completion_tokens\":256,\"prompt_tokens_details\":{{\"cached_tokens\":2048}}}}}}\n\n"
    );
    let mut group = c.benchmark_group("event");
    for (name, event) in [("ordinary", Bytes::from(ordinary)), ("usage", Bytes::from(report))] {
        group.throughput(Throughput::Bytes(event.len() as u64));
        let mut reader = ResponseReader::new(Api::Chat, true);
        group.bench_function(format!("{name}: read"), |b| {
            b.iter(|| reader.chunk(black_box(&event)));
        });
        let mut renamer = ModelRenamer::new("adapter-7", "the model");
        group.bench_function(format!("{name}: rename"), |b| {
            b.iter(|| renamer.rename(black_box(&event).clone(), false));
        });
        let mut renamer = ModelRenamer::new("another", "the model");
        group.bench_function(format!("{name}: rename, no match"), |b| {
            b.iter(|| renamer.rename(black_box(&event).clone(), false));
        });
        group.bench_function(format!("{name}: floor: copy"), |b| {
            b.iter(|| Bytes::copy_from_slice(black_box(&event)));
        });
    }
    group.finish();
}

criterion_group!(benches, requests, responses);
criterion_main!(benches);
