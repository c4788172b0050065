//! Requests and where they are.

use std::time::Duration;

use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use serde_json::Value;

use crate::support::client::*;
use crate::support::eventually;

pub const CHAT: &str = "/v1/chat/completions";
pub const HELLO: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}"#;

/// A configuration with the gate on: each endpoint takes one request.
pub fn config(plugins: &str, flow_control: &str, data_layer: &str) -> String {
    format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- type: random-picker
- type: concurrency-detector
  parameters: {{maxConcurrency: 1}}
- type: round-robin-fairness-policy
{plugins}
schedulingProfiles:
- name: default
  plugins: [{{pluginRef: random-picker}}, {{pluginRef: concurrency-detector}}]
dataLayer: {{injectDefaults: false{data_layer}}}
flowControl:
  saturationDetector: {{pluginRef: concurrency-detector}}
  defaultPriorityBand: {{fairnessPolicyRef: round-robin-fairness-policy}}
{flow_control}
"
    )
}

/// A request that was sent and whose answer may be a while.
pub struct Asked {
    pub name: String,
    exchange: Exchange,
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    Routed(String),
    /// Status, drop reason, and in how many seconds to come back.
    Refused(i32, String, Option<u64>),
    /// What follows the first reply.
    More,
}

impl Answer {
    pub fn reason(self) -> (i32, String) {
        match self {
            Self::Refused(code, reason, _) => (code, reason),
            other => panic!("{other:?}"),
        }
    }
}

impl Asked {
    pub async fn send(gateway: &Gateway, name: &str, headers: &[(&str, &str)]) -> Self {
        let mut exchange = gateway.open().await;
        exchange.send(post_headers(CHAT, headers, DUPLEX)).await;
        exchange.send(request_body(HELLO, true)).await;
        Self { name: name.to_owned(), exchange }
    }

    /// A request of a tenant.
    pub async fn of(gateway: &Gateway, tenant: &str) -> Self {
        Self::send(gateway, tenant, &[("x-llm-d-inference-fairness-id", tenant)]).await
    }

    /// The answer, if it comes within `limit`.
    pub async fn answer_within(&mut self, limit: Duration) -> Option<Answer> {
        let reply = self.exchange.within(limit).await?.expect("no status").expect("a reply");
        if let Some(Response::ImmediateResponse(refused)) = &reply.response {
            let mutation = refused.headers.clone().unwrap_or_default();
            let header = |name: &str| {
                let headers = mutation.set_headers.iter().filter_map(|h| h.header.as_ref());
                let found = headers.filter(|h| h.key == name).next_back()?;
                Some(String::from_utf8_lossy(&found.raw_value).into_owned())
            };
            let code = refused.status.as_ref().map_or(0, |status| status.code);
            let reason = header("x-llm-d-request-dropped-reason").unwrap_or_default();
            let retry_after = header("retry-after").map(|s| s.parse().expect("seconds"));
            return Some(Answer::Refused(code, reason, retry_after));
        }
        let headers = set_headers(&reply);
        let found = headers.into_iter().find(|(k, _)| k == "x-gateway-destination-endpoint");
        Some(found.map_or(Answer::More, |(_, endpoint)| Answer::Routed(endpoint)))
    }

    pub async fn answer(&mut self) -> Answer {
        self.answer_within(crate::support::PATIENCE).await.expect("an answer in time")
    }

    /// Waits until it is routed; where to.
    pub async fn routed(&mut self) -> String {
        match self.answer().await {
            Answer::Routed(endpoint) => endpoint,
            refused => panic!("{}: {refused:?}", self.name),
        }
    }

    /// The whole response comes.
    pub async fn finish(mut self) {
        self.exchange.send(response_headers(&[(":status", "200")], true)).await;
        while let Ok(Some(reply)) = self.exchange.next().await {
            if matches!(reply.response, Some(Response::ResponseHeaders(_))) {
                return;
            }
        }
        panic!("{}: the response was not answered", self.name);
    }

    /// The request was answered, and is ended by another answer.
    pub async fn evicted(&mut self) -> Answer {
        loop {
            match self.answer().await {
                Answer::Routed(_) | Answer::More => {}
                refused => return refused,
            }
        }
    }
}

/// Takes the one of `waiting` that goes next; exactly one may.
pub async fn next_of(waiting: &mut Vec<Asked>) -> (Asked, Answer) {
    for _ in 0..3000 {
        for n in 0..waiting.len() {
            if let Some(answer) = waiting[n].answer_within(Duration::from_millis(2)).await {
                return (waiting.remove(n), answer);
            }
        }
    }
    panic!("none of {:?} goes", waiting.iter().map(|asked| &asked.name).collect::<Vec<_>>());
}

/// The page that shows the queue.
pub async fn page(metrics_port: u16) -> Value {
    let url = format!("http://127.0.0.1:{metrics_port}/debug/flow-control");
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

/// Waits until the pool has so many endpoints.
pub async fn until_endpoints(metrics_port: u16, endpoints: usize) {
    let url = format!("http://127.0.0.1:{metrics_port}/debug/endpoints");
    eventually(&format!("{endpoints} endpoints"), || async {
        let shown: Value = reqwest::get(&url).await.ok()?.json().await.ok()?;
        (shown["endpoints"].as_array()?.len() == endpoints).then_some(())
    })
    .await;
}

/// Waits until so many requests wait.
pub async fn until_waiting(metrics_port: u16, requests: u64) {
    eventually(&format!("{requests} waiting"), || async {
        (page(metrics_port).await["requests"] == requests).then_some(())
    })
    .await;
}

/// The samples of a metric whose labels contain all of these, added up.
pub async fn metric(metrics_port: u16, name: &str, labels: &[&str]) -> f64 {
    let url = format!("http://127.0.0.1:{metrics_port}/metrics");
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let samples = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
