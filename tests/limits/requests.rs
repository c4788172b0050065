//! What requests may take before they are decided: bodies that stay unfinished, bodies in crumbs,
//! headers without number.

use std::time::Duration;

use envoy_types::pb::envoy::service::ext_proc::v3::ProcessingResponse;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;

use crate::support::client::*;
use crate::support::program::{Program, TUTORIAL};

const CHAT: &str = "/v1/chat/completions";

async fn start(arguments: &[&str]) -> (Program, Gateway) {
    let program = Program::start(TUTORIAL, &["127.0.0.1:1".parse().unwrap()], arguments);
    let gateway = Gateway::connect(program.grpc_port).await;
    (program, gateway)
}

/// The status of the error that the picker sent.
fn status(reply: &ProcessingResponse) -> i32 {
    match &reply.response {
        Some(Response::ImmediateResponse(r)) => r.status.as_ref().map_or(0, |s| s.code),
        other => panic!("expected an error, got {other:?}"),
    }
}

async fn unfinished(gateway: &Gateway, bytes: usize) -> Exchange {
    let mut exchange = gateway.open().await;
    exchange.send(post_headers(CHAT, &[], DUPLEX)).await;
    exchange.send(request_body(&vec![b' '; bytes], false)).await;
    exchange
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_all_requests_together() {
    let (_program, gateway) =
        start(&["--max-held-body-bytes=100000", "--request-body-timeout=1h"]).await;
    let mut refused = unfinished(&gateway, 100_001).await;
    assert_eq!(status(&refused.next().await.unwrap().unwrap()), 429);
    let mut first = unfinished(&gateway, 60_000).await;
    // Nothing is said of a body that is still coming.
    assert!(first.within(Duration::from_millis(200)).await.is_none());
    let mut second = unfinished(&gateway, 60_000).await;
    assert_eq!(status(&second.next().await.unwrap().unwrap()), 429);
    // What the first one held is free when its client has gone, and when it is decided.
    drop(first);
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"x":"{}"}}"#,
        "x".repeat(70_000)
    );
    crate::support::eventually("room for a body", || {
        let (gateway, body) = (gateway.clone(), body.clone());
        async move {
            let answer = gateway.post(CHAT, &[], body.as_bytes()).await;
            matches!(answer.replies[0].response, Some(Response::RequestHeaders(_))).then_some(())
        }
    })
    .await;
    for _ in 0..5 {
        gateway.post(CHAT, &[], body.as_bytes()).await.destination();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_on() {
    let (_program, gateway) = start(&["--request-body-timeout=300ms"]).await;
    let mut exchange = unfinished(&gateway, 1).await;
    assert_eq!(status(&exchange.next().await.unwrap().unwrap()), 408);
    // As long as it comes on it may take its time.
    let mut exchange = gateway.open().await;
    exchange.send(post_headers(CHAT, &[], DUPLEX)).await;
    for piece in [r#"{"model":"#, r#""m","mess"#, r#"ages":[{"role":"user","content":"hi"}]}"#] {
        tokio::time::sleep(Duration::from_millis(150)).await;
        exchange.send(request_body(piece.as_bytes(), false)).await;
    }
    exchange.send(request_body(b"", true)).await;
    let replies = exchange.request_replies().await;
    assert!(matches!(replies[0].response, Some(Response::RequestHeaders(_))), "{replies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_crumbs_arrives_whole() {
    let (_program, gateway) = start(&[]).await;
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"x":"{}"}}"#,
        "abc".repeat(2_000)
    );
    let mut exchange = gateway.open().await;
    exchange.send(post_headers(CHAT, &[], DUPLEX)).await;
    let (crumbs, rest) = body.as_bytes().split_at(1_000);
    for crumb in crumbs.chunks(1) {
        exchange.send(request_body(crumb, false)).await;
    }
    exchange.send(request_body(rest, true)).await;
    let replies = exchange.request_replies().await;
    let sent: Vec<u8> =
        replies.iter().flat_map(|r| streamed(r).map(|(b, _)| b).unwrap_or_default()).collect();
    assert!(sent == body.as_bytes(), "{} bytes", sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_number() {
    let (_program, gateway) = start(&[]).await;
    let names: Vec<String> = (0..200_000).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let answer = gateway.post(CHAT, &many, b"").await;
    assert_eq!(answer.error().0, 431);
    // As many lists of none.
    let mut exchange = gateway.open().await;
    for _ in 0..1_100 {
        exchange.send(post_headers(CHAT, &[], DUPLEX)).await;
    }
    assert_eq!(status(&exchange.next().await.unwrap().unwrap()), 431);
    let few = &many[..300];
    gateway
        .post(CHAT, few, br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#)
        .await
        .destination();
}
