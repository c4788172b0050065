//! A word that stands in everything a client sends or is sent, and that none but the two of them
//! are to see: not in the log at any level, in a metric, on a page or in an explanation.
//!
//! What is told on purpose has no such word here: the model's name, the request id, the fairness
//! id and the objective are labels and fields, and a path without its query.

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use support::client::{
    DUPLEX, Exchange, Gateway, Replies, list_of, post_headers, request_body, response_body,
    response_headers, with_subset,
};
use support::eventually;
use support::program::Program;

const CANARY: &str = "xylophone-canary-5309";
/// The same as a client's basic credentials, and cut where a buffer may be cut.
const ENCODED: &str = "eHlsb3Bob25lLWNhbmFyeS01MzA5";
const CUT: &str = "xylophone-can";

const CHAT: &str = "/v1/chat/completions";

/// Plugins that look into headers, sessions, prompts and answers.
const CONFIG: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: prefix-cache-scorer
- type: queue-scorer
- type: session-affinity-scorer
- type: no-hit-lru-scorer
- type: predicted-latency-producer
- type: agent-identity
- type: token-metering
- type: token-quota
  parameters:
    rules:
    - {name: users, headers: [{name: x-user-id, type: Distinct}], limits: [{requests: 2, unit: Month}]}
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: prefix-cache-scorer
  - pluginRef: queue-scorer
  - pluginRef: session-affinity-scorer
  - pluginRef: no-hit-lru-scorer
";

/// A worker that nobody listens at: its metrics cannot be read, which counts as saturated.
fn endpoints() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([127, 0, 0, 1], 29_171))]
}

/// Headers that are nobody's business.
fn secrets() -> Vec<(&'static str, String)> {
    let plain =
        ["x-api-key", "cookie", "x-session-id", "x-my-own", "x-session-token", "user-agent"];
    let mut headers: Vec<_> = plain.into_iter().map(|name| (name, CANARY.to_owned())).collect();
    headers.push(("authorization", format!("Bearer {CANARY}")));
    headers.push(("proxy-authorization", format!("Basic {ENCODED}")));
    headers
}

fn chat() -> String {
    let long = format!("{CANARY} and what came of it. ").repeat(100);
    serde_json::json!({
        "model": "m",
        "stream": true,
        "user": CANARY,
        "metadata": { CANARY: CANARY },
        "messages": [
            { "role": "system", "content": long },
            { "role": "assistant", "tool_calls": [{ "id": CANARY, "type": "function",
                "function": { "name": CANARY, "arguments": format!("{{\"{CANARY}\":1}}") } }] },
            { "role": "tool", "tool_call_id": CANARY, "content": CANARY },
            { "role": "user", "content": [{ "type": "text", "text": CANARY },
                { "type": "image_url", "image_url": { "url": format!("https://h/{CANARY}.png") } }] },
        ],
        "tools": [{ "type": "function", "function": { "name": CANARY, "description": CANARY,
            "parameters": { CANARY: "string" } } }],
    })
    .to_string()
}

async fn post(gateway: &Gateway, path: &str, more: &[(&str, &str)], body: &str) -> Replies {
    let secrets = secrets();
    let mut headers: Vec<(&str, &str)> = secrets.iter().map(|(k, v)| (*k, v.as_str())).collect();
    headers.extend_from_slice(more);
    gateway.post(path, &headers, body.as_bytes()).await
}

/// The answer, which holds the word in its headers, text and errors.
async fn answer(exchange: &mut Exchange, status: &str, kind: &str, pieces: &[String]) {
    let head = [(":status", status), ("content-type", kind), ("set-cookie", CANARY)];
    exchange.send(response_headers(&head, false)).await;
    for (at, piece) in pieces.iter().enumerate() {
        exchange.send(response_body(piece.as_bytes(), at + 1 == pieces.len())).await;
    }
    exchange.half_close();
    exchange.rest().await;
}

