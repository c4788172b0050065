//! What reading a body takes of memory, whatever it is made of: at most three times its size. One
//! test in a program of its own, since it counts every allocation of the process.
//!
//! `cargo test --test api_memory -- --nocapture` prints the figures.

use bytes::Bytes;
use epp::api::{ParserKind, Parsers, VideoHints};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes of each body.
const SIZE: usize = 1 << 20;

/// What any request may take beyond that, bytes: buffers that begin at a fixed size.
const ALLOWANCE: usize = 128 << 10;
/// The same for a request with JSON of any shape in it (tools, inputs), which is put in one form.
const SHAPED: usize = 4 << 20;

/// `before`, as many `item`s with commas between them as make up the size, and `after`.
fn body(before: &str, item: &str, after: &str) -> Bytes {
    let count = (SIZE - before.len() - after.len()) / (item.len() + 1);
    let mut body = String::with_capacity(SIZE);
    body.push_str(before);
    for i in 0..count {
        if i > 0 {
            body.push(',');
        }
        body.push_str(item);
    }
    body.push_str(after);
    body.into()
}

/// A framed gRPC message with one field, of this number: as many `item`s as make up the size.
fn grpc(field: u8, item: &[u8]) -> Bytes {
    let mut value = item.repeat(SIZE / item.len());
    let mut message = vec![field << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.append(&mut value);
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.append(&mut message);
    body.into()
}

#[test]
fn reading_takes_at_most_three_times_the_body() {
    const CHAT: &str = "/v1/chat/completions";
    const COMPLETIONS: &str = "/v1/completions";
    const EMBEDDINGS: &str = "/v1/embeddings";
    const RESPONSES: &str = "/v1/responses";
    const CONVERSATIONS: &str = "/v1/conversations";
    const MESSAGES: &str = "/v1/messages";
    const VLLM: &str = "/inference/v1/generate";
    const SGLANG: &str = "/generate";
    const VLLM_GRPC: &str = "/vllm.grpc.engine.VllmEngine/Generate";
    let blocks = |item| body(r#"{"model":"m","messages":[{"role":"u","content":["#, item, "]}]}");
    let messages = |item| body(r#"{"model":"m","messages":["#, item, "]}");
    let tools = |item| body(r#"{"model":"m","messages":[{}],"tools":["#, item, "]}");
    let prompts = |item| body(r#"{"model":"m","prompt":["#, item, "]}");
    let inputs = |item| body(r#"{"model":"m","input":["#, item, "]}");
    let items = |item| body(r#"{"model":"m","items":["#, item, "]}");
    let results = |item| {
        let before = r#"{"model":"m","messages":[{"content":[{"type":"tool_result","content":["#;
        body(before, item, "]}]}]}")
    };
    let image = r#"{"type":"image_url","image_url":{"url":"a"}}"#;
    let escaped = r"\n".repeat(SIZE / 2 - 64);
    let cases = [
        ("empty blocks", CHAT, blocks("{}")),
        ("blocks of no known type", CHAT, blocks(r#"{"text":"a"}"#)),
        ("small text blocks", CHAT, blocks(r#"{"type":"text","text":"a"}"#)),
        ("small images", CHAT, blocks(image)),
        ("empty messages", CHAT, messages("{}")),
        ("messages with a role", CHAT, messages(r#"{"role":"u"}"#)),
        ("small messages", CHAT, messages(r#"{"role":"u","content":"a"}"#)),
        ("small messages, content first", CHAT, messages(r#"{"content":"a","role":"u"}"#)),
        (
            "messages of 36 letters",
            CHAT,
            messages(r#"{"role":"u","content":"abcdefghijklmnopqrstuvwxyz0123456789"}"#),
        ),
        ("empty tools", CHAT, tools("{}")),
        ("numbers for tools", CHAT, tools("1")),
        ("nested arrays for tools", CHAT, tools("[1]")),
        ("small objects for tools", CHAT, tools(r#"{"b":1,"a":1}"#)),
        (
            "a text with nothing but escapes",
            CHAT,
            format!(r#"{{"model":"m","messages":[{{"content":"{escaped}"}}]}}"#).into(),
        ),
        (
            "a block with nothing but escapes",
            CHAT,
            format!(r#"{{"messages":[{{"content":[{{"type":"text","text":"{escaped}"}}]}}]}}"#)
                .into(),
        ),
        ("many models", CHAT, body("{", r#""model":"m""#, r#","messages":[{}]}"#)),
        ("token ids", COMPLETIONS, prompts("1")),
        ("texts", COMPLETIONS, prompts(r#""""#)),
        ("lists of token ids", COMPLETIONS, prompts("[1]")),
        ("a few lists of token ids", COMPLETIONS, prompts(&format!("[{}1]", "1,".repeat(4096)))),
        ("token ids to embed", EMBEDDINGS, inputs("1")),
        ("texts to embed", EMBEDDINGS, inputs(r#""a""#)),
        ("longer texts to embed", EMBEDDINGS, inputs(&format!(r#""{}""#, "<a>".repeat(400)))),
        ("empty inputs", RESPONSES, inputs("{}")),
        ("numbers for inputs", RESPONSES, inputs("1")),
        ("small inputs", RESPONSES, inputs(r#"{"role":"u","content":"a"}"#)),
        ("empty items", CONVERSATIONS, items("{}")),
        ("small items", CONVERSATIONS, items(r#"{"type":"a","content":[1]}"#)),
        ("empty blocks, Anthropic", MESSAGES, blocks("{}")),
        ("small text blocks, Anthropic", MESSAGES, blocks(r#"{"type":"text","text":"a"}"#)),
        ("small thoughts", MESSAGES, blocks(r#"{"type":"thinking","thinking":"a"}"#)),
        ("small tool calls", MESSAGES, blocks(r#"{"type":"tool_use","id":"a","input":[ ]}"#)),
        ("empty tools, Anthropic", MESSAGES, tools("{}")),
        ("small results", MESSAGES, results(r#"{"type":"text","text":""}"#)),
        ("empty results", MESSAGES, results("{}")),
        ("token ids for vLLM", VLLM, body(r#"{"token_ids":["#, "1", "]}")),
        (
            "hashes of media",
            VLLM,
            body(r#"{"token_ids":[1],"features":{"mm_hashes":{"image":["#, r#""""#, "]}}}"),
        ),
        (
            "modalities",
            VLLM,
            body(r#"{"token_ids":[1],"features":{"mm_hashes":{"#, r#""":[""]"#, "}}}"),
        ),
        (
            "placeholders",
            VLLM,
            body(r#"{"token_ids":[1],"features":{"mm_placeholders":{"image":["#, "{}", "]}}}"),
        ),
        ("token ids for SGLang", SGLANG, body(r#"{"input_ids":["#, "1", "]}")),
        // In lists of two ids of two bytes, one by one, and in empty lists.
        ("token ids over gRPC", VLLM_GRPC, grpc(2, &[0x12, 4, 0x80, 1, 0x80, 1])),
        ("single token ids over gRPC", VLLM_GRPC, grpc(2, &[0x10, 1])),
        ("no token ids over gRPC", VLLM_GRPC, grpc(2, &[0x12, 0])),
        ("text over gRPC", VLLM_GRPC, grpc(3, b"text")),
        ("hashes over gRPC", VLLM_GRPC, grpc(7, &[0x32, 0])),
        ("placeholders over gRPC", VLLM_GRPC, grpc(7, &[0x2a, 0])),
    ];
    let parsers = Parsers::new(vec![
        ParserKind::OpenAi,
        ParserKind::Anthropic,
        ParserKind::VllmHttp,
        ParserKind::SglangHttp,
        ParserKind::VllmGrpc,
    ]);
    let mut too_much = Vec::new();
    for (name, path, body) in cases {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let parsed = parsers.parse(path, body.clone(), true, &VideoHints::default());
        let took = ALLOCATOR.peak_usage() - before;
        let kept = ALLOCATOR.current_usage() - before;
        let [took_times, kept_times] = [took, kept].map(|n| n as f64 / body.len() as f64);
        let outcome = parsed.as_ref().map_or_else(|e| e.message.to_string(), |_| "read".into());
        println!("{name}: {took_times:.2} x, {kept_times:.2} x kept: {outcome}");
        let shaped = ["tools", "inputs", "items"].iter().any(|of| name.contains(of));
        if took > 3 * body.len() + if shaped { SHAPED } else { ALLOWANCE } {
            too_much.push(format!("{name}: {took_times:.2} x"));
        }
    }
    assert!(too_much.is_empty(), "{too_much:#?}");
}
