//! What exchanges use, in tokens, through the real program: what the gateway is told, what is
//! counted, and who is refused.

mod shared;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use envoy_types::pb::envoy::service::ext_proc::v3::ProcessingResponse;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::google::protobuf::value::Kind;
use support::client::*;
use support::program::Program;
use support::{PATIENCE, eventually};

const COMPLETIONS: &str = "/v1/completions";
/// Twelve bytes of prompt, which is estimated at 3 tokens.
const STREAM: &[u8] = br#"{"model":"m","prompt":"hello, world","stream":true,"max_tokens":9}"#;
const WHOLE: &[u8] = br#"{"model":"m","prompt":"hello, world","max_tokens":9}"#;

const EVENT: &str = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
const COUNTS: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\
                      \"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn config(plugin: &str) -> String {
    format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
{plugin}
- type: queue-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
  - pluginRef: max-score-picker
"
    )
}

async fn start(plugin: &str) -> (Program, Gateway) {
    // Addresses nobody listens at: workers whose metrics cannot be read still serve.
    let endpoints: Vec<_> =
        (1..=2u16).map(|i| SocketAddr::from(([127, 0, 0, 1], 29_100 + i))).collect();
    let program = Program::start(&config(plugin), &endpoints, &[]);
    let gateway = Gateway::connect(program.grpc_port).await;
    (program, gateway)
}

/// The numbers of a reply's dynamic metadata in this namespace.
fn numbers(reply: &ProcessingResponse, namespace: &str) -> BTreeMap<String, f64> {
    let Some(metadata) = &reply.dynamic_metadata else { return BTreeMap::new() };
    let Some(Kind::StructValue(fields)) =
        metadata.fields.get(namespace).and_then(|value| value.kind.clone())
    else {
        return BTreeMap::new();
    };
    let number = |(key, value): (String, envoy_types::pb::google::protobuf::Value)| match value.kind
    {
        Some(Kind::NumberValue(number)) => Some((key, number)),
        Some(Kind::BoolValue(flag)) => Some((key, f64::from(u8::from(flag)))),
        _ => None,
    };
    fields.fields.into_iter().filter_map(number).collect()
}

const AI_GATEWAY: &str = "io.envoy.ai_gateway";

/// Input, output, total and cached tokens as a reply has them.
fn told(reply: &ProcessingResponse) -> Option<[f64; 4]> {
    let numbers = numbers(reply, AI_GATEWAY);
    let keys = ["llm_input_token", "llm_output_token", "llm_total_token", "llm_cached_input_token"];
    let values: Vec<f64> = keys.iter().filter_map(|key| numbers.get(*key).copied()).collect();
    values.try_into().ok()
}

/// Sends a request and answers it: what was told with each reply, the last reply last, and what
/// the client got.
async fn exchange(
    gateway: &Gateway,
    mode: i32,
    request: &[u8],
    kind: &str,
    pieces: &[&str],
    trailers: bool,
) -> (Vec<Option<[f64; 4]>>, String) {
    let mut exchange = gateway.open().await;
    exchange.send(post_headers(COMPLETIONS, &[], mode)).await;
    let mut replies = Vec::new();
    if mode != DUPLEX {
        replies.extend(exchange.next().await.unwrap());
    }
    exchange.send(request_body(request, true)).await;
    if mode == DUPLEX {
        replies.extend(exchange.request_replies().await);
    } else {
        replies.extend(exchange.next().await.unwrap());
    }
    exchange.send(response_headers(&[(":status", "200"), ("content-type", kind)], false)).await;
    replies.extend(exchange.next().await.unwrap());
    let request_half = replies.len();
    for (i, piece) in pieces.iter().enumerate() {
        let end = i + 1 == pieces.len() && !trailers;
        exchange.send(response_body(piece.as_bytes(), end)).await;
    }
    if trailers {
        exchange.send(response_trailers()).await;
    }
    exchange.half_close();
    replies.extend(exchange.rest().await);
    let got: Vec<u8> =
        replies[request_half..].iter().filter_map(streamed).flat_map(|(body, _)| body).collect();
    (replies.iter().map(told).collect(), String::from_utf8(got).unwrap())
}

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";
const NOTHING: Option<[f64; 4]> = Some([0.0; 4]);