/// Requests that are refused before they are read, or because of what they say.
fn unreadable() -> Vec<(&'static str, String)> {
    let in_place = |template: &str| template.replace("WORD", CANARY);
    vec![
        (CHAT, in_place("WORD")),
        (CHAT, in_place("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"WORD")),
        (CHAT, in_place("{\"model\":\"m\",\"messages\":\"WORD\"}")),
        (CHAT, in_place("{\"model\":{\"WORD\":1},\"messages\":[]}")),
        (CHAT, in_place("{\"model\":\"m\",\"WORD\"}")),
        (
            CHAT,
            in_place(
                "{\"model\":\"m\",\"messages\":[{\"role\":\"WORD\",\"content\":{\"WORD\":2}}]}",
            ),
        ),
        (CHAT, in_place("{\"model\":\"m\",\"stream\":\"WORD\",\"messages\":[]}")),
        (CHAT, in_place("{\"model\":\"m\",\"max_tokens\":\"WORD\",\"messages\":[]}")),
        (CHAT, in_place("\"\\uD800 WORD\"")),
        ("/v1/completions", in_place("{\"model\":\"m\",\"prompt\":{\"WORD\":\"WORD\"}}")),
        ("/v1/completions", in_place("{\"model\":\"m\",\"prompt\":[[\"WORD\"]]}")),
        ("/v1/embeddings", in_place("{\"model\":\"m\",\"input\":{\"WORD\":1}}")),
        ("/v1/responses", in_place("{\"model\":\"m\",\"input\":{\"WORD\":1}}")),
        (
            "/v1/messages",
            in_place("{\"model\":\"m\",\"messages\":\"WORD\",\"system\":{\"WORD\":1}}"),
        ),
        ("/inference/v1/generate", in_place("{\"model\":\"m\",\"token_ids\":\"WORD\"}")),
    ]
}

/// Sends everything; the statuses that came.
async fn traffic(program: &Program) -> BTreeSet<i32> {
    let gateway = Gateway::connect(program.grpc_port).await;
    let mut seen = BTreeSet::new();
    let stream = [
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{CANARY}\"}}}}]}}\n\n"),
        format!(
            "data: {{\"choices\":[],\"system_fingerprint\":\"{CANARY}\",\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":2}}}}\n\ndata: [DONE]\n\n"
        ),
    ];
    let query = format!("{CHAT}?key={CANARY}#{CANARY}");
    for (id, path) in [("ok", CHAT), ("again", CHAT), ("query", query.as_str())] {
        let mut replies = post(&gateway, path, &[("x-request-id", id)], &chat()).await;
        assert!(!replies.destination().is_empty(), "{path}");
        answer(&mut replies.exchange, "200", "text/event-stream", &stream).await;
        seen.insert(200);
    }
    // What engines say of an error quotes the request as often as not.
    let error = [format!("{{\"error\":{{\"message\":\"cannot read {CANARY}\",\"code\":400}}}}")];
    for (id, status) in [("engine-400", "400"), ("engine-500", "500")] {
        let mut replies = post(&gateway, CHAT, &[("x-request-id", id)], &chat()).await;
        answer(&mut replies.exchange, status, "application/json", &error).await;
    }
    let broken = [format!("data: {{\"choices\": {CANARY}\n\n"), format!("data: \"{CANARY}")];
    let mut replies = post(&gateway, CHAT, &[("x-request-id", "bad-stream")], &chat()).await;
    answer(&mut replies.exchange, "200", "text/event-stream", &broken).await;
    // The client leaves in the middle.
    let left = post(&gateway, CHAT, &[("x-request-id", "left")], &chat()).await;
    drop(left);

    for (path, body) in unreadable() {
        let replies = post(&gateway, path, &[("x-request-id", "unreadable")], &body).await;
        seen.insert(match replies.replies.first().map(|r| &r.response) {
            Some(Some(Response::ImmediateResponse(_))) => replies.error().0,
            _ => 200,
        });
    }
    let large = format!("{{\"model\":\"m\",\"prompt\":\"{}\"}}", format!("{CANARY} ").repeat(9000));
    seen.insert(post(&gateway, "/v1/completions", &[], &large).await.error().0);
    let user = [("x-user-id", CANARY)];
    for _ in 0..3 {
        let replies = post(&gateway, CHAT, &user, &chat()).await;
        if matches!(replies.replies[0].response, Some(Response::ImmediateResponse(_))) {
            seen.insert(replies.error().0);
        }
    }
    let nowhere = list_of(&[&format!("{CANARY}:1"), "10.9.9.9:1"]);
    let mut exchange = gateway.open().await;
    exchange.send(with_subset(post_headers(CHAT, &[("cookie", CANARY)], DUPLEX), nowhere)).await;
    exchange.send(request_body(chat().as_bytes(), true)).await;
    let replies = exchange.request_replies().await;
    seen.insert(Replies { replies, exchange }.error().0);
    seen
}

