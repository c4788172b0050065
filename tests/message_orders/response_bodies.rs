//! Which bodies of responses the gateway is asked for, and what becomes of exchanges whose body
//! goes by unseen.

use std::net::SocketAddr;

use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::{
    BodySendMode, HeaderSendMode,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    ProcessingRequest, ProcessingResponse, ProtocolConfiguration,
};

use crate::support::client::*;
use crate::support::program::Program;
use crate::{BODY, CHAT, sent};

const PLAIN: &str = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, \
    plugins: [{type: active-request-scorer}]}";
/// A plugin that reads token counts.
const METERED: &str = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, \
    plugins: [{type: active-request-scorer}, {type: token-metering}]}";

const BUFFERED: i32 = BodySendMode::Buffered as i32;
const NONE: i32 = BodySendMode::None as i32;

fn headers(request: i32, response: i32, more: &[(&str, &str)]) -> ProcessingRequest {
    let mut message = post_headers(CHAT, more, request);
    message.protocol_config = Some(ProtocolConfiguration {
        request_body_mode: request,
        response_body_mode: response,
        ..Default::default()
    });
    message
}

async fn metrics(program: &Program) -> String {
    let url = format!("http://127.0.0.1:{}/metrics", program.metrics_port);
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

/// The value of the series that begins like this; 0 where there is none.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find(|line| line.starts_with(series));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_body_is_turned_off_where_nothing_reads_it() {
    let workers = [SocketAddr::from(([127, 0, 0, 1], 29_001))];
    let rename = [("x-llm-d-model-name-rewrite", "other")];
    // The configuration, the choice, how the gateway sends bodies, further request headers, the
    // response's messages; whether its body is turned off, and the answers to what follows.
    type Case<'a> = (&'a str, &'a str, (i32, i32), &'a [(&'a str, &'a str)], &'a str, bool);
    let cases: [Case<'_>; 14] = [
        (PLAIN, "auto", (BUFFERED, STREAMED), &[], "SSE", true),
        (PLAIN, "auto", (BUFFERED, BUFFERED), &[], "SSE", true),
        (PLAIN, "auto", (DUPLEX, STREAMED), &[], "SSE", true),
        // In full duplex Envoy may have sent some of it already.
        (PLAIN, "auto", (DUPLEX, DUPLEX), &[], "SSE", false),
        (PLAIN, "auto", (BUFFERED, NONE), &[], "SSE", false),
        // Another body costs little, and tells what was used.
        (PLAIN, "auto", (BUFFERED, STREAMED), &[], "JSON", false),
        // There is none.
        (PLAIN, "auto", (BUFFERED, STREAMED), &[], "JSON.", false),
        // Somebody reads it.
        (METERED, "auto", (BUFFERED, STREAMED), &[], "SSE", false),
        // It has to be changed: the client is to see the name it asked for.
        (PLAIN, "auto", (BUFFERED, STREAMED), &rename, "SSE", false),
        (PLAIN, "never", (BUFFERED, STREAMED), &rename, "SSE", false),
        (PLAIN, "never", (BUFFERED, STREAMED), &[], "SSE", true),
        (PLAIN, "never", (BUFFERED, STREAMED), &[], "JSON", true),
        (METERED, "never", (BUFFERED, STREAMED), &[], "SSE", true),
        (PLAIN, "always", (BUFFERED, STREAMED), &[], "SSE", false),
    ];
    for (config, choice, (request, response), more, answer, turned_off) in cases {
        let what = format!("{choice} {request} {response} {more:?} {answer} {config}");
        let program = Program::start(config, &workers, &[&format!("--response-body={choice}")]);
        let gateway = Gateway::connect(program.grpc_port).await;
        let mut exchange = gateway.open().await;
        exchange.send(headers(request, response, more)).await;
        exchange.send(request_body(BODY, true)).await;
        exchange.send(sent(answer)).await;
        exchange.half_close();
        let replies = exchange.rest().await;
        let is_headers = |reply: &&ProcessingResponse| {
            matches!(reply.response, Some(Response::ResponseHeaders(_)))
        };
        let reply = replies.iter().find(is_headers).expect(&what);
        let expected = turned_off.then(|| ProcessingMode {
            request_body_mode: request,
            response_body_mode: NONE,
            response_trailer_mode: HeaderSendMode::Send.into(),
            ..Default::default()
        });
        assert_eq!(reply.mode_override, expected, "{what}");
        let overrides = replies.iter().filter(|reply| reply.mode_override.is_some());
        assert_eq!(overrides.count(), usize::from(turned_off), "{what}");
    }
}

