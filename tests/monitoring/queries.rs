//! The dashboard and the alerts of `deploy/monitoring`, held against what a running `epp`
//! publishes: every metric that a query names is there, with the labels that it goes by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;

use crate::support::client::{Gateway, response_body, response_headers};
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::program::Program;
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../deploy/monitoring/dashboard.json");
const ALERTS: &str = include_str!("../../deploy/monitoring/alerts.yaml");
const CONFIG: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins: [{type: prefix-cache-scorer}, {type: queue-scorer}, {type: concurrency-detector}]
flowControl: {saturationDetector: {pluginRef: concurrency-detector}}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: prefix-cache-scorer}, {pluginRef: queue-scorer}]
";

/// Labels by the names of samples.
type Published = BTreeMap<String, BTreeSet<String>>;

fn published(page: &str) -> Published {
    let mut all = Published::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
        let labels = all.entry(name.to_owned()).or_default();
        let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
        for pair in inside.map_or("", |(inside, _)| inside).split("\",") {
            labels.extend(pair.split_once('=').map(|(label, _)| label.to_owned()));
        }
    }
    all
}

/// A word of a query, and what comes right after it.
fn words(query: &str) -> Vec<(String, char)> {
    let mut words = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let end = rest[1..].find('"').expect("a text that ends") + 2;
            rest = &rest[end..];
        } else if first.is_ascii_alphabetic() || first == '_' {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let after = rest[end..].trim_start().chars().next().unwrap_or(' ');
            words.push((rest[..end].to_owned(), after));
            rest = &rest[end..];
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            rest = &rest[end.unwrap_or(rest.len())..];
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    words
}

const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

const AGGREGATIONS: [&str; 5] = ["sum", "avg", "min", "max", "count"];

/// What is wrong with a query: a metric that is not published, a label that none of its metrics has.
fn wrong(query: &str, published: &Published) -> Option<String> {
    let words = words(query);
    let is_metric = |word: &str| word.starts_with("llm_d_epp_") || word.starts_with("process_");
    let metrics: Vec<&str> =
        words.iter().map(|(w, _)| w.as_str()).filter(|w| is_metric(w)).collect();
    if metrics.is_empty() {
        return Some("names no metric".into());
    }
    let mut labels = BTreeSet::new();
    for metric in &metrics {
        let Some(of_metric) = published.get(*metric) else {
            return Some(format!("{metric} is not published"));
        };
        labels.extend(of_metric);
    }
    for (word, after) in &words {
        let is_function = *after == '(' || AGGREGATIONS.contains(&word.as_str());
        if is_function || is_metric(word) || GROUPING.contains(&word.as_str()) {
            continue;
        }
        if !labels.contains(word) {
            return Some(format!("no metric of it has the label {word}"));
        }
    }
    None
}

fn of_dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|p| p["targets"].as_array().expect("targets"));
    targets.map(|t| t["expr"].as_str().expect("a query").to_owned()).collect()
}

fn of_alerts() -> Vec<(String, String)> {
    let alerts: serde_yaml::Value = serde_yaml::from_str(ALERTS).expect("YAML");
    let rules = alerts["groups"][0]["rules"].as_sequence().expect("rules");
    let text = |value: &serde_yaml::Value| value.as_str().expect("a text").to_owned();
    for rule in rules {
        assert!(rule["annotations"]["summary"].is_string(), "{rule:?}");
        assert!(rule["annotations"]["description"].is_string(), "{rule:?}");
    }
    rules.iter().map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
}

#[test]
fn a_wrong_query_is_seen() {
    let page = published("# HELP x\nllm_d_epp_a_total{b=\"1\",c=\"x,y\"} 3\nllm_d_epp_d 1\n");
    for (query, expected) in [
        ("sum by (b) (rate(llm_d_epp_a_total{c=\"e\"}[5m])) / llm_d_epp_d > 0.2", None),
        ("llm_d_epp_e", Some("llm_d_epp_e is not published")),
        ("sum by (f) (llm_d_epp_a_total)", Some("no metric of it has the label f")),
        ("llm_d_epp_d{b=\"1\"}", Some("no metric of it has the label b")),
        ("up == 0", Some("names no metric")),
    ] {
        assert_eq!(wrong(query, &page).as_deref(), expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_finds_what_it_names() {
    // Nobody listens at the first: scrapes fail, which is to be seen too.
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp-sim"));
    let engine = Process::start("epp-sim", command.args(["--port", "0"]));
    let address = engine.wait_for("its address", |line| {
        line.split_once("http://")?.1.split([' ', '/']).next()?.parse().ok()
    });
    let workers = [SocketAddr::from(([127, 0, 0, 1], 29_131)), address];
    let epp = Program::start(CONFIG, &workers, &[]);
    let gateway = Gateway::connect(epp.grpc_port).await;
    let body = br#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}"#;
    let answer = br#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3}}}"#;
    let mut replies = gateway.post("/v1/chat/completions", &[], body).await;
    let exchange = &mut replies.exchange;
    let head = [(":status", "200"), ("content-type", "application/json")];
    exchange.send(response_headers(&head, false)).await;
    exchange.send(response_body(answer, true)).await;
    exchange.half_close();
    exchange.rest().await;
    assert_eq!(gateway.post("/v1/chat/completions", &[], b"{").await.error().0, 400);

    let url = format!("http://127.0.0.1:{}/metrics", epp.metrics_port);
    let page = eventually("the engine's metrics", async || {
        let page = reqwest::get(&url).await.ok()?.text().await.ok()?;
        page.contains("llm_d_epp_per_endpoint_queue_size{").then_some(page)
    })
    .await;
    let published = published(&page);
    let dashboard = of_dashboard().into_iter().map(|query| ("the dashboard".to_owned(), query));
    let queries: Vec<_> = dashboard.chain(of_alerts()).collect();
    assert!(queries.len() > 20, "{queries:?}");
    for (name, query) in queries {
        assert_eq!(wrong(&query, &published), None, "{name}: {query}");
    }
}
