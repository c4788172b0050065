use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::api::{Api, ResponseReader};

/// JSON with the names that parsers look for in likely and unlikely places.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}|text|image_url|tool_use|tool_result|data:image/png;base64,iVBO[a-z]{0,9}"
            .prop_map(Value::from),
    ];
    let name = "model|messages|prompt|input|items|content|type|text|role|tools|system|token_ids|\
                input_ids|image_url|url|source|data|usage|stream|message|response|meta_info|\
                prompt_tokens|finish_reason|\\PC{0,3}";
    leaf.prop_recursive(6, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(value in json()) {
        let body = value.to_string();
        for path in JSON_PATHS {
            let with = parse_with(path, body.as_bytes(), true);
            let without = parse_with(path, body.as_bytes(), false);
            match (with, without) {
                (Ok(parsed), Ok(unprompted)) => {
                    parsed.prompt.token_count();
                    let body = Bytes::from(body.clone());
                    prop_assert!(parsed.with_model(&body, "m", usize::MAX).is_ok());
                    prop_assert_eq!(parsed.model, unprompted.model);
                }
                (with, without) => prop_assert_eq!(with.err(), without.err()),
            }
        }
        for api in [Api::Chat, Api::Responses, Api::Messages, Api::SglangGenerate] {
            for sse in [false, true] {
                let mut reader = ResponseReader::new(api, sse);
                reader.chunk(format!("data: {body}\n").as_bytes());
                reader.chunk(body.as_bytes());
                reader.finish();
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..64)) {
        for path in JSON_PATHS {
            let _ = parse_with(path, &body, true);
        }
    }

    /// A good body with one byte changed: mostly bad, never a panic.
    #[test]
    fn a_changed_byte(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = br#"{"model":"m","prompt":"p\ud83d\ude00","input":[1,2],"tools":[{"a":"\u003c"}],
            "messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"token_ids":[1e0],
            "items":[{"content":{"b":[],"a":-0.5}}],"input_ids":[7]}"#.to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        for path in JSON_PATHS {
            let _ = parse_with(path, &body, true);
        }
    }
}

#[test]
fn depth_is_limited_in_every_field_and_costs_no_stack() {
    let nest = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    // Paths of the fields that are kept as they stand, and of one that is skipped.
    for (path, before, after, around) in [
        (CHAT, r#"{"messages":[{}],"tools":"#, "}", 1),
        (CHAT, r#"{"messages":[{"content":"x","tool_calls":"#, "}]}", 3),
        (CHAT, r#"{"messages":[{}],"other":"#, "}", 1),
        (RESPONSES, r#"{"input":"#, "}", 1),
        (CONVERSATIONS, r#"{"items":[{"content":"#, "}]}", 3),
        (MESSAGES, r#"{"messages":[{"content":[{"type":"tool_use","input":"#, "}]}]}", 5),
        (VLLM, r#"{"token_ids":[1],"sampling_params":"#, "}", 1),
        (SGLANG, r#"{"input_ids":[1],"sampling_params":{"max_new_tokens":"#, "}}", 2),
    ] {
        parse(path, &format!("{before}{}{after}", nest(10_000 - around)));
        for levels in [10_001 - around, 300_000] {
            let text = refusal(path, &format!("{before}{}{after}", nest(levels)));
            assert!(text.ends_with("exceeded max depth"), "{path} {before}: {text}");
        }
    }
    // Where a type is expected, what nests instead is of the wrong type.
    for (path, before, after) in [
        (COMPLETIONS, r#"{"prompt":"#, "}"),
        (CHAT, r#"{"messages":[{"content":"#, "}]}"),
        (EMBEDDINGS, r#"{"input":"#, "}"),
        (VLLM, r#"{"token_ids":"#, "}"),
        (SGLANG, r#"{"input_ids":"#, "}"),
    ] {
        refusal(path, &format!("{before}{}{after}", nest(9_000)));
    }
    // Blocks in blocks are followed no further than the result of a tool.
    let blocks = r#"{"content":["#.repeat(4_000) + &"]}".repeat(4_000);
    parse(MESSAGES, &format!(r#"{{"messages":[{blocks}]}}"#));
}

#[test]
fn large_bodies() {
    let text = "lorem ipsum \\n".repeat(80_000);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    assert_eq!(prompt(CHAT, &body), format!("user{}", text.replace("\\n", "\n")));

    let ids: Vec<u32> = (0..200_000).collect();
    let body = serde_json::json!({ "prompt": ids }).to_string();
    assert_eq!(token_ids(COMPLETIONS, &body), ids);

    let messages: Vec<Value> = (0..20_000)
        .map(|i| serde_json::json!({"role": "user", "content": i.to_string()}))
        .collect();
    let body = serde_json::json!({ "messages": messages }).to_string();
    let expected: String = (0..20_000).map(|i| format!("user{i}")).collect();
    assert_eq!(prompt(CHAT, &body), expected);
}