#[tokio::test]
async fn the_gateway_is_told_what_an_exchange_used() {
    let (_program, gateway) = start("- type: token-metering").await;
    let reported = Some([7., 2., 9., 4.]);
    let whole = COUNTS.trim_start_matches("data: ");
    for (case, mode, request, kind, pieces, trailers, last) in [
        ("a stream", DUPLEX, STREAM, EVENTS, vec![EVENT, EVENT, COUNTS, DONE], false, reported),
        ("a stream, by trailers", DUPLEX, STREAM, EVENTS, vec![EVENT, COUNTS], true, reported),
        ("no stream", DUPLEX, WHOLE, JSON, vec![whole], false, reported),
        (
            "no stream, in pieces, by trailers",
            DUPLEX,
            WHOLE,
            JSON,
            vec![&whole[..9], &whole[9..]],
            true,
            reported,
        ),
        ("buffered", BUFFERED, WHOLE, JSON, vec![whole], false, reported),
        (
            "the engine says nothing",
            DUPLEX,
            STREAM,
            EVENTS,
            vec![EVENT, EVENT, DONE],
            false,
            Some([3., 2., 5., 0.]),
        ),
        (
            "an answer of no tokens",
            DUPLEX,
            STREAM,
            EVENTS,
            vec![DONE],
            false,
            Some([3., 0., 3., 0.]),
        ),
    ] {
        let (told, _) = exchange(&gateway, mode, request, kind, &pieces, trailers).await;
        assert_eq!(told.iter().rev().flatten().next().copied(), last, "{case}: {told:?}");
        // Before there is an answer, nothing is used.
        assert_eq!(told.iter().flatten().next().copied(), NOTHING, "{case}");
    }
}

#[tokio::test]
async fn the_gateway_is_told_at_every_piece_lest_the_client_leaves() {
    let (_program, gateway) = start("- type: token-metering").await;
    let pieces = [EVENT, EVENT, EVENT, COUNTS, DONE];
    let (told, got) = exchange(&gateway, DUPLEX, STREAM, EVENTS, &pieces, false).await;
    assert_eq!(got, pieces.concat(), "the client gets it as it came");
    let totals: Vec<f64> = told.iter().flatten().map(|tokens| tokens[2]).collect();
    assert_eq!(totals, [0., 4., 5., 6., 9., 9.]);
    let (_program, gateway) =
        start("- {type: token-metering, parameters: {whileStreaming: false}}").await;
    let (told, _) = exchange(&gateway, DUPLEX, STREAM, EVENTS, &pieces, false).await;
    let totals: Vec<f64> = told.iter().flatten().map(|tokens| tokens[2]).collect();
    assert_eq!(totals, [0., 9.]);
}

#[tokio::test]
async fn names_are_the_users() {
    let (_program, gateway) = start(
        "- type: token-metering
  parameters:
    namespace: tokens
    countedKey: guessed
    llmRequestCosts:
    - {metadataKey: all, type: TotalToken}",
    )
    .await;
    let mut exchange = gateway.post(COMPLETIONS, &[], STREAM).await.exchange;
    exchange.send(response_headers(&[(":status", "200"), ("content-type", EVENTS)], false)).await;
    exchange.next().await.unwrap();
    for (piece, end, all, guessed) in [(EVENT, false, 4., 1.), (COUNTS, true, 9., 0.)] {
        exchange.send(response_body(piece.as_bytes(), end)).await;
        let reply = exchange.next().await.unwrap().unwrap();
        let expected = [("all".to_owned(), all), ("guessed".to_owned(), guessed)].into();
        assert_eq!(numbers(&reply, "tokens"), expected);
        assert_eq!(told(&reply), None);
    }
}

