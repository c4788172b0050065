//! What of responses a real Envoy sends, as its configuration and `--response-body` say, and how
//! exchanges are seen to end: the three configurations under `deploy/envoy`, and one that lets
//! nothing be turned off.

use std::net::SocketAddr;

use futures_util::StreamExt;
use serde_json::json;

use crate::Worker;
use crate::support::envoy::{self, Envoy};
use crate::support::program::Program;
use crate::support::{PATIENCE, eventually};

const CONFIG: &str = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, \
    plugins: [{type: active-request-scorer}]}";
const ALWAYS: &str = include_str!("../../deploy/envoy/standalone.yaml");
const AUTO: &str = include_str!("../../deploy/envoy/standalone-body-auto.yaml");
const NONE: &str = include_str!("../../deploy/envoy/standalone-body-none.yaml");

/// The first lines that differ are comments, so what Envoy does is compared without them.
fn settings(yaml: &str) -> Vec<&str> {
    yaml.lines().filter(|line| !line.trim_start().starts_with('#')).collect()
}

#[test]
fn the_configurations_differ_in_how_bodies_go_and_in_nothing_else() {
    let differing = |yaml| {
        let (always, other) = (settings(ALWAYS), settings(yaml));
        let gone: Vec<&str> = always.iter().filter(|l| !other.contains(l)).copied().collect();
        let new: Vec<&str> = other.iter().filter(|l| !always.contains(l)).copied().collect();
        (gone.join("\n"), new.join("\n"))
    };
    let duplex = "                response_body_mode: FULL_DUPLEX_STREAMED";
    let (gone, new) = differing(NONE);
    assert_eq!((gone.as_str(), new.trim()), (duplex, "response_body_mode: NONE"));
    let (gone, new) = differing(AUTO);
    assert_eq!(gone, format!("                request_body_mode: FULL_DUPLEX_STREAMED\n{duplex}"));
    let new: Vec<&str> = new.lines().map(str::trim).collect();
    assert_eq!(
        new,
        [
            "per_connection_buffer_limit_bytes: 33554432",
            "allow_mode_override: true",
            "request_body_mode: BUFFERED",
            "response_body_mode: STREAMED"
        ]
    );
}

struct House {
    _workers: Vec<Worker>,
    epp: Program,
    envoy: Envoy,
    http: reqwest::Client,
}

impl House {
    async fn start(binary: std::path::PathBuf, yaml: String, choice: &str) -> Self {
        // Slow enough that a stream can be left while it goes on.
        let workers: Vec<Worker> = (0..2).map(|_| Worker::start(&["--speed", "0.3"])).collect();
        let addresses: Vec<SocketAddr> = workers.iter().map(|w| w.address).collect();
        let choice = format!("--response-body={choice}");
        let epp = Program::start(CONFIG, &addresses, &["--secure-serving=true", &choice]);
        let port = epp.grpc_port;
        // The ports of the moment stand in each of them at the same places.
        let ports = move |_| {
            yaml.replace("port_value: 19000", "port_value: 0")
                .replace("port_value: 8081", "port_value: 0")
                .replace("port_value: 9002", &format!("port_value: {port}"))
        };
        let envoy = Envoy::start(binary, port, ports).await;
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { _workers: workers, epp, envoy, http }
    }

    async fn ask(&self, model: &str, stream: bool, tokens: u32) -> reqwest::Response {
        let body = json!({
            "model": model, "prompt": "once upon a time", "max_tokens": tokens,
            "ignore_eos": true, "stream": stream,
        });
        let request = self.http.post(format!("{}/v1/completions", self.envoy.url)).json(&body);
        request.send().await.expect("Envoy answers")
    }

    async fn page(&self, url: String) -> String {
        self.http.get(url).send().await.unwrap().text().await.unwrap()
    }

    async fn metrics(&self) -> String {
        self.page(format!("http://127.0.0.1:{}/metrics", self.epp.metrics_port)).await
    }

    /// How many exchanges ended how, those alone that there are, by name.
    async fn endings(&self) -> Vec<(String, u32)> {
        let metrics = self.metrics().await;
        let ending = |line: &str| {
            let rest = line.strip_prefix("llm_d_epp_exchanges_total{ending=\"")?;
            let (ending, count) = rest.split_once("\"} ")?;
            let count = count.parse::<f64>().ok()? as u32;
            (count > 0).then(|| (ending.to_owned(), count))
        };
        let mut all: Vec<_> = metrics.lines().filter_map(ending).collect();
        all.sort();
        all
    }
}