#[tokio::test]
async fn what_is_not_seen_is_not_told() {
    let workers = [SocketAddr::from(([127, 0, 0, 1], 29_001))];
    let buffered = (BUFFERED, STREAMED);
    // How the gateway sends bodies, the response's messages; how the exchange ends, whether the
    // time of a first token is told.
    for (modes, answer, ending, first_token) in [
        (buffered, "SSE", "unobserved", false),
        // Trailers end it, where there are some.
        (buffered, "SSE TRAILERS", "complete", false),
        // A gateway that sends it all the same.
        (buffered, "SSE DATA DATA EMPTY.", "complete", true),
        (buffered, "SSE DATA", "cut-in-response", true),
        (buffered, "JSON DATA.", "complete", true),
        (buffered, "JSON.", "complete", false),
        (buffered, "", "cut-before-response", false),
        ((DUPLEX, NONE), "JSON", "unobserved", false),
        ((DUPLEX, NONE), "SSE", "unobserved", false),
        ((DUPLEX, NONE), "SSE TRAILERS", "complete", false),
        ((DUPLEX, NONE), "JSON.", "complete", false),
        ((DUPLEX, DUPLEX), "SSE DATA EMPTY.", "complete", true),
    ] {
        let what = format!("{modes:?} {answer}");
        let program = Program::start(PLAIN, &workers, &["--response-body=auto"]);
        let gateway = Gateway::connect(program.grpc_port).await;
        let mut exchange = gateway.open().await;
        exchange.send(headers(modes.0, modes.1, &[])).await;
        exchange.send(request_body(BODY, true)).await;
        for message in answer.split_whitespace() {
            exchange.send(sent(message)).await;
        }
        exchange.half_close();
        let replies = exchange.rest().await;
        // Not in full duplex, a piece of a body has an answer, which hands none back.
        let pieces = answer.matches("DATA").count() + answer.matches("EMPTY").count();
        let trailers = answer.matches("TRAILERS").count();
        let headers = usize::from(!answer.is_empty());
        assert_eq!(replies.len(), 2 + headers + pieces + trailers, "{what}: {replies:?}");
        let metrics = metrics(&program).await;
        let of = |name: &str| value(&metrics, name);
        let ended = format!("llm_d_epp_exchanges_total{{ending=\"{ending}\"}}");
        assert_eq!(of(&ended) as u32, 1, "{what}: {metrics}");
        let first = of("llm_d_epp_request_ttft_seconds_count") as u32;
        assert_eq!(first, u32::from(first_token), "{what}");
        let taken = of("llm_d_epp_request_duration_seconds_count") as u32;
        let counts = matches!(ending, "complete" | "unobserved");
        assert_eq!(taken, u32::from(counts), "{what}");
        let in_flight = metrics.lines().filter(|l| l.starts_with("llm_d_epp_inflight_requests{"));
        assert!(in_flight.into_iter().all(|line| line.ends_with(" 0")), "{what}");
    }
}

#[tokio::test]
async fn who_misses_a_body_is_told() {
    let workers = [SocketAddr::from(([127, 0, 0, 1], 29_001))];
    for (config, missed) in [(METERED, true), (PLAIN, false)] {
        let program = Program::start(config, &workers, &[]);
        let gateway = Gateway::connect(program.grpc_port).await;
        for _ in 0..2 {
            let mut exchange = gateway.open().await;
            exchange.send(headers(DUPLEX, NONE, &[])).await;
            exchange.send(request_body(BODY, true)).await;
            exchange.send(sent("SSE")).await;
            exchange.half_close();
            exchange.rest().await;
        }
        let url = format!("http://127.0.0.1:{}/debug/state", program.metrics_port);
        let page: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let findings = page["findings"].to_string();
        assert_eq!(findings.contains("read by token-metering (token counts)"), missed, "{page}");
    }
}
