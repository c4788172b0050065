//! The spans that a running `epp` sends, and that sending them never keeps a request.

use std::net::SocketAddr;

use envoy_types::pb::envoy::service::ext_proc::v3::ProcessingResponse;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::collector::{Collector, attributes};
use crate::support::client::{
    DUPLEX, Gateway, post_headers, request_body, request_headers, response_body, response_headers,
    set_headers, with_mode,
};
use crate::support::eventually;
use crate::support::program::Program;

const CONFIG: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: prefix-cache-scorer, name: prefixes}
- {type: queue-scorer}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: prefixes, weight: 3}, {pluginRef: queue-scorer}]
";

/// No endpoint has the label that the filter wants.
const NOBODY_FITS: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: prefill-filter}, {type: queue-scorer}]
schedulingProfiles:
- name: narrow
  plugins: [{pluginRef: prefill-filter}, {pluginRef: queue-scorer}]
";

const SECRET: &str = "the-prompts-own-words";
const PATH: &str = "/v1/chat/completions";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn workers() -> [SocketAddr; 2] {
    // Nobody listens there: requests are not sent anywhere, only decided.
    [SocketAddr::from(([127, 0, 0, 1], 29_201)), SocketAddr::from(([127, 0, 0, 1], 29_202))]
}

fn body() -> Vec<u8> {
    let prompt = SECRET.repeat(40);
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}]}}"#).into_bytes()
}