/// Where the word was found.
fn leaks(place: &str, text: &str) -> Vec<String> {
    let found = |line: &&str| [CUT, ENCODED].iter().any(|word| line.contains(word));
    let lines = text.lines().filter(found);
    lines.map(|line| format!("{place}: {}", line.chars().take(600).collect::<String>())).collect()
}

fn asked(program: &Program, arguments: &[&str]) -> String {
    let address = format!("--admin=http://127.0.0.1:{}", program.metrics_port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
    let output = command.args(arguments).arg(address).output().expect("epp can be started");
    String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8")
}

const PAGES: [&str; 10] = [
    "/",
    "/metrics",
    "/debug/decisions",
    "/debug/decisions?format=text",
    "/debug/decisions?refused",
    "/debug/endpoints",
    "/debug/flow-control",
    "/debug/plugins",
    "/debug/state",
    "/debug/history",
];

async fn look_for_it(arguments: &[&str]) {
    let mut all = vec!["--max-request-body-bytes=64Ki", "--allow-experimental-plugins"];
    all.extend_from_slice(arguments);
    let program = Program::start(CONFIG, &endpoints(), &all);
    let seen = traffic(&program).await;
    assert!(seen.is_superset(&[200, 400, 413, 429, 503].into()), "{arguments:?}: {seen:?}");
    let count = "llm_d_epp_exchanges_total{ending=\"refused\"}";
    let get = async |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", program.metrics_port);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    };
    eventually("refusals to be counted", || async {
        get("/metrics").await.contains(count).then_some(())
    })
    .await;
    let mut found = Vec::new();
    for path in PAGES {
        let text = get(path).await;
        let shows = !path.starts_with("/debug/decisions") || text.contains("engine-500");
        assert!(!text.is_empty() && (shows || path.ends_with("refused")), "{path}: {text}");
        found.extend(leaks(path, &text));
    }
    for arguments in [
        &["explain", "ok"][..],
        &["explain", "ok", "--json"],
        &["explain", "unreadable"],
        &["explain", "unreadable", "--json"],
        &["top", "--once"],
    ] {
        found.extend(leaks(&format!("{arguments:?}"), &asked(&program, arguments)));
    }
    let log = program.process.output();
    // That it is the log of these very exchanges.
    let quiet = ["--v=0", "--v=1"].iter().any(|level| arguments.contains(level));
    assert!(log.contains("engine-500") || quiet, "{arguments:?}:\n{log}");
    found.extend(leaks("log", &log));
    assert!(found.is_empty(), "{arguments:?}:\n{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_levels_of_operation() {
    for level in ["--v=0", "--v=1", "--v=2", "--v=3"] {
        look_for_it(&[level]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_levels_of_debugging() {
    for level in ["--v=4", "--v=5", "--v=10"] {
        look_for_it(&[level]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_form_for_people_and_of_every_module() {
    look_for_it(&["--v=5", "--zap-encoder=console"]).await;
    look_for_it(&["--zap-log-level=20", "--emit-endpoint-scores"]).await;
}
