//! Orders of messages, those that no gateway should send among them, and what each is answered
//! with. Where the reference (llm-d-router main at ebab6879) answers, it is its answer.

#[path = "message_orders/response_bodies.rs"]
mod response_bodies;
mod support;

use std::net::SocketAddr;

use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use support::client::*;
use support::eventually;
use support::program::{Program, TUTORIAL};

const CHAT: &str = "/v1/chat/completions";
const BODY: &[u8] = br#"{"model":"m","prompt":"x","messages":[{"role":"user","content":"x"}]}"#;

/// A message by the short name that the table uses.
fn sent(name: &str) -> ProcessingRequest {
    let (json, sse) =
        ([("content-type", "application/json")], [("content-type", "text/event-stream")]);
    match name {
        "headers" => post_headers(CHAT, &[], DUPLEX),
        "more-headers" => request_headers(&[("x-more", "1")], false),
        "headers." => request_headers(&[(":path", "/v1/models")], true),
        "half" => request_body(&BODY[..20], false),
        "rest." => request_body(&BODY[20..], true),
        "body" => request_body(BODY, false),
        "body." => request_body(BODY, true),
        "empty" => request_body(b"", false),
        "empty." => request_body(b"", true),
        "trailers" => request_trailers(),
        "JSON" => response_headers(&json, false),
        "JSON." => response_headers(&json, true),
        "SSE" => response_headers(&sse, false),
        "DATA" => response_body(b"data: {}\n\n", false),
        "DATA." => response_body(b"data: {}\n\n", true),
        "EMPTY." => response_body(b"", true),
        "TRAILERS" => response_trailers(),
        other => panic!("no message is called {other}"),
    }
}

/// An answer by its short name: lower case to the request, upper case to the response, a full
/// stop where it ends the body.
fn name(reply: &ProcessingResponse) -> String {
    let body = |name: &str| match streamed(reply) {
        Some((bytes, end)) => {
            format!(
                "{}{name}{}",
                if bytes.is_empty() { "no-" } else { "" },
                if end { "." } else { "" }
            )
        }
        None => panic!("not a streamed body: {reply:?}"),
    };
    match reply.response.as_ref().expect("an answer of a kind") {
        Response::RequestHeaders(_) => "headers".into(),
        Response::RequestBody(_) => body("body"),
        Response::RequestTrailers(_) => "trailers".into(),
        Response::ResponseHeaders(_) => "HEADERS".into(),
        Response::ResponseBody(_) => body("BODY"),
        Response::ResponseTrailers(_) => "TRAILERS".into(),
        Response::ImmediateResponse(error) => {
            error.status.as_ref().expect("a status").code.to_string()
        }
        other => panic!("an answer nobody asked for: {other:?}"),
    }
}

