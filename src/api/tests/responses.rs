use proptest::prelude::*;

use crate::api::{Api, ResponseReader, Usage};

const fn usage(prompt: u64, completion: u64, cached: Option<u64>) -> Option<Usage> {
    Some(Usage { prompt_tokens: prompt, completion_tokens: completion, cached_tokens: cached })
}

/// What is read of a body given in these pieces.
fn read(api: Api, sse: bool, pieces: &[&[u8]]) -> Option<Usage> {
    let mut reader = ResponseReader::new(api, sse);
    for piece in pieces {
        reader.chunk(piece);
    }
    reader.finish();
    reader.usage()
}

#[test]
fn json_responses() {
    use Api::{Chat, CountTokens, Images, Messages, Passthrough, Responses, SglangGenerate};
    for (api, body, expected) in [
        (
            Chat,
            r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,
                "prompt_tokens_details":{"cached_tokens":2}}}"#,
            usage(3, 5, Some(2)),
        ),
        (
            Responses,
            r#"{"usage":{"input_tokens":3,"output_tokens":5,"total_tokens":8,
                "input_tokens_details":{"cached_tokens":0}}}"#,
            usage(3, 5, Some(0)),
        ),
        (Images, r#"{"usage":{"input_tokens":3,"total_tokens":3}}"#, usage(3, 0, None)),
        // The older name wins where both stand.
        (Chat, r#"{"usage":{"input_tokens":9,"prompt_tokens":3}}"#, usage(3, 0, None)),
        (Chat, r#"{"usage":{"input_tokens":9,"prompt_tokens":null}}"#, usage(9, 0, None)),
        // A total is not read: it is the sum.
        (
            Chat,
            r#"{"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":9}}"#,
            usage(3, 5, None),
        ),
        // Numbers in any spelling; anything else is zero.
        (
            Chat,
            r#"{"usage":{"prompt_tokens":"3","completion_tokens":5.9,"total_tokens":"8.0"}}"#,
            usage(3, 5, None),
        ),
        (
            Chat,
            r#"{"usage":{"prompt_tokens":[3],"completion_tokens":-5,"total_tokens":true,
                "prompt_tokens_details":"x"}}"#,
            usage(0, 0, None),
        ),
        (
            Chat,
            r#"{"usage":{"prompt_tokens":1e300,"completion_tokens":"inf","total_tokens":"x"}}"#,
            usage(0, 0, None),
        ),
        // What no request can have used is not believed, in any spelling.
        (
            Chat,
            r#"{"usage":{"prompt_tokens":1e22,"completion_tokens":18446744073709551615,
                "prompt_tokens_details":{"cached_tokens":4294967296}}}"#,
            usage(0, 0, Some(0)),
        ),
        (
            Chat,
            r#"{"usage":{"prompt_tokens":"1e22","completion_tokens":"-7",
                "prompt_tokens_details":{"cached_tokens":-1e30}}}"#,
            usage(0, 0, Some(0)),
        ),
        (
            Messages,
            r#"{"usage":{"input_tokens":10000000000000000000000,"output_tokens":4294967295}}"#,
            usage(0, 4_294_967_295, None),
        ),
        (
            SglangGenerate,
            r#"{"meta_info":{"prompt_tokens":-3,"completion_tokens":1e300,"cached_tokens":7e9}}"#,
            usage(0, 0, Some(0)),
        ),
        (Chat, r#"{"usage":{}}"#, usage(0, 0, None)),
        (Chat, r#"{"usage":null}"#, None),
        (Chat, r#"{"usage":"none"}"#, None),
        (Chat, r#"{"usage":[3]}"#, None),
        (Chat, r#"{"choices":[{"usage":{"prompt_tokens":3}}]}"#, None),
        (Chat, r#"{"usage":{"prompt_tokens":3}"#, None),
        (Chat, "not JSON", None),
        (Chat, r#"{"usage":{"prompt_tokens":3}} }"#, None),
        (Chat, "[]", None),
        (Chat, "", None),
        // A field of another name may be anything.
        (
            Chat,
            r#"{"type":5,"response":"x","message":["y"],"usage":{"prompt_tokens":3}}"#,
            usage(3, 0, None),
        ),
        (
            Messages,
            r#"{"type":"message","usage":{"input_tokens":3,"output_tokens":5,
                "cache_read_input_tokens":2,"cache_creation_input_tokens":7}}"#,
            usage(3, 5, Some(2)),
        ),
        (
            SglangGenerate,
            r#"{"text":"x","meta_info":{"finish_reason":{"type":"stop"},"prompt_tokens":3,
                "completion_tokens":5,"cached_tokens":1}}"#,
            usage(3, 5, Some(1)),
        ),
        (SglangGenerate, r#"{"meta_info":{"prompt_tokens":3}}"#, usage(3, 0, None)),
        (SglangGenerate, r#"{"meta_info":{"id":"x"}}"#, None),
        (SglangGenerate, r#"{"usage":{"prompt_tokens":3}}"#, None),
        (Passthrough, r#"{"usage":{"prompt_tokens":3}}"#, None),
        (CountTokens, r#"{"usage":{"prompt_tokens":3}}"#, None),
    ] {
        assert_eq!(read(api, false, &[body.as_bytes()]), expected, "{api:?} {body}");
        for at in 0..=body.len() {
            let (a, b) = body.as_bytes().split_at(at);
            assert_eq!(read(api, false, &[a, b, b""]), expected, "{api:?} {body} at {at}");
        }
    }
}

const STREAMS: &[(&str, Api, &str, Option<Usage>)] = &[
    (
        "chat, usage in the last event",
        Api::Chat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n\
         data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5,\
         \"total_tokens\":8,\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\n\
         data: [DONE]\n\n",
        usage(3, 5, Some(2)),
    ),
    (
        "completions, usage in every event, with CR",
        Api::Completions,
        "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\r\n\r\n\
         data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\r\n\r\n\
         data: [DONE]\r\n\r\n",
        usage(3, 2, None),
    ),
    (
        "malformed events are passed over",
        Api::Chat,
        ": \"usage\"\ndata: {\"usage\":{\"prompt_tokens\":3}\n\ndata: \"usage\": 5\n\n\
         data: {\"usage\" : {\"prompt_tokens\":7}}\n\n",
        usage(7, 0, None),
    ),
    (
        "text that mentions usage",
        Api::Chat,
        "data: {\"delta\":\"the \\\"usage\\\": 5\",\"usage\": null}\n\n",
        None,
    ),
    (
        "responses",
        Api::Responses,
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
         event: x\ndata: {\"type\":\"response.in_progress\",\"response\":{\"usage\":{\"input_tokens\":9}}}\n\n\
         event: response.completed\ndata: {\"response\":{\"usage\":{\"input_tokens\":31,\
         \"output_tokens\":4,\"total_tokens\":35,\"input_tokens_details\":{\"cached_tokens\":16}}},\
         \"type\":\"response.completed\"}\n\n",
        usage(31, 4, Some(16)),
    ),
    (
        "messages",
        Api::Messages,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\
         \"input_tokens\":25,\"cache_read_input_tokens\":10,\"output_tokens\":1}}}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"x\"}}\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n\
         event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        usage(25, 15, Some(10)),
    ),
    (
        "sglang: the event that says why it ended",
        Api::SglangGenerate,
        "data: {\"text\":\"a\",\"meta_info\":{\"finish_reason\":null,\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n\
         data: {\"text\":\"ab\",\"meta_info\":{\"finish_reason\":{\"type\":\"length\"},\"prompt_tokens\":3,\
         \"completion_tokens\":2,\"cached_tokens\":1}}\n\ndata: [DONE]\n\n",
        usage(3, 2, Some(1)),
    ),
    (
        "passthrough: nothing is read",
        Api::Passthrough,
        "data: {\"usage\":{\"prompt_tokens\":3}}\n\ndata: x\n\n",
        None,
    ),
    (
        "no end after the last event",
        Api::Chat,
        "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5,\"total_tokens\":8}}",
        usage(3, 5, None),
    ),
];

#[test]
fn streams_cut_at_every_byte() {
    for (name, api, stream, expected) in STREAMS {
        let bytes = stream.as_bytes();
        assert_eq!(read(*api, true, &[bytes]), *expected, "{name}");
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(read(*api, true, &[a, b]), *expected, "{name}, cut at {at}");
        }
        let singles: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(*api, true, &singles), *expected, "{name}, byte by byte");
    }
}

#[test]
fn later_reports_add_to_earlier_ones() {
    let event = |usage: &str| format!("data: {{\"usage\":{usage}}}\n\n");
    let stream = [
        event(r#"{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}"#),
        event(r#"{"completion_tokens":5,"prompt_tokens":0,"total_tokens":100}"#),
    ]
    .concat();
    assert_eq!(read(Api::Chat, true, &[stream.as_bytes()]), usage(3, 5, Some(2)));
}

#[test]
fn a_huge_json_response_is_given_up_in_bounded_memory() {
    let mut reader = ResponseReader::new(Api::Chat, false);
    reader.chunk(br#"{"usage":{"prompt_tokens":3},"data":""#);
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..17 {
        reader.chunk(&piece);
    }
    reader.chunk(b"\"}");
    reader.finish();
    assert_eq!(reader.usage(), None);
}

proptest! {
    #[test]
    fn any_cuts_give_the_same(
        which in 0..STREAMS.len(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let (_, api, stream, expected) = STREAMS[which];
        let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(stream.len() + 1)).collect();
        cuts.push(0);
        cuts.push(stream.len());
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> =
            cuts.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(api, true, &pieces), expected);
    }
}