#[tokio::test]
async fn bodies_are_sent_as_it_was_chosen_and_every_exchange_ends() {
    let Some(binary) = envoy::binary() else { return };
    let no_override = || AUTO.replace("allow_mode_override: true", "allow_mode_override: false");
    // With an override allowed, and a body in full duplex: Envoy heeds none.
    let duplex =
        || AUTO.replace("request_body_mode: BUFFERED", "request_body_mode: FULL_DUPLEX_STREAMED");
    // Envoy's configuration and the choice; whether streams of events are seen, whether other
    // bodies are.
    for (what, yaml, choice, events, others) in [
        ("full duplex", ALWAYS.to_owned(), "auto", true, true),
        ("streamed, read", AUTO.to_owned(), "always", true, true),
        ("streamed, turned off", AUTO.to_owned(), "auto", false, true),
        ("streamed, never", AUTO.to_owned(), "never", false, false),
        ("no override allowed", no_override(), "auto", true, true),
        ("override not heeded", duplex(), "auto", true, true),
        ("none", NONE.to_owned(), "always", false, false),
    ] {
        let house = House::start(binary.clone(), yaml, choice).await;

        let text = house.ask("m", true, 5).await.text().await.unwrap();
        assert!(text.trim_end().ends_with("data: [DONE]"), "{what}: {text}");
        let answer: serde_json::Value = house.ask("m", false, 5).await.json().await.unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], 5, "{what}");
        let unknown = house.ask("nobody", true, 5).await;
        assert_eq!(unknown.status(), 404, "{what}");
        unknown.text().await.unwrap();
        let url = format!("{}/v1/models", house.envoy.url);
        assert_eq!(house.http.head(&url).send().await.unwrap().status(), 200, "{what}");
        // A client that leaves.
        let mut left = house.ask("m", true, 2000).await.bytes_stream();
        left.next().await.unwrap().unwrap();
        drop(left);

        let ended = |seen: bool, whole: bool| match (seen, whole) {
            (false, _) => "unobserved",
            (true, true) => "complete",
            (true, false) => "cut-in-response",
        };
        // The stream, the answer, the error (which is no stream), HEAD, and the one who left.
        let expected = [
            ended(events, true),
            ended(others, true),
            ended(others, true),
            "complete",
            ended(events, false),
        ];
        let mut counts = std::collections::BTreeMap::new();
        expected.iter().for_each(|ending| *counts.entry((*ending).to_owned()).or_insert(0) += 1);
        let counts: Vec<(String, u32)> = counts.into_iter().collect();
        eventually(&format!("{what}: the exchanges to end as {counts:?}"), || async {
            (house.endings().await == counts).then_some(())
        })
        .await;

        let metrics = house.metrics().await;
        let sum = |series: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(series));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        assert_eq!(sum("llm_d_epp_inflight_requests{"), 0.0, "{what}");
        let first_tokens = 2 * u32::from(events) + 2 * u32::from(others);
        assert_eq!(sum("llm_d_epp_request_ttft_seconds_count") as u32, first_tokens, "{what}");
        // Usage is told by the answer that is no stream; the stream was not asked for it.
        let outputs = sum("llm_d_epp_request_output_tokens_count") as u32;
        assert_eq!(outputs, u32::from(others), "{what}");

        // Envoy had nothing to object to: neither a message that fits nothing, nor a header.
        let stats = house.page(format!("{}/stats?filter=ext_proc", house.envoy.admin)).await;
        for counter in ["spurious_msgs_received", "rejected_header_mutations", "streams_failed"] {
            let line = stats.lines().find(|line| line.contains(counter)).unwrap();
            assert!(line.ends_with(": 0"), "{what}: {line}");
        }
    }
}

#[tokio::test]
async fn a_worker_that_dies_in_an_answer_that_goes_by_unseen() {
    let Some(binary) = envoy::binary() else { return };
    let mut house = House::start(binary, AUTO.to_owned(), "auto").await;
    let mut answer = house.ask("m", true, 2000).await.bytes_stream();
    answer.next().await.unwrap().unwrap();
    for worker in &mut house._workers {
        worker.process.signal("KILL");
        worker.process.wait();
    }
    while let Some(Ok(_)) = answer.next().await {}
    eventually("the exchange to end", || async {
        (house.endings().await == [("unobserved".to_owned(), 1)]).then_some(())
    })
    .await;
    let metrics = house.metrics().await;
    let in_flight = metrics.lines().filter(|l| l.starts_with("llm_d_epp_inflight_requests{"));
    assert!(in_flight.into_iter().all(|line| line.ends_with(" 0")), "{metrics}");
}

#[tokio::test]
async fn a_renamed_model_is_renamed_back_though_nothing_reads_the_body() {
    let Some(binary) = envoy::binary() else { return };
    let house = House::start(binary, AUTO.to_owned(), "auto").await;
    let request = house.http.post(format!("{}/v1/completions", house.envoy.url));
    let body = json!({"model": "alias", "prompt": "hi", "max_tokens": 3, "stream": true});
    let response = request.header("x-llm-d-model-name-rewrite", "m").json(&body).send().await;
    let text = response.unwrap().text().await.unwrap();
    assert!(text.contains(r#""model":"alias""#) && !text.contains(r#""model":"m""#), "{text}");
}
