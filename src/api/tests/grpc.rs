//! Requests and answers over gRPC, written by prost from messages with more fields than are read.

use prost::Message;

use super::*;
use crate::api::{Api, MediaItem, ResponseReader, Usage, VertexMethod};

const GENERATE: &str = "/vllm.grpc.engine.VllmEngine/Generate";
const EMBED: &str = "/vllm.grpc.engine.VllmEngine/Embed";
const CHAT_COMPLETIONS: &str = "/google.cloud.aiplatform.v1beta1.PredictionService/ChatCompletions";
const RAW_PREDICT: &str = "/google.cloud.aiplatform.v1beta1.PredictionService/RawPredict";
const STREAM_RAW_PREDICT: &str =
    "/google.cloud.aiplatform.v1beta1.PredictionService/StreamRawPredict";

#[derive(Clone, PartialEq, Message)]
struct Tokenized {
    #[prost(string, tag = "1")]
    original_text: String,
    #[prost(uint32, repeated, tag = "2")]
    input_ids: Vec<u32>,
}

/// The same, each id a field of its own, as writers of older protobuf do.
#[derive(Clone, PartialEq, Message)]
struct TokenizedOneByOne {
    #[prost(uint32, repeated, packed = "false", tag = "2")]
    input_ids: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Sampling {
    #[prost(float, optional, tag = "1")]
    temperature: Option<f32>,
    #[prost(uint32, optional, tag = "8")]
    max_tokens: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Range {
    #[prost(uint32, tag = "1")]
    offset: u32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Multimodal {
    #[prost(uint32, optional, tag = "4")]
    image_token: Option<u32>,
    #[prost(message, repeated, tag = "5")]
    placeholders: Vec<Range>,
    #[prost(string, repeated, tag = "6")]
    hashes: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Generate {
    #[prost(string, tag = "1")]
    request_id: String,
    #[prost(message, optional, tag = "2")]
    tokenized: Option<Tokenized>,
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
    #[prost(message, optional, tag = "4")]
    sampling: Option<Sampling>,
    #[prost(bool, tag = "5")]
    stream: bool,
    #[prost(message, optional, tag = "7")]
    multimodal: Option<Multimodal>,
}

/// `ChatCompletionsRequest` and the other messages of Vertex AI.
#[derive(Clone, PartialEq, Message)]
struct Vertex {
    #[prost(string, tag = "1")]
    endpoint: String,
    #[prost(message, optional, tag = "2")]
    http_body: Option<HttpBody>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpBody {
    #[prost(string, tag = "1")]
    content_type: String,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

/// A `GenerateStreamChunk` at 1, a `GenerateComplete` at 2.
#[derive(Clone, PartialEq, Message)]
struct Generated {
    #[prost(message, optional, tag = "1")]
    chunk: Option<Chunk>,
    #[prost(message, optional, tag = "2")]
    complete: Option<Complete>,
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(uint32, repeated, tag = "1")]
    token_ids: Vec<u32>,
    #[prost(uint32, tag = "2")]
    prompt_tokens: u32,
    #[prost(uint32, tag = "3")]
    completion_tokens: u32,
    #[prost(uint32, tag = "4")]
    cached_tokens: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Complete {
    #[prost(uint32, repeated, tag = "1")]
    output_ids: Vec<u32>,
    #[prost(string, tag = "2")]
    finish_reason: String,
    #[prost(uint32, tag = "3")]
    prompt_tokens: u32,
    #[prost(uint32, tag = "4")]
    completion_tokens: u32,
    #[prost(uint32, tag = "5")]
    cached_tokens: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Embedded {
    #[prost(float, repeated, tag = "1")]
    embedding: Vec<f32>,
    #[prost(uint32, tag = "2")]
    prompt_tokens: u32,
    #[prost(uint32, tag = "3")]
    embedding_dim: u32,
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn read(path: &str, body: &[u8], want_prompt: bool) -> Result<ParsedRequest, String> {
    let parsers = Parsers::new(vec![ParserKind::VllmGrpc, ParserKind::VertexAi]);
    let body = Bytes::copy_from_slice(body);
    let parsed = parsers.parse(path, body.clone(), want_prompt, &VideoHints::default());
    if let Ok(parsed) = &parsed {
        // What is forwarded is the message as it came.
        assert!(!parsed.model_required);
        assert_eq!(parsed.with_model(&body, "another", 0), Ok(body));
    }
    parsed.map_err(|error| {
        assert_eq!(error.code, Code::BadRequest);
        error.message.into_owned()
    })
}

fn ids_of(prompt: &Prompt) -> Vec<u32> {
    let bytes: Vec<u8> = prompt
        .prompts()
        .flatten()
        .flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.to_vec(),
            Piece::Fill { .. } => panic!("no item is counted beside ids"),
        })
        .collect();
    bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect()
}

#[test]
fn vllm_token_ids() {
    let input_ids = vec![1, 300, u32::MAX];
    let multimodal = Multimodal {
        image_token: Some(9),
        placeholders: [(0, 2), (5, 7), (20, 3)]
            .map(|(offset, length)| Range { offset, length })
            .into(),
        hashes: vec!["first".into(), String::new()],
    };
    let request = Generate {
        request_id: "r".into(),
        tokenized: Some(Tokenized { original_text: "x".into(), input_ids: input_ids.clone() }),
        sampling: Some(Sampling { temperature: Some(0.5), max_tokens: Some(64) }),
        stream: true,
        multimodal: Some(multimodal),
        ..Generate::default()
    };
    let parsed = read(GENERATE, &framed(&request.encode_to_vec()), true).expect("a request");
    assert_eq!(parsed.api, Api::VllmGrpcGenerate);
    assert_eq!((parsed.stream, parsed.max_output_tokens), (true, Some(64)));
    assert_eq!((parsed.model.as_deref(), parsed.skip_response), (None, false));
    assert_eq!(ids_of(&parsed.prompt), input_ids);
    // The second item has no hash, and the third is of no item at all.
    assert_eq!(parsed.media, [MediaItem::named(b"first", 2)]);
    assert!(parsed.prompt.has_media());

    let without = read(GENERATE, &framed(&request.encode_to_vec()), false).expect("a request");
    assert!(without.prompt.is_empty() && without.media.is_empty() && without.stream);

    // Ids one by one; nothing else.
    let tokenized = TokenizedOneByOne { input_ids: input_ids.clone() }.encode_to_vec();
    let message = [&[0x12, tokenized.len() as u8][..], &tokenized].concat();
    for path in [GENERATE, EMBED] {
        let parsed = read(path, &framed(&message), true).expect("a request");
        assert_eq!(ids_of(&parsed.prompt), input_ids, "{path}");
        assert_eq!((parsed.stream, parsed.max_output_tokens), (false, None));
        assert!(!parsed.prompt.has_media());
    }
}

#[test]
fn vllm_text_is_a_place_in_the_body() {
    let text = "once upon a time, long ago and far away";
    let request = Generate { text: Some(text.into()), ..Generate::default() };
    let body = Bytes::from(framed(&request.encode_to_vec()));
    let parsers = Parsers::new(vec![ParserKind::VllmGrpc]);
    let parsed = parsers.parse(GENERATE, body.clone(), true, &VideoHints::default()).expect("text");
    let pieces: Vec<Piece<'_>> = parsed.prompt.prompts().flatten().collect();
    assert_eq!(pieces, [Piece::Bytes(text.as_bytes())]);
    let Piece::Bytes(piece) = pieces[0] else { panic!("text") };
    assert!(body.as_ptr_range().contains(&piece.as_ptr()));
}

#[test]
fn vllm_requests_that_are_refused() {
    const PAYLOAD: &str = "invalid or unsupported gRPC payload";
    let tokens = |ids: &[u8]| [&[0x12, ids.len() as u8][..], ids].concat();
    for (path, body, text) in [
        (GENERATE, Vec::new(), PAYLOAD),
        (GENERATE, b"{\"prompt\":\"x\"}".to_vec(), PAYLOAD),
        (EMBED, vec![1, 0, 0, 0, 0], PAYLOAD),
        (EMBED, vec![0, 0, 0, 0, 9, 1], PAYLOAD),
        (GENERATE, framed(b""), "not supported request inputType"),
        (EMBED, framed(b""), "missing tokenized input in EmbedRequest"),
        (
            GENERATE,
            framed(&tokens(&[0x12, 5, 1])),
            "unmarshaling GenerateRequest: malformed message",
        ),
        (EMBED, framed(&tokens(&[0x12, 1, 0x80])), "unmarshaling EmbedRequest: malformed message"),
        (
            GENERATE,
            framed(&[&tokens(&[0x12, 1, 1])[..], &[0x3a, 2, 0x2a, 9]].concat()),
            "unmarshaling GenerateRequest: malformed message",
        ),
        (GENERATE, framed(&[0x1a, 1, 0xff]), "unmarshaling GenerateRequest: text is not UTF-8"),
    ] {
        for want_prompt in [true, false] {
            assert_eq!(read(path, &body, want_prompt).unwrap_err(), text, "{path} {body:x?}");
        }
    }
    let no_message = read(GENERATE, &framed(&[0x12, 0xff]), true).unwrap_err();
    assert!(no_message.starts_with("unmarshaling GenerateRequest: "), "{no_message}");
    let ids = vec![1; (8 << 20) + 1];
    let tokenized = Some(Tokenized { input_ids: ids, ..Tokenized::default() });
    let many = Generate { tokenized, ..Generate::default() };
    assert_eq!(
        read(GENERATE, &framed(&many.encode_to_vec()), true).unwrap_err(),
        "invalid GenerateRequest: more than 8388608 token ids"
    );
}

fn vertex(json: &str) -> Vec<u8> {
    let http_body =
        Some(HttpBody { content_type: "application/json".into(), data: json.as_bytes().to_vec() });
    framed(&Vertex { endpoint: "projects/p/endpoints/e".into(), http_body }.encode_to_vec())
}

#[test]
fn vertex_methods_carry_json() {
    use VertexMethod::{ChatCompletions, RawPredict, StreamRawPredict};
    let chat = r#"{"model":"m","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"hi\ud800"}]}"#;
    let input = r#"{"model":"m","input":"hi"}"#;
    let responses = r#"[{"input":"hi"}]"#;
    for (path, json, method, stream, limit, prompt) in [
        (CHAT_COMPLETIONS, chat, ChatCompletions, true, Some(5), "userhi\u{fffd}"),
        (RAW_PREDICT, input, RawPredict, false, None, responses),
        (STREAM_RAW_PREDICT, input, StreamRawPredict, false, None, responses),
    ] {
        let parsed = read(path, &vertex(json), true).expect("a request");
        assert_eq!(parsed.api, Api::Vertex(method));
        assert_eq!((parsed.stream, parsed.max_output_tokens), (stream, limit));
        assert_eq!(parsed.model.as_deref(), Some("m"));
        assert_eq!(texts(&parsed.prompt), [prompt]);
        let without = read(path, &vertex(json), false).expect("a request");
        assert!(without.prompt.is_empty());
    }
}

#[test]
fn vertex_requests_that_are_refused() {
    let chat = "invalid chat completions request: must have valid messages field";
    let input = "invalid responses request: must have input field";
    let json = "error unmarshaling request bodyMap: unexpected end of JSON input";
    for (path, body, text) in [
        (
            RAW_PREDICT,
            vec![],
            "invalid or unsupported gRPC payload: the frame has no header".into(),
        ),
        (
            CHAT_COMPLETIONS,
            vec![1, 0, 0, 0, 0],
            "invalid or unsupported gRPC payload: compressed messages are not supported".into(),
        ),
        (CHAT_COMPLETIONS, framed(b""), "ChatCompletionsRequest has no HttpBody".to_owned()),
        (RAW_PREDICT, framed(b""), "RawPredictRequest has no HttpBody".to_owned()),
        (STREAM_RAW_PREDICT, framed(b""), "StreamRawPredictRequest has no HttpBody".to_owned()),
        (CHAT_COMPLETIONS, vertex("{}"), format!("parsing ChatCompletionsRequest: {chat}")),
        (RAW_PREDICT, vertex("{}"), format!("parsing RawPredictRequest: {input}")),
        (STREAM_RAW_PREDICT, vertex("{"), format!("parsing StreamRawPredictRequest: {json}")),
    ] {
        assert_eq!(read(path, &body, true).unwrap_err(), text, "{path} {body:x?}");
    }
    let no_message = read(RAW_PREDICT, &framed(&[0x12, 0xff]), true).unwrap_err();
    assert!(no_message.starts_with("unmarshaling RawPredictRequest: "), "{no_message}");
}

#[test]
fn methods_that_are_not_read_are_the_gateways_to_finish() {
    for path in ["/x/vllm.grpc.engine.VllmEngine/Generate", "/PredictionService/RawPredict/"] {
        let parsed = read(path, b"any bytes", true).expect(path);
        assert!(parsed.skip_response && parsed.prompt.is_empty() && parsed.model.is_none());
    }
}

#[test]
fn counts_in_answers() {
    let chunk = |prompt_tokens, completion_tokens, cached_tokens| {
        let token_ids = vec![7, 700];
        let chunk = Chunk { token_ids, prompt_tokens, completion_tokens, cached_tokens };
        framed(&Generated { chunk: Some(chunk), complete: None }.encode_to_vec())
    };
    let complete = |prompt_tokens, completion_tokens, cached_tokens| {
        let finish_reason = "stop".to_owned();
        let output_ids = vec![7, 700];
        let complete =
            Complete { output_ids, finish_reason, prompt_tokens, completion_tokens, cached_tokens };
        framed(&Generated { chunk: None, complete: Some(complete) }.encode_to_vec())
    };
    let embedded = |prompt_tokens| {
        let embedding = vec![0.5; 3];
        framed(&Embedded { embedding, prompt_tokens, embedding_dim: 3 }.encode_to_vec())
    };
    let http = |data: &str| {
        let body = HttpBody { content_type: "application/json".into(), data: data.into() };
        framed(&body.encode_to_vec())
    };
    let json = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;
    let usage = |prompt_tokens, completion_tokens, cached_tokens| {
        Some(Usage { prompt_tokens, completion_tokens, cached_tokens })
    };
    let chat = Api::Vertex(VertexMethod::ChatCompletions);
    let predict = Api::Vertex(VertexMethod::StreamRawPredict);
    for (name, api, answer, expected) in [
        ("complete", Api::VllmGrpcGenerate, complete(3, 5, 2), usage(3, 5, Some(2))),
        (
            "pieces, of which the last counts",
            Api::VllmGrpcGenerate,
            [chunk(0, 0, 0), chunk(0, 0, 0), chunk(3, 5, 2)].concat(),
            usage(3, 5, Some(2)),
        ),
        (
            "pieces, then all",
            Api::VllmGrpcGenerate,
            [chunk(3, 1, 0), chunk(3, 2, 0), complete(3, 2, 1)].concat(),
            usage(3, 2, Some(1)),
        ),
        ("nothing said", Api::VllmGrpcGenerate, chunk(0, 0, 0), None),
        ("embedding", Api::VllmGrpcEmbed, embedded(9), usage(9, 0, None)),
        ("no message", Api::VllmGrpcGenerate, b"\0\0\0\0\x02\x0a\xff".to_vec(), None),
        ("JSON", chat, http(json), usage(3, 5, None)),
        (
            "events, cut into messages",
            predict,
            [
                http("data: {\"type\":\"response.created\"}\n\n"),
                http("data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":5}}}\n\n"),
                http("data: [DONE]\n\n"),
            ]
            .concat(),
            usage(3, 5, None),
        ),
        ("no JSON", chat, http("\"usage\""), None),
        ("an error without a message", chat, Vec::new(), None),
    ] {
        for sse in [true, false] {
            for cut in 0..=answer.len() {
                let mut reader = ResponseReader::new(api, sse);
                reader.chunk(&answer[..cut]);
                reader.chunk(&answer[cut..]);
                reader.finish();
                assert_eq!(reader.usage(), expected, "{name}, cut at {cut}");
            }
        }
    }
}
