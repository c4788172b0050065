//! Tokens of answers, by our own count.

use proptest::prelude::*;
use prost::encoding::{encode_key, encode_varint};

use crate::api::{Api, ResponseReader, VertexMethod};

/// What is counted of a body given in these pieces.
fn counted(api: Api, sse: bool, pieces: &[&[u8]]) -> u64 {
    let mut reader = ResponseReader::new(api, sse).counting();
    pieces.iter().for_each(|piece| reader.chunk(piece));
    reader.finish();
    reader.counted()
}

/// A stream of these events.
fn events(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[test]
fn every_event_with_text_is_a_token() {
    for (case, api, stream, tokens) in [
        (
            "a chat: its role and its end bring nothing",
            Api::Chat,
            events(&[
                r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                r#"{"choices":[{"delta":{"content":"a"}}]}"#,
                r#"{"choices":[{"delta":{"content": "\"content\":\"x\""}}]}"#,
                r#"{"choices":[{"delta":{"content":null}}]}"#,
                r#"{"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}"#,
                r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
                "[DONE]",
            ]),
            2,
        ),
        (
            "thoughts, under one name or two, and calls of tools",
            Api::Chat,
            events(&[
                r#"{"choices":[{"delta":{"reasoning":"a","reasoning_content":"a"}}]}"#,
                r#"{"choices":[{"delta":{"reasoning_content":"b"}}]}"#,
                r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}]}"#,
            ]),
            3,
        ),
        (
            "log probabilities are no text",
            Api::Chat,
            events(&[
                r#"{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a"}]}}]}"#,
            ]),
            1,
        ),
        (
            "two answers in one event",
            Api::Completions,
            events(&[r#"{"choices":[{"text":"a"},{"text":"b"},{"text":""}]}"#]),
            2,
        ),
        (
            "the Responses API says all of it once more at the end",
            Api::Responses,
            events(&[
                r#"{"type":"response.output_text.delta","delta":"a"}"#,
                r#"{"type":"response.output_text.delta","delta":"b"}"#,
                r#"{"type":"response.output_text.done","text":"ab"}"#,
            ]),
            2,
        ),
        (
            "Anthropic",
            Api::Messages,
            events(&[
                r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":3}}}"#,
                r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#,
                r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"b"}}"#,
                r#"{"type":"message_delta","usage":{"output_tokens":2}}"#,
            ]),
            2,
        ),
        (
            "vLLM's token ids",
            Api::VllmGenerate,
            events(&[
                r#"{"choices":[{"token_ids":[1, 2,3]}]}"#,
                r#"{"choices":[{"token_ids":[]},{"token_ids":[ 7 ]}]}"#,
            ]),
            4,
        ),
        (
            "SGLang says at each event how many there are",
            Api::SglangGenerate,
            events(&[
                r#"{"text":"a","meta_info":{"finish_reason":null,"completion_tokens":1}}"#,
                r#"{"text":"abc","meta_info":{"finish_reason":null,"completion_tokens":3}}"#,
                r#"{"text":"abc","meta_info":{"finish_reason":null,"completion_tokens":-9}}"#,
            ]),
            3,
        ),
        ("nobody reads it", Api::Passthrough, events(&[r#"{"content":"a"}"#]), 0),
        ("embeddings have none", Api::Embeddings, events(&[r#"{"text":"a"}"#]), 0),
    ] {
        assert_eq!(counted(api, true, &[stream.as_bytes()]), tokens, "{case}");
    }
}

#[test]
fn an_answer_that_is_no_stream_is_measured_by_its_text() {
    for (api, body, tokens) in [
        (Api::Chat, r#"{"choices":[{"message":{"content":"four, five"}}]}"#, 3),
        (Api::Chat, r#"{"choices":[{"message":{"content":""}}]}"#, 0),
        (Api::Completions, r#"{"choices":[{"text":"1234"},{"text":"5678"}]}"#, 2),
        // Never ended.
        (Api::Completions, r#"{"choices":[{"text":"1234"#, 1),
        (Api::VllmGenerate, r#"{"choices":[{"token_ids":[1,2,3,4]}]}"#, 4),
        (Api::Chat, "", 0),
        (Api::Chat, "no JSON", 0),
    ] {
        assert_eq!(counted(api, false, &[body.as_bytes()]), tokens, "{body}");
    }
    // Counted whatever else is reported.
    let body = br#"{"choices":[{"text":"1234"}],"usage":{"completion_tokens":9}}"#;
    assert_eq!(counted(Api::Completions, false, &[body]), 1);
    assert_eq!(ResponseReader::new(Api::Completions, false).counted(), 0, "unless nobody asks");
}

/// A gRPC message of this field with a list of ids in field 1.
fn generated(field: u32, ids: &[u64]) -> Vec<u8> {
    let delimited = |field: u32, content: &[u8]| {
        let mut out = Vec::new();
        encode_key(field, prost::encoding::WireType::LengthDelimited, &mut out);
        encode_varint(content.len() as u64, &mut out);
        out.extend_from_slice(content);
        out
    };
    let mut packed = Vec::new();
    ids.iter().for_each(|id| encode_varint(*id, &mut packed));
    let message = delimited(field, &delimited(1, &packed));
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

#[test]
fn messages_of_vllm_bring_token_ids() {
    let stream =
        [generated(1, &[1, 300]), generated(1, &[70_000]), generated(2, &[1, 300, 70_000])];
    assert_eq!(counted(Api::VllmGrpcGenerate, false, &[&stream.concat()]), 3, "a stream");
    assert_eq!(counted(Api::VllmGrpcGenerate, false, &[&stream[2]]), 3, "all at once");
    assert_eq!(counted(Api::VllmGrpcGenerate, false, &[&stream[0][..7]]), 0, "cut");
}

proptest! {
    /// Any bytes, cut anywhere, are counted alike.
    #[test]
    fn cuts_do_not_matter(
        parts in prop::collection::vec(
            prop_oneof![
                Just("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"),
                Just("data: {\"content\":\"\\\"}\n"),
                Just("\"content\":"), Just("\"text\" : \"a"), Just("\"token_ids\":[1,"),
                Just("\n"), Just("data:"), Just("{"), Just("]"),
            ],
            0..12,
        ),
        cut in any::<prop::sample::Index>(),
        sse in any::<bool>(),
        api in prop_oneof![
            Just(Api::Chat), Just(Api::Completions), Just(Api::VllmGenerate),
            Just(Api::VllmGrpcGenerate), Just(Api::Vertex(VertexMethod::ChatCompletions)),
        ],
    ) {
        let body = parts.concat().into_bytes();
        let (head, tail) = body.split_at(cut.index(body.len() + 1));
        prop_assert_eq!(counted(api, sse, &[head, tail]), counted(api, sse, &[&body]));
    }
}