#[tokio::test]
async fn errors_cost_nothing() {
    let (_program, gateway) = start("- type: token-metering").await;
    let mut exchange = gateway.post(COMPLETIONS, &[], WHOLE).await.exchange;
    exchange.send(response_headers(&[(":status", "500"), ("content-type", JSON)], false)).await;
    exchange.next().await.unwrap();
    exchange.send(response_body(br#"{"error":{"text":"a long tale"}}"#, true)).await;
    let reply = exchange.next().await.unwrap().unwrap();
    assert_eq!(told(&reply), NOTHING);
}

#[tokio::test]
async fn a_stream_is_asked_for_counts_that_the_client_does_not_see() {
    let (_program, gateway) =
        start("- {type: token-metering, parameters: {includeUsage: true}}").await;
    let sent = gateway.post(COMPLETIONS, &[], STREAM).await;
    let body: serde_json::Value = serde_json::from_slice(&sent.body()).unwrap();
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert_eq!(body["prompt"], "hello, world");
    let length = set_headers(&sent.replies[0]);
    let length = length.iter().find(|(key, _)| key == "Content-Length").unwrap();
    assert_eq!(length.1, sent.body().len().to_string());
    let pieces = [EVENT, COUNTS, DONE];
    let (told, got) = exchange(&gateway, DUPLEX, STREAM, EVENTS, &pieces, false).await;
    assert_eq!(told.last().copied().flatten(), Some([7., 2., 9., 4.]));
    assert_eq!(got, [EVENT, DONE].concat());
    // Who asked gets it, and an answer that is no stream is left alone.
    let asked =
        br#"{"model":"m","prompt":"x","stream":true,"stream_options":{"include_usage":true}}"#;
    let (_, got) = exchange(&gateway, DUPLEX, asked, EVENTS, &pieces, false).await;
    assert_eq!(got, pieces.concat());
    assert_eq!(gateway.post(COMPLETIONS, &[], WHOLE).await.body(), WHOLE);
}

/// The samples of one metric as `labels` and value.
async fn samples(program: &Program, name: &str) -> BTreeMap<String, f64> {
    let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let url = format!("http://127.0.0.1:{}/metrics", program.metrics_port);
    let text = http.get(url).send().await.unwrap().text().await.unwrap();
    let sample = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")?;
        Some((labels.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(sample).filter(|(_, value)| *value > 0.0).collect()
}

#[tokio::test]
async fn what_a_client_got_before_it_left_is_counted() {
    let (program, gateway) =
        start("- {type: token-metering, parameters: {tenantHeader: X-User-Id, maxTenants: 1}}")
            .await;
    for (user, events) in [("alice", 3), ("bob", 2), ("carol", 1)] {
        let mut exchange = gateway.post(COMPLETIONS, &[("x-user-id", user)], STREAM).await.exchange;
        let headers = [(":status", "200"), ("content-type", EVENTS)];
        exchange.send(response_headers(&headers, false)).await;
        exchange.next().await.unwrap();
        for _ in 0..events {
            exchange.send(response_body(EVENT.as_bytes(), false)).await;
            exchange.next().await.unwrap();
        }
        drop(exchange);
    }
    let label = |kind: &str, tenant: &str| {
        format!(r#"kind="{kind}",source="counted",target_model_name="m",tenant="{tenant}""#)
    };
    let expected: BTreeMap<String, f64> = [
        (label("input", "alice"), 3.),
        (label("output", "alice"), 3.),
        (label("input", "other"), 6.),
        (label("output", "other"), 3.),
    ]
    .into();
    eventually("all to be counted", || async {
        (samples(&program, "llm_d_epp_tokens_total").await == expected).then_some(())
    })
    .await;
}

const QUOTA: &str = "- type: token-quota
  parameters:
    rules:
    - name: per-user
      headers: [{name: x-user-id, type: Distinct}]
      model: {type: Distinct}
      limits: [{tokens: 20, unit: Month}]";

/// Status, reason and the three headers of a refusal.
fn refused(replies: &[ProcessingResponse]) -> Option<(i32, BTreeMap<String, String>)> {
    let Some(Response::ImmediateResponse(refusal)) = &replies.first()?.response else {
        return None;
    };
    let headers = refusal.headers.as_ref()?.set_headers.iter().filter_map(|h| h.header.clone());
    let headers = headers.map(|h| (h.key, String::from_utf8(h.raw_value).unwrap())).collect();
    Some((refusal.status.as_ref()?.code, headers))
}

/// Sends a request of a user and answers it with these tokens in all; the `x-ratelimit-remaining`
/// that the answer has, or the refusal.
async fn spend(
    gateway: &Gateway,
    user: &str,
    tokens: u64,
) -> Result<u64, BTreeMap<String, String>> {
    let sent = gateway.post(COMPLETIONS, &[("x-user-id", user)], WHOLE).await;
    if let Some((code, headers)) = refused(&sent.replies) {
        assert_eq!(code, 429);
        return Err(headers);
    }
    let mut exchange = sent.exchange;
    exchange.send(response_headers(&[(":status", "200"), ("content-type", JSON)], false)).await;
    let headers: BTreeMap<_, _> =
        set_headers(&exchange.next().await.unwrap().unwrap()).into_iter().collect();
    let (input, output) = (1, tokens - 1);
    let body = format!(r#"{{"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#);
    exchange.send(response_body(body.as_bytes(), true)).await;
    exchange.half_close();
    exchange.rest().await;
    Ok(headers["x-ratelimit-remaining"].parse().unwrap())
}

#[tokio::test]
async fn a_quota_is_spent_and_then_refuses() {
    let (program, gateway) = start(QUOTA).await;
    assert_eq!(spend(&gateway, "alice", 12).await, Ok(20));
    assert_eq!(spend(&gateway, "bob", 5).await, Ok(20), "a quota of their own");
    assert_eq!(spend(&gateway, "alice", 7).await, Ok(8));
    assert_eq!(spend(&gateway, "alice", 30).await, Ok(1), "the last one overdraws");
    let refusal = spend(&gateway, "alice", 1).await.unwrap_err();
    assert_eq!(refusal["x-llm-d-request-dropped-reason"], "rejected-over-quota");
    assert!(refusal["x-ratelimit-limit"].starts_with("20, 20;w=2"), "{refusal:?}");
    assert_eq!(refusal["x-ratelimit-remaining"], "0");
    assert_eq!(refusal["retry-after"], refusal["x-ratelimit-reset"]);
    assert!(refusal["retry-after"].parse::<u64>().unwrap() <= 31 * 86_400);
    assert_eq!(spend(&gateway, "bob", 5).await, Ok(15));
    // Who names no user is not of this rule.
    assert!(refused(&gateway.post(COMPLETIONS, &[], WHOLE).await.replies).is_none());
    let long = "x".repeat(10_000);
    let (code, text, _) = gateway.post(COMPLETIONS, &[("x-user-id", &long)], WHOLE).await.error();
    assert_eq!(code, 400);
    assert!(!text.contains("xxxx") && text.contains("x-user-id"), "{text}");
    let tokens = samples(&program, "llm_d_epp_quota_tokens_total").await;
    assert_eq!(tokens.values().sum::<f64>(), 59.0);
    let requests = samples(&program, "llm_d_epp_quota_requests_total").await;
    assert_eq!(requests[r#"decision="refused",plugin="token-quota",rule="per-user""#], 1.0);
}

#[tokio::test]
async fn what_is_under_way_is_reserved_and_what_ends_is_settled() {
    let (_program, gateway) = start(QUOTA).await;
    let user = [("x-user-id", "alice")];
    // Estimated at 3 tokens of prompt and at most 9 of answer: 12 and 12 of 20.
    let mut first = gateway.post(COMPLETIONS, &user, STREAM).await;
    let second = gateway.post(COMPLETIONS, &user, STREAM).await;
    assert!(refused(&first.replies).is_none() && refused(&second.replies).is_none());
    let third = gateway.post(COMPLETIONS, &user, STREAM).await;
    assert_eq!(refused(&third.replies).map(|(code, _)| code), Some(429));
    // One leaves before it gets anything, the other with two tokens: 5 are used.
    drop(second);
    let headers = [(":status", "200"), ("content-type", EVENTS)];
    first.exchange.send(response_headers(&headers, false)).await;
    first.exchange.next().await.unwrap();
    for _ in 0..2 {
        first.exchange.send(response_body(EVENT.as_bytes(), false)).await;
        first.exchange.next().await.unwrap();
    }
    drop(first);
    eventually("5 tokens to be charged", || async {
        (spend(&gateway, "alice", 1).await == Ok(15)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_that_goes_nowhere_is_not_counted() {
    let plugins = "- type: token-quota
  parameters:
    rules:
    - limits: [{requests: 1, unit: Month}]
- {type: by-label, parameters: {label: kind, validValues: [none]}}";
    let no_endpoint = config(plugins)
        .replace("  - pluginRef: queue", "  - pluginRef: by-label\n  - pluginRef: queue");
    let program = Program::start(&no_endpoint, &[SocketAddr::from(([127, 0, 0, 1], 29_101))], &[]);
    let gateway = Gateway::connect(program.grpc_port).await;
    for _ in 0..3 {
        let (code, _, headers) = gateway.post(COMPLETIONS, &[], WHOLE).await.error();
        assert_eq!(code, 429);
        let reason = headers.iter().find(|(key, _)| key == "x-llm-d-request-dropped-reason");
        assert_eq!(reason.unwrap().1, "rejected-saturated", "it was let in");
    }
}

#[tokio::test]
async fn a_dry_run_counts_and_lets_pass() {
    let (program, gateway) =
        start(&QUOTA.replace("    rules:", "    dryRun: true\n    rules:")).await;
    for _ in 0..3 {
        let sent = gateway.post(COMPLETIONS, &[("x-user-id", "alice")], WHOLE).await;
        assert!(refused(&sent.replies).is_none());
        let mut exchange = sent.exchange;
        exchange.send(response_headers(&[(":status", "200"), ("content-type", JSON)], false)).await;
        let headers = set_headers(&exchange.next().await.unwrap().unwrap());
        assert!(headers.iter().all(|(key, _)| !key.starts_with("x-ratelimit")), "{headers:?}");
        let body = br#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;
        exchange.send(response_body(body, true)).await;
        exchange.half_close();
        exchange.rest().await;
    }
    let requests = samples(&program, "llm_d_epp_quota_requests_total").await;
    assert_eq!(requests[r#"decision="would_refuse",plugin="token-quota",rule="per-user""#], 2.0);
    assert_eq!(requests[r#"decision="admitted",plugin="token-quota",rule="per-user""#], 1.0);
}