/// Starts `epp` that sends its spans at once.
fn start(config: &str, collector: SocketAddr, sampler: &str, more: &[(&str, &str)]) -> Program {
    let endpoint = format!("http://{collector}");
    let mut environment = vec![
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_TRACES_SAMPLER", sampler),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    environment.extend_from_slice(more);
    let list: Vec<String> = workers().iter().map(ToString::to_string).collect();
    Program::start_in(config, &["--endpoints".to_owned(), list.join(",")], &environment)
}

/// The header that leaves with a request.
fn parent_sent(replies: &[ProcessingResponse]) -> Option<String> {
    let headers = set_headers(&replies[0]);
    let found: Vec<String> =
        headers.into_iter().filter(|(key, _)| key == "traceparent").map(|(_, v)| v).collect();
    assert!(found.len() <= 1, "{found:?}");
    found.into_iter().next()
}

/// `traceparent` with this span as the parent.
fn parent_of(span: &Span) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

/// One exchange that is answered with a stream.
async fn streamed(gateway: &Gateway, headers: &[(&str, &str)]) -> Option<String> {
    let mut replies = gateway.post(PATH, headers, &body()).await;
    let parent = parent_sent(&replies.replies);
    let exchange = &mut replies.exchange;
    let head = [(":status", "200"), ("content-type", "text/event-stream")];
    exchange.send(response_headers(&head, false)).await;
    let text = format!("data: {{\"choices\":[{{\"text\":\"{SECRET}\"}}]}}\n\n");
    exchange.send(response_body(text.as_bytes(), false)).await;
    let usage = br#"data: {"usage":{"prompt_tokens":240,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":64}}}

data: [DONE]

"#;
    exchange.send(response_body(usage, true)).await;
    exchange.half_close();
    exchange.rest().await;
    parent
}

/// Sorted samples of the spans' counter, by outcome.
async fn counted(epp: &Program, outcome: &str) -> u64 {
    let url = format!("http://127.0.0.1:{}/metrics", epp.metrics_port);
    let page = reqwest::get(&url).await.unwrap().text().await.unwrap();
    let sample = format!("llm_d_epp_trace_spans_total{{outcome=\"{outcome}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(sample.as_str()));
    value.unwrap_or_else(|| panic!("no {sample} on the page")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_is_one_trace_from_the_gateway_to_the_endpoint() {
    let collector = Collector::start(0).await;
    let epp = start(CONFIG, collector.address, "parentbased_always_off", &[]);
    let gateway = Gateway::connect(epp.grpc_port).await;
    streamed(&gateway, &[("x-request-id", "first"), ("traceparent", NOT_SAMPLED)]).await;
    let headers = [("x-request-id", "second"), ("traceparent", PARENT), ("tracestate", "v=1")];
    let sent = streamed(&gateway, &headers).await;

    let trace = collector.trace_of("second").await;
    assert_eq!(sent, Some(parent_of(&trace.root)), "the endpoint's spans join");
    assert_eq!(sent.unwrap().split('-').nth(1), Some(TRACE));
    assert_eq!(trace.root.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
    assert_eq!(trace.root.trace_state, "v=1");
    assert_eq!(
        trace.tree(),
        [
            "filter_endpoints < run_scheduler_profile",
            "gateway.request < -",
            "gateway.request_orchestration < gateway.request",
            "llm_d.epp.scorer.prefix-cache-scorer < llm_d.epp.scoring",
            "llm_d.epp.scorer.queue-scorer < llm_d.epp.scoring",
            "llm_d.epp.scoring < run_scheduler_profile",
            "pick_endpoints < run_scheduler_profile",
            "run_scheduler_profile < gateway.request_orchestration",
        ]
    );
    for (name, kind) in [
        ("gateway.request", SpanKind::Server),
        ("gateway.request_orchestration", SpanKind::Server),
        ("pick_endpoints", SpanKind::Internal),
    ] {
        assert_eq!(trace.span(name).kind, kind as i32, "{name}");
    }
    for span in &trace.spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(span.start_time_unix_nano >= trace.root.start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= trace.root.end_time_unix_nano, "{span:?}");
    }
    let root = attributes(&trace.root.attributes);
    let target = format!("127.0.0.1:{}", root["server.port"]);
    assert!(workers().iter().any(|worker| worker.to_string() == target), "{root:?}");
    for (span, key, value) in [
        ("gateway.request", "gen_ai.request.model", "m"),
        ("gateway.request", "http.response.status_code", "200"),
        ("gateway.request", "llm_d.epp.ending", "complete"),
        ("gateway.request", "llm_d.epp.response.streaming", "true"),
        ("gateway.request", "gen_ai.usage.input_tokens", "240"),
        ("gateway.request", "gen_ai.usage.output_tokens", "7"),
        ("gateway.request", "gen_ai.usage.cache_read.input_tokens", "64"),
        ("gateway.request_orchestration", "target_model", "m"),
        ("gateway.request_orchestration", "request_prio", "0"),
        ("gateway.request_orchestration", "llm_d.epp.profile.default.target_endpoint", &target),
        // The first request went there.
        ("gateway.request_orchestration", "llm_d.epp.predicted_cached_blocks", "4"),
        ("gateway.request_orchestration", "llm_d.epp.predicted_cached_tokens", "256"),
        ("run_scheduler_profile", "llm_d.epp.scheduling.profile.name", "default"),
        ("filter_endpoints", "llm_d.epp.filter.candidate_endpoints", "2"),
        ("filter_endpoints", "llm_d.epp.filter.filtered_endpoints", "2"),
        ("llm_d.epp.scoring", "llm_d.epp.scorer.count", "2"),
        ("llm_d.epp.scorer.prefix-cache-scorer", "llm_d.epp.scorer.name", "prefixes"),
        ("llm_d.epp.scorer.prefix-cache-scorer", "llm_d.epp.scorer.weight", "3"),
        ("llm_d.epp.scorer.prefix-cache-scorer", "llm_d.epp.scorer.endpoints_scored", "2"),
        ("pick_endpoints", "llm_d.epp.picker.candidate_endpoints", "2"),
    ] {
        let found = attributes(&trace.span(span).attributes);
        assert_eq!(found.get(key).map(String::as_str), Some(value), "{span} {key}: {found:?}");
    }
    let top = attributes(&trace.span("pick_endpoints").attributes);
    assert!(top["llm_d.epp.picker.top_endpoints"].starts_with(&target), "{top:?}");
    let events: Vec<&str> = trace.root.events.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(events, ["response.headers", "response.first_byte"]);
    assert_eq!(collector.service()["service.name"], "llm-d-epp");
    assert!(!format!("{:?}", collector.spans()).contains(SECRET));
    assert!(collector.spans().iter().all(|span| span.trace_id == trace.root.trace_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_cut_exchanges_say_why_they_ended() {
    let collector = Collector::start(0).await;
    let epp = start(CONFIG, collector.address, "always_on", &[("OTEL_SERVICE_NAME", "ours")]);
    let gateway = Gateway::connect(epp.grpc_port).await;
    assert_eq!(gateway.post(PATH, &[("x-request-id", "bad")], b"{").await.error().0, 400);
    let bad = collector.trace_of("bad").await;
    let found = attributes(&bad.root.attributes);
    assert_eq!(bad.tree(), ["gateway.request < -"]);
    assert_eq!(found["llm_d.epp.ending"], "refused");
    assert_eq!(
        (&*found["error.type"], &*found["http.response.status_code"]),
        ("BadRequest", "400")
    );
    assert_eq!(bad.root.status.unwrap().code, StatusCode::Error as i32);
    assert_eq!(collector.service()["service.name"], "ours");

    // The client goes away: within the body, before the answer, within it.
    for (id, ending, has_decision) in [
        ("early", "cut-before-decision", false),
        ("unanswered", "cut-before-response", true),
        ("half", "cut-in-response", true),
    ] {
        let leave = async || {
            let mut exchange = gateway.open().await;
            exchange.send(post_headers(PATH, &[("x-request-id", id)], DUPLEX)).await;
            exchange.send(request_body(&body(), has_decision)).await;
            if has_decision {
                exchange.request_replies().await;
            }
            if ending == "cut-in-response" {
                exchange.send(response_headers(&[(":status", "500")], false)).await;
                exchange.next().await.unwrap();
            }
        };
        leave().await;
        // A reset may overtake what was sent before it, if nothing of it was answered: then there
        // was no exchange to tell of, and the client comes and goes again.
        let cut = eventually(&format!("the spans of {id}"), async || {
            let found = collector.find_trace_of(id);
            if found.is_none() && !has_decision {
                leave().await;
            }
            found
        })
        .await;
        let found = attributes(&cut.root.attributes);
        assert_eq!(found["llm_d.epp.ending"], ending);
        assert_eq!(cut.spans.len() > 1, has_decision, "{id}: {:?}", cut.tree());
        let code = cut.root.status.unwrap_or_default().code;
        let expected = if id == "half" { StatusCode::Error } else { StatusCode::Unset };
        assert_eq!(code, expected as i32, "{id}: a client that goes away is no error");
    }
    assert!(!format!("{:?}", collector.spans()).contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_can_serve_shows_who_dropped_whom() {
    let collector = Collector::start(0).await;
    let epp =
        start(NOBODY_FITS, collector.address, "traceidratio", &[("OTEL_TRACES_SAMPLER_ARG", "1")]);
    let gateway = Gateway::connect(epp.grpc_port).await;
    let status = gateway.post(PATH, &[("x-request-id", "none")], &body()).await.error().0;
    assert_eq!(status, 429);
    let trace = collector.trace_of("none").await;
    assert_eq!(
        trace.tree(),
        [
            "filter_endpoints < run_scheduler_profile",
            "gateway.request < -",
            "gateway.request_orchestration < gateway.request",
            "run_scheduler_profile < gateway.request_orchestration",
        ]
    );
    let filters = attributes(&trace.span("filter_endpoints").attributes);
    assert_eq!(filters["llm_d.epp.filter.filtered_endpoints"], "0");
    let asked = trace.span("gateway.request_orchestration");
    let [exception] = asked.events.as_slice() else { panic!("{asked:?}") };
    assert_eq!(attributes(&exception.attributes)["exception.type"], "ResourceExhausted");
    let root = attributes(&trace.root.attributes);
    assert_eq!(root["llm_d.epp.dropped_reason"], "rejected-saturated");
}

/// Whose trace a request belongs to when it leaves, and whether that is sampled.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_leaves_with_the_trace_that_it_came_with_or_with_ours() {
    let collector = Collector::start(0).await;
    for (sampler, came, ours) in [
        // A trace of its own, which nobody is to sample.
        ("parentbased_always_off", None, Some("-00")),
        ("always_on", None, Some("-01")),
        ("always_on", Some("nonsense"), Some("-01")),
        ("always_on", Some(NOT_SAMPLED), Some("-01")),
        // What we have no part in goes on as it came.
        ("parentbased_always_on", Some(NOT_SAMPLED), None),
        ("always_off", Some(PARENT), None),
    ] {
        let epp = start(CONFIG, collector.address, sampler, &[]);
        let gateway = Gateway::connect(epp.grpc_port).await;
        let header: Vec<(&str, &str)> = came.map(|p| ("traceparent", p)).into_iter().collect();
        let sent = parent_sent(&gateway.post(PATH, &header, &body()).await.replies);
        match ours {
            None => assert_eq!(sent.as_deref(), came, "{sampler}"),
            Some(flags) => {
                let sent = sent.unwrap_or_else(|| panic!("{sampler} {came:?}"));
                assert!(
                    sent.ends_with(flags) && Some(&*sent) != came,
                    "{sampler} {came:?}: {sent}"
                );
            }
        }

        // The same without a body, where nothing is echoed: what is ours alone is set.
        let mut get = vec![(":method", "GET"), (":path", "/v1/models")];
        get.extend_from_slice(&header);
        let mut exchange = gateway.open().await;
        exchange.send(with_mode(request_headers(&get, true), DUPLEX)).await;
        let sent = parent_sent(&[exchange.next().await.unwrap().unwrap()]);
        assert_eq!(sent.is_some(), ours.is_some(), "{sampler} {came:?}: {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_the_spans_alone_and_may_come_back() {
    let away = Collector::start(0).await;
    let address = away.address;
    drop(away);
    let epp = start(CONFIG, address, "always_on", &[("OTEL_EXPORTER_OTLP_TIMEOUT", "500")]);
    let gateway = Gateway::connect(epp.grpc_port).await;
    for _ in 0..3 {
        streamed(&gateway, &[]).await;
        let before = counted(&epp, "failed").await;
        eventually("spans that failed", async || {
            (counted(&epp, "failed").await > before).then_some(())
        })
        .await;
    }
    let said = epp.process.output().matches("Spans cannot be delivered").count();
    assert_eq!(said, 1, "{}", epp.process.output());

    let collector = Collector::start(address.port()).await;
    eventually("a span that is delivered", async || {
        streamed(&gateway, &[("x-request-id", "back")]).await;
        (counted(&epp, "exported").await > 0).then_some(())
    })
    .await;
    collector.trace_of("back").await;
    epp.process
        .wait_for("word of it", |line| line.contains("Spans are delivered again").then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_fills_a_queue_and_no_more() {
    let collector = Collector::that_hangs().await;
    let more = [("OTEL_BSP_MAX_QUEUE_SIZE", "16"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")];
    let epp = start(CONFIG, collector.address, "always_on", &more);
    let gateway = Gateway::connect(epp.grpc_port).await;
    streamed(&gateway, &[]).await;
    eventually("a call that hangs", async || (collector.calls() > 0).then_some(())).await;
    for _ in 0..20 {
        streamed(&gateway, &[]).await;
    }
    eventually("spans that are dropped", async || {
        (counted(&epp, "dropped").await > 100).then_some(())
    })
    .await;
    assert_eq!(collector.calls(), 1);
    let said = epp.process.output().matches("Spans are dropped").count();
    assert_eq!(said, 1, "{}", epp.process.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_exporter_nothing_is_traced_and_a_flag_that_asks_for_it_is_answered() {
    let list: Vec<String> = workers().iter().map(ToString::to_string).collect();
    let endpoints = ["--endpoints".to_owned(), list.join(",")];
    let collector = Collector::start(0).await;
    let endpoint = format!("http://{}", collector.address);
    let set = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    for (flag, environment, warned) in [
        (None, &[][..], false),
        (Some("--tracing=true"), &[], true),
        (Some("--tracing=false"), &set, false),
    ] {
        let arguments: Vec<String> =
            endpoints.iter().cloned().chain(flag.map(str::to_owned)).collect();
        let epp = Program::start_in(CONFIG, &arguments, environment);
        let gateway = Gateway::connect(epp.grpc_port).await;
        let replies = gateway.post(PATH, &[("traceparent", PARENT)], &body()).await.replies;
        assert_eq!(parent_sent(&replies).as_deref(), Some(PARENT), "it is left as it came");
        let replies = gateway.post(PATH, &[], &body()).await.replies;
        assert_eq!(parent_sent(&replies), None);
        let output = epp.process.output();
        assert_eq!(output.contains("no exporter is set"), warned, "{output}");
    }
    assert_eq!(collector.calls(), 0);
}
