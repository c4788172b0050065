//! A catalogue of ext_proc exchanges against the real program: every order of messages and every
//! body mode that gateways use, and what the picker answers. Odd orders: `message_orders.rs`.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::service::ext_proc::v3::body_mutation::Mutation;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::google::protobuf::value::Kind;
use serde_json::json;
use support::client::*;
use support::program::{Program, TUTORIAL};

const CHAT: &str = "/v1/chat/completions";
const HELLO: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}"#;

/// Addresses nobody listens at: workers whose metrics cannot be read still serve.
fn endpoints() -> Vec<SocketAddr> {
    (1..=4u16).map(|i| SocketAddr::from(([127, 0, 0, i as u8], 29_000 + i))).collect()
}

async fn start(arguments: &[&str]) -> (Program, Gateway) {
    let program = Program::start(TUTORIAL, &endpoints(), arguments);
    let gateway = Gateway::connect(program.grpc_port).await;
    (program, gateway)
}

fn keys(headers: &[(String, String)]) -> Vec<&str> {
    headers.iter().map(|(k, _)| k.as_str()).collect()
}

fn is_one_of_ours(destination: &str) -> bool {
    destination.parse().is_ok_and(|d| endpoints().contains(&d))
}

#[tokio::test]
async fn a_chat_is_answered_with_headers_then_body() {
    let (_program, gateway) = start(&[]).await;
    let answer = gateway.post(CHAT, &[("x-custom", "kept")], HELLO).await;
    let headers = set_headers(&answer.replies[0]);
    assert_eq!(headers[0].0, "x-gateway-destination-endpoint");
    assert!(is_one_of_ours(&answer.destination()));
    assert_eq!(headers[1], ("Content-Length".into(), HELLO.len().to_string()));
    let rest = &keys(&headers)[2..];
    for echoed in [":path", "content-type", "x-request-id", "x-custom"] {
        assert!(rest.contains(&echoed), "{echoed} is echoed: {rest:?}");
    }
    // Envoy takes them from nobody.
    for refused in [":method", ":authority", ":scheme"] {
        assert!(!rest.contains(&refused), "{refused} is echoed: {rest:?}");
    }
    assert!(common(&answer.replies[0]).unwrap().clear_route_cache);
    let metadata = lb_metadata(&answer.replies[0], "x-gateway-destination-endpoint");
    assert_eq!(metadata.unwrap().kind, Some(Kind::StringValue(answer.destination())));
    assert_eq!(answer.body(), HELLO);
    assert_eq!(answer.replies.len(), 2);
}

#[tokio::test]
async fn bodies_are_forwarded_byte_for_byte_in_pieces() {
    let (_program, gateway) = start(&[]).await;
    let odd = br#"{ "zeta": 1.0,
  "model" : "m", "messages":[ {"content":"x<&>\u00e9","role":"user","n":[1e30, 12345678901234567890]} ] }"#;
    assert_eq!(gateway.post(CHAT, &[], odd).await.body(), odd);

    let text = "lorem ipsum ".repeat(12_500);
    let long = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let answer = gateway.post(CHAT, &[], long.as_bytes()).await;
    let sizes: Vec<usize> =
        answer.replies.iter().filter_map(streamed).map(|(b, _)| b.len()).collect();
    assert_eq!(sizes, [62_000, 62_000, long.len() - 124_000]);
    assert_eq!(answer.body(), long.as_bytes());
}