#[tokio::test]
async fn every_order_has_its_answers() {
    let workers = [SocketAddr::from(([127, 0, 0, 1], 29_001))];
    let program = Program::start(TUTORIAL, &workers, &[]);
    let gateway = Gateway::connect(program.grpc_port).await;
    for (messages, answers) in [
        // Whole and in pieces.
        ("headers body.", "headers body."),
        ("headers half rest.", "headers body."),
        ("headers empty half empty empty rest.", "headers body."),
        ("headers body empty.", "headers body."),
        ("headers.", "headers"),
        // The body is first, or is all there is: a request without headers is a completion.
        ("body.", "headers body."),
        ("empty.", "400"),
        ("body headers empty.", "headers body."),
        ("half headers rest.", "headers body."),
        ("body. headers", "headers body."),
        ("headers more-headers body.", "headers body."),
        // Ends that are missing: what was not complete is not answered.
        ("", ""),
        ("headers", ""),
        ("headers body", ""),
        // Trailers end what nothing else did.
        ("headers body trailers", "headers body trailers"),
        ("headers body. trailers", "headers body. trailers"),
        ("headers. trailers", "headers trailers"),
        ("headers trailers", "400"),
        ("trailers", ""),
        // Ends that come twice.
        ("headers body. empty.", "headers body."),
        ("headers body. body.", "headers body."),
        ("headers. empty.", "headers"),
        ("headers. headers.", "headers"),
        // Responses, with and without a request.
        ("headers body. JSON DATA EMPTY.", "headers body. HEADERS BODY."),
        ("headers body. JSON DATA TRAILERS", "headers body. HEADERS BODY TRAILERS"),
        ("headers body. SSE DATA EMPTY.", "headers body. HEADERS BODY no-BODY."),
        ("headers body. SSE DATA TRAILERS", "headers body. HEADERS BODY TRAILERS"),
        ("headers. SSE DATA.", "headers HEADERS BODY."),
        ("JSON DATA.", "HEADERS BODY."),
        ("JSON TRAILERS", "HEADERS no-BODY TRAILERS"),
        ("SSE TRAILERS", "HEADERS TRAILERS"),
        ("JSON DATA", "HEADERS"),
        ("SSE DATA", "HEADERS BODY"),
        // An early response leaves the request to be answered.
        ("headers half JSON DATA. rest.", "HEADERS BODY. headers body."),
        // Headers that end the response, and more all the same.
        ("JSON.", "HEADERS"),
        ("JSON. EMPTY.", "HEADERS no-BODY."),
        ("JSON. DATA.", "HEADERS BODY."),
        ("JSON. TRAILERS", "HEADERS no-BODY TRAILERS"),
        ("JSON DATA. EMPTY. DATA.", "HEADERS BODY."),
        ("SSE DATA. EMPTY.", "HEADERS BODY."),
        // Parts of a response without its headers.
        ("DATA.", ""),
        ("TRAILERS", ""),
        ("headers body. TRAILERS", "headers body."),
    ] {
        let mut exchange = gateway.open().await;
        for message in messages.split_whitespace() {
            exchange.send(sent(message)).await;
        }
        exchange.half_close();
        let replies: Vec<String> = exchange.rest().await.iter().map(name).collect();
        assert_eq!(replies.join(" "), answers, "{messages}");
    }
}

#[tokio::test]
async fn headers_that_come_in_parts_count_together() {
    let workers = [SocketAddr::from(([127, 0, 0, 1], 29_001))];
    let program = Program::start(TUTORIAL, &workers, &[]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let mut exchange = gateway.open().await;
    for message in ["half", "headers", "more-headers", "rest."] {
        exchange.send(sent(message)).await;
    }
    let replies = exchange.request_replies().await;
    let headers = set_headers(&replies[0]);
    for expected in [(":path", CHAT), ("x-request-id", "req-1"), ("x-more", "1")] {
        assert!(headers.contains(&(expected.0.into(), expected.1.into())), "{headers:?}");
    }
    assert_eq!(streamed(&replies[1]), Some((BODY.to_vec(), true)));
}

#[tokio::test]
async fn a_response_is_counted_once_however_it_ends() {
    let workers = [SocketAddr::from(([127, 0, 0, 1], 29_001))];
    let program = Program::start(TUTORIAL, &workers, &[]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let get = async |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", program.metrics_port);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    };
    let mut completed = 0;
    for (response, completes) in [
        ("JSON DATA.", true),
        ("JSON DATA TRAILERS", true),
        ("SSE DATA EMPTY. EMPTY.", true),
        ("SSE DATA TRAILERS TRAILERS", true),
        ("JSON.", true),
        ("JSON. EMPTY.", true),
        ("JSON. DATA. TRAILERS", true),
        ("JSON DATA", false),
        ("SSE DATA", false),
        ("", false),
    ] {
        let mut exchange = gateway.open().await;
        for message in "headers body.".split(' ').chain(response.split_whitespace()) {
            exchange.send(sent(message)).await;
        }
        exchange.half_close();
        exchange.rest().await;
        completed += usize::from(completes);
        let metrics = get("/metrics").await;
        let series = metrics.lines().find_map(|line| {
            line.strip_prefix("inference_objective_request_duration_seconds_count{")?
                .split_once("} ")
        });
        assert_eq!(series.map(|(_, n)| n), Some(completed.to_string()).as_deref(), "{response}");
        eventually("the books to be closed", async || {
            let page: serde_json::Value =
                serde_json::from_str(&get("/debug/endpoints").await).unwrap();
            let in_flight = &page["endpoints"][0]["inFlight"];
            (in_flight["requests"] == 0 && in_flight["tokens"] == 0).then_some(())
        })
        .await;
    }
}