#[tokio::test]
async fn a_body_cut_anywhere_is_one_body() {
    let (_program, gateway) = start(&[]).await;
    for cut in [1, HELLO.len() / 2, HELLO.len() - 1] {
        let mut exchange = gateway.open().await;
        exchange.send(post_headers(CHAT, &[], DUPLEX)).await;
        exchange.send(request_body(&HELLO[..cut], false)).await;
        exchange.send(request_body(&HELLO[cut..], true)).await;
        let replies = exchange.request_replies().await;
        assert_eq!(replies.len(), 2, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_half_close_ends_the_stream_once_all_is_answered() {
    let (_program, gateway) = start(&[]).await;
    let mut exchange = gateway.open().await;
    // A gateway that sends no pseudo-headers, everything at once, and closes its side.
    exchange.send(request_headers(&[("Content-Type", "application/json")], false)).await;
    let body = br#"{"model":"m","prompt":"once upon a time"}"#;
    exchange.send(request_body(body, true)).await;
    exchange.half_close();
    let replies = exchange.rest().await;
    assert_eq!(replies.len(), 2);
    let headers = set_headers(&replies[0]);
    assert!(keys(&headers).contains(&"content-type"), "keys come in lower case: {headers:?}");
}

#[tokio::test]
async fn a_headers_message_without_a_map_has_no_headers() {
    use envoy_types::pb::envoy::service::ext_proc::v3::{HttpHeaders, processing_request::Request};
    let (_program, gateway) = start(&[]).await;
    let mut exchange = gateway.open().await;
    exchange.send(message(Request::RequestHeaders(HttpHeaders::default()))).await;
    exchange.send(request_body(br#"{"model":"m","prompt":"x"}"#, true)).await;
    let replies = exchange.request_replies().await;
    assert_eq!(keys(&set_headers(&replies[0]))[0], "x-gateway-destination-endpoint");
}

#[tokio::test]
async fn a_request_without_a_body_goes_to_any_allowed_endpoint() {
    let (_program, gateway) = start(&[]).await;
    let get = [(":method", "GET"), (":path", "/v1/models"), ("x-request-id", "r")];
    let mut exchange = gateway.open().await;
    exchange.send(request_headers(&get, true)).await;
    let reply = exchange.next().await.unwrap().unwrap();
    assert_eq!(keys(&set_headers(&reply)), ["x-gateway-destination-endpoint"]);

    let mut exchange = gateway.open().await;
    exchange.send(with_subset(request_headers(&get, true), list_of(&["127.0.0.3:29003"]))).await;
    let reply = exchange.next().await.unwrap().unwrap();
    assert_eq!(set_headers(&reply)[0].1, "127.0.0.3:29003");

    let mut exchange = gateway.open().await;
    exchange.send(with_subset(request_headers(&get, true), list_of(&[]))).await;
    let replies = exchange.rest().await;
    let Some(Response::ImmediateResponse(error)) = &replies[0].response else {
        panic!("expected an error, got {replies:?}")
    };
    assert_eq!(error.status.as_ref().unwrap().code, 503);
}

#[tokio::test]
async fn a_subset_is_honoured_in_every_form() {
    let (_program, gateway) = start(&[]).await;
    for (hint, expected) in [
        (list_of(&["127.0.0.2:29002"]), Some("127.0.0.2:29002")),
        (list_of(&["127.0.0.2"]), Some("127.0.0.2:29002")),
        (list_of(&["127.0.0.2:99999"]), Some("127.0.0.2:29002")),
        (Kind::StringValue("127.0.0.4:29004".into()), Some("127.0.0.4:29004")),
        (list_of(&["10.1.2.3:8000"]), None),
        (list_of(&[]), None),
    ] {
        for on_body in [false, true] {
            let mut exchange = gateway.open().await;
            let mut headers = post_headers(CHAT, &[], DUPLEX);
            let mut body = request_body(HELLO, true);
            if on_body {
                body = with_subset(body, hint.clone());
            } else {
                headers = with_subset(headers, hint.clone());
            }
            exchange.send(headers).await;
            exchange.send(body).await;
            let replies = exchange.request_replies().await;
            let answer = Replies { replies, exchange };
            match expected {
                Some(endpoint) => assert_eq!(answer.destination(), endpoint, "{hint:?}"),
                None => {
                    let (code, body, headers) = answer.json_error();
                    assert_eq!(code, 503, "{hint:?}");
                    let error = json!({
                        "message": "failed to find endpoint candidates for serving the request",
                        "type": "service_unavailable_error",
                        "param": null,
                        "code": "ServiceUnavailable",
                    });
                    assert_eq!(body, json!({ "error": error }));
                    let expected = [
                        ("content-type", "application/json"),
                        ("x-llm-d-request-dropped-reason", "rejected-no-endpoints"),
                    ];
                    assert_eq!(headers, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
                }
            }
        }
    }
}

#[tokio::test]
async fn control_headers_are_not_echoed_and_steering_headers_are_removed() {
    let (_program, gateway) = start(&[]).await;
    let sent = [
        ("x-gateway-destination-endpoint", "10.9.9.9:1"),
        ("x-gateway-destination-endpoint-subset", "10.9.9.9:1"),
        ("content-length", "70"),
        ("x-llm-d-inference-objective", "gold"),
        ("x-gateway-inference-fairness-id", "u1"),
        ("x-slo-ttft-ms", "100"),
        ("x-llm-d-video-fps", "2"),
        ("x-prefiller-host-port", "10.9.9.9:1"),
        ("x-encoder-hosts-ports", "10.9.9.9:1"),
        ("x-data-parallel-host-port", "10.9.9.9:1"),
        ("x-kv-cache-source-host-port", "10.9.9.9:1"),
    ];
    let answer = gateway.post(CHAT, &sent, HELLO).await;
    assert!(is_one_of_ours(&answer.destination()));
    let headers = set_headers(&answer.replies[0]);
    for (key, _) in &sent[1..] {
        assert!(!keys(&headers).contains(key), "{key} is not echoed");
    }
    let removed: Vec<&str> = sent[7..].iter().map(|(k, _)| *k).collect();
    assert_eq!(removed_headers(&answer.replies[0]), removed);
}

#[tokio::test]
async fn a_changed_model_is_spliced_in_and_mapped_back() {
    let (_program, gateway) = start(&[]).await;
    let body = br#"{"temperature":0, "model" : "m","messages":[{"role":"user","content":"hi"}]}"#;
    let expected =
        br#"{"temperature":0, "model" : "other-model","messages":[{"role":"user","content":"hi"}]}"#;
    let rewrite = [("x-llm-d-model-name-rewrite", "other-model")];
    let mut answer = gateway.post(CHAT, &rewrite, body).await;
    assert_eq!(answer.body(), expected);
    let length = expected.len().to_string();
    assert!(set_headers(&answer.replies[0]).contains(&("Content-Length".into(), length)));

    let exchange = &mut answer.exchange;
    exchange
        .send(response_headers(&[(":status", "200"), ("content-type", "application/json")], false))
        .await;
    exchange.send(response_body(br#"{"model":"other-"#, false)).await;
    exchange.send(response_body(br#"model","choices":[]}"#, true)).await;
    exchange.half_close();
    let replies = exchange.rest().await;
    let body: Vec<u8> = replies.iter().filter_map(streamed).flat_map(|(b, _)| b).collect();
    assert_eq!(body, br#"{"model":"m","choices":[]}"#);
}

#[tokio::test]
async fn buffered_mode_gets_the_pick_with_the_body() {
    let (_program, gateway) = start(&[]).await;
    for (rewrite, changed) in
        [(&[][..], false), (&[("x-llm-d-model-name-rewrite", "mm")][..], true)]
    {
        let mut exchange = gateway.open().await;
        exchange.send(post_headers(CHAT, rewrite, BUFFERED)).await;
        let headers = exchange.next().await.unwrap().unwrap();
        assert!(set_headers(&headers).is_empty(), "nothing is known yet");
        exchange.send(request_body(HELLO, true)).await;
        let reply = exchange.next().await.unwrap().unwrap();
        assert!(is_one_of_ours(&set_headers(&reply)[0].1));
        let reply = common(&reply).unwrap();
        assert!(reply.clear_route_cache);
        let body = reply.body_mutation.as_ref().and_then(|m| m.mutation.clone());
        match (changed, body) {
            (false, None) => {}
            (true, Some(Mutation::Body(b))) => {
                assert!(String::from_utf8(b).unwrap().contains(r#""model":"mm""#));
            }
            (_, other) => panic!("changed: {changed}, body mutation: {other:?}"),
        }
        exchange.send(response_headers(&[(":status", "200")], false)).await;
        exchange.send(response_body(b"{}", true)).await;
        exchange.half_close();
        let replies = exchange.rest().await;
        assert_eq!(replies.len(), 2);
        assert_eq!(streamed(&replies[1]), None, "streamed replies are for full duplex only");
    }
}

#[tokio::test]
async fn streamed_mode_gets_a_pick_before_the_body() {
    let (_program, gateway) = start(&[]).await;
    let mut exchange = gateway.open().await;
    exchange.send(post_headers(CHAT, &[], STREAMED)).await;
    let headers = exchange.next().await.unwrap().unwrap();
    assert!(is_one_of_ours(&set_headers(&headers)[0].1));
    for (piece, end) in [(&HELLO[..20], false), (&HELLO[20..], true)] {
        exchange.send(request_body(piece, end)).await;
        let reply = exchange.next().await.unwrap().unwrap();
        assert!(common(&reply).unwrap().body_mutation.is_none());
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_say_its_mode_and_waits_is_answered() {
    let (_program, gateway) = start(&[]).await;
    let mut exchange = gateway.open().await;
    exchange.send(request_headers(&[(":path", CHAT)], false)).await;
    let headers = exchange.next().await.unwrap().unwrap();
    assert!(is_one_of_ours(&set_headers(&headers)[0].1));
    // It buffered: one message with everything.
    exchange.send(request_body(HELLO, true)).await;
    let reply = exchange.next().await.unwrap().unwrap();
    assert_eq!(streamed(&reply), None);

    // It was a slow upload in full duplex: pieces, which come back.
    let mut exchange = gateway.open().await;
    exchange.send(request_headers(&[(":path", CHAT)], false)).await;
    exchange.next().await.unwrap().unwrap();
    exchange.send(request_body(HELLO, false)).await;
    exchange.send(request_body(b"", true)).await;
    let first = exchange.next().await.unwrap().unwrap();
    assert_eq!(streamed(&first), Some((HELLO.to_vec(), false)));
    let last = exchange.next().await.unwrap().unwrap();
    assert_eq!(streamed(&last), Some((Vec::new(), true)));
}

#[tokio::test]
async fn a_json_response_is_held_until_it_is_complete() {
    let (_program, gateway) = start(&[]).await;
    let sent = [
        (":status", "200"),
        ("content-type", "application/json"),
        ("content-length", "9"),
        ("server", "uvicorn"),
        ("x-gateway-destination-endpoint", "1.2.3.4:5"),
        // Setting one of two would lose the other.
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ];
    for by_trailers in [false, true] {
        // A stream may begin with the response.
        let mut exchange = gateway.open().await;
        exchange.send(response_headers(&sent, false)).await;
        let headers = set_headers(&exchange.next().await.unwrap().unwrap());
        assert_eq!(
            keys(&headers),
            ["x-went-into-resp-headers", ":status", "content-type", "server"]
        );
        exchange.send(response_body(br#"{"usage":"#, false)).await;
        assert!(exchange.within(Duration::from_millis(50)).await.is_none(), "held");
        exchange.send(response_body(b"{}}", false)).await;
        if by_trailers {
            exchange.send(response_trailers()).await;
        } else {
            exchange.send(response_body(b"", true)).await;
        }
        let body = exchange.next().await.unwrap().unwrap();
        assert_eq!(streamed(&body), Some((br#"{"usage":{}}"#.to_vec(), !by_trailers)));
        if by_trailers {
            let trailers = exchange.next().await.unwrap().unwrap();
            assert!(matches!(trailers.response, Some(Response::ResponseTrailers(_))));
        }
    }
}

#[tokio::test]
async fn a_streamed_response_passes_piece_by_piece() {
    let (_program, gateway) = start(&[]).await;
    let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    for by_trailers in [false, true] {
        let mut answer = gateway.post(CHAT, &[], body).await;
        let exchange = &mut answer.exchange;
        exchange
            .send(response_headers(
                &[(":status", "200"), ("content-type", "text/event-stream")],
                false,
            ))
            .await;
        exchange.next().await.unwrap().unwrap();
        for piece in
            [&b"data: {\"a\":1}\n\n"[..], b"data: {\"usage\":{\"prompt_tok", b"ens\":3}}\n\n"]
        {
            exchange.send(response_body(piece, false)).await;
            let reply = exchange.next().await.unwrap().unwrap();
            assert_eq!(streamed(&reply), Some((piece.to_vec(), false)));
        }
        let last = if by_trailers { response_trailers() } else { response_body(b"", true) };
        exchange.send(last).await;
        let reply = exchange.next().await.unwrap().unwrap();
        if by_trailers {
            assert!(matches!(reply.response, Some(Response::ResponseTrailers(_))));
        } else {
            assert_eq!(streamed(&reply), Some((Vec::new(), true)));
        }
    }
}

#[tokio::test]
async fn bad_requests_get_the_right_status_and_never_the_users_text() {
    let (_program, gateway) = start(&["--max-request-body-bytes=100000"]).await;
    let deep =
        [br#"{"model":"m","x":"#.to_vec(), b"[".repeat(10_001), b"]".repeat(10_001), b"}".to_vec()]
            .concat();
    let large = format!(r#"{{"model":"m","prompt":"{}"}}"#, "secret ".repeat(20_000));
    let unmarshal = "error unmarshaling request bodyMap: ";
    let no_model = "model not found in request body";
    let no_prompt = "invalid completions request: must have prompt field";
    for (name, path, body, code, text) in [
        ("empty", CHAT, &b""[..], 400, unmarshal),
        ("not JSON", CHAT, b"secret words", 400, unmarshal),
        ("an array", CHAT, b"[\"secret\"]", 400, unmarshal),
        ("invalid UTF-8", CHAT, b"{\"secret\xff\":1}", 400, unmarshal),
        ("gzip", CHAT, b"\x1f\x8b\x08\x00\x00\x00secret", 400, unmarshal),
        ("10,000 levels", CHAT, &deep, 400, unmarshal),
        ("no model", "/v1/completions", br#"{"prompt":"secret"}"#, 400, no_model),
        ("no prompt outranks no model", "/v1/completions", br#"{"secret":1}"#, 400, no_prompt),
        (
            "wrong type",
            "/v1/completions",
            br#"{"model":"m","prompt":{"secret":1}}"#,
            400,
            no_prompt,
        ),
        ("too large", "/v1/completions", large.as_bytes(), 413, "request body is larger than "),
    ] {
        let answer = gateway.post(path, &[], body).await;
        let (got, body, _) = answer.json_error();
        let message = body["error"]["message"].as_str().unwrap();
        assert_eq!(got, code, "{name}: {message}");
        assert!(message.starts_with(text), "{name}: {message}");
        assert!(!message.contains("secret"), "{name}: {message}");
        let mut exchange = answer.exchange;
        exchange.half_close();
        assert!(exchange.rest().await.is_empty(), "{name}: the stream ends after the error");
    }
}

#[tokio::test]
async fn who_prefers_an_answer_from_the_cache_gets_none_that_is_not() {
    let (_program, gateway) = start(&[]).await;
    let body = |chat: usize| {
        let text = format!("chat {chat} {}", "words ".repeat(60));
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#)
    };
    for (chat, value) in ["if-available", "wait=1, IF-AVAILABLE;a=b"].into_iter().enumerate() {
        // Twice: a refused request is no reason to believe that anybody holds its prompt.
        for _ in 0..2 {
            let answer = gateway.post(CHAT, &[("prefer", value)], body(chat).as_bytes()).await;
            let (code, body, _) = answer.json_error();
            assert_eq!(code, 412, "{value}");
            let message = &body["error"]["message"];
            assert_eq!(message, "no decode worker has the requested KV cache");
        }
        let home = gateway.post(CHAT, &[], body(chat).as_bytes()).await.destination();
        let answer = gateway.post(CHAT, &[("prefer", value)], body(chat).as_bytes()).await;
        assert_eq!(answer.destination(), home, "{value}");
    }
    for (i, value) in ["if-available=1", "if-availablex", "respond-async", ""].iter().enumerate() {
        gateway.post(CHAT, &[("prefer", value)], body(10 + i).as_bytes()).await.destination();
    }
}

#[tokio::test]
async fn scores_are_told_on_request() {
    let (_program, gateway) = start(&["--emit-endpoint-scores"]).await;
    let answer = gateway.post(CHAT, &[], HELLO).await;
    let scores = lb_metadata(&answer.replies[0], "x-gateway-destination-endpoint-scores").unwrap();
    let Some(Kind::StructValue(scores)) = scores.kind else { panic!("{scores:?}") };
    assert_eq!(scores.fields.len(), endpoints().len());
    for value in scores.fields.values() {
        // Cold and idle: prefix 0 x 2 + load 0.5 x 1.
        assert_eq!(value.kind, Some(Kind::NumberValue(0.5)));
    }
}

#[tokio::test]
async fn turns_of_a_chat_stay_with_their_prefix() {
    let (_program, gateway) = start(&[]).await;
    for chat in 0..20 {
        let mut messages = format!(
            r#"{{"role":"system","content":"chat {chat} {}"}}"#,
            "you are a helpful assistant ".repeat(20)
        );
        let mut home = None;
        for turn in 0..5 {
            messages.push_str(&format!(
                r#",{{"role":"user","content":"turn {turn} {}"}}"#,
                "words ".repeat(60)
            ));
            let body = format!(r#"{{"model":"m","messages":[{messages}]}}"#);
            let destination = gateway.post(CHAT, &[], body.as_bytes()).await.destination();
            assert_eq!(
                *home.get_or_insert(destination.clone()),
                destination,
                "chat {chat} turn {turn}"
            );
        }
    }
}
