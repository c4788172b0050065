//! Tokens through a real Envoy: what its other filters read, and a quota under load.

use serde_json::json;

use super::*;

/// Metering and a quota of 1,000 tokens a month for each user and model.
const CONFIG: &str = "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: token-metering
- type: token-quota
  parameters:
    rules:
    - name: per-user
      headers: [{name: x-user-id, type: Distinct}]
      model: {type: Distinct}
      limits: [{tokens: 1000, unit: Month}]
- type: queue-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
  - pluginRef: max-score-picker
";

/// Takes the namespace from `epp`, and writes what the rate-limit filter would read when a stream
/// is done into `log`.
fn with_access_log(yaml: String, log: &std::path::Path) -> String {
    let format = "%REQ(x-user-id)% %DYNAMIC_METADATA(io.envoy.ai_gateway:llm_total_token)%\\n";
    yaml.replace(
        "              message_timeout: 30s\n",
        "              message_timeout: 30s
              metadata_options: {receiving_namespaces: {untyped: [io.envoy.ai_gateway]}}\n",
    )
    .replace(
        "          codec_type: AUTO\n",
        &format!(
            "          codec_type: AUTO
          access_log:
          - name: file
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {}
              log_format: {{text_format_source: {{inline_string: \"{format}\"}}}}\n",
            log.display()
        ),
    )
}

struct Metered {
    gateway: Gateway,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Metered {
    async fn start(envoy: PathBuf, worker_arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("access.log");
        let edit = |yaml| with_access_log(yaml, &log);
        let gateway = Gateway::start_configured(envoy, 2, worker_arguments, CONFIG, edit).await;
        Self { gateway, log, _dir: dir }
    }

    async fn ask(&self, user: &str, body: &Value) -> reqwest::Response {
        self.post("/v1/chat/completions", user, body).await
    }

    async fn post(&self, path: &str, user: &str, body: &Value) -> reqwest::Response {
        let url = format!("{}{path}", self.gateway.envoy.url);
        let request = self.gateway.http.post(url).header("x-user-id", user).json(body);
        request.send().await.expect("Envoy answers")
    }

    /// What Envoy's filters read of each of this user's requests, once there are so many.
    async fn charged(&self, user: &str, requests: usize) -> Vec<String> {
        eventually("Envoy's access log", || async {
            let text = std::fs::read_to_string(&self.log).ok()?;
            let of_user = |line: &str| {
                line.split_once(' ').filter(|(who, _)| *who == user).map(|(_, n)| n.to_owned())
            };
            let charged: Vec<String> = text.lines().filter_map(of_user).collect();
            (charged.len() >= requests).then_some(charged)
        })
        .await
    }
}

fn prompt(stream: bool, max_tokens: u64) -> Value {
    json!({
        "model": "m", "stream": stream, "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": "hello"}],
    })
}

/// Events of a stream that bring text.
fn tokens_in(stream: &str) -> usize {
    let text = |line: &&str| {
        let event: Option<Value> =
            line.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
        let content = event.map(|event| event["choices"][0]["delta"]["content"].clone());
        content.is_some_and(|content| content.as_str().is_some_and(|text| !text.is_empty()))
    };
    stream.lines().filter(text).count()
}

#[tokio::test]
async fn the_gateways_filters_read_what_an_exchange_used() {
    let Some(envoy) = support::envoy::binary() else { return };
    let metered = Metered::start(envoy, &["--instant"]).await;
    let answer: Value = metered.ask("whole", &prompt(false, 6)).await.json().await.unwrap();
    let total = answer["usage"]["total_tokens"].as_u64().unwrap();
    assert_eq!(metered.charged("whole", 1).await, [total.to_string()]);
    let mut counted = prompt(true, 6);
    counted["stream_options"] = json!({"include_usage": true});
    metered.ask("stream", &counted).await.text().await.unwrap();
    assert_eq!(metered.charged("stream", 1).await, [total.to_string()]);
    let unknown = json!({"model": "x", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(metered.ask("error", &unknown).await.status(), 404);
    assert_eq!(metered.charged("error", 1).await, ["0"]);
}

#[tokio::test]
async fn streams_that_clients_leave_are_charged_to_the_token() {
    let Some(envoy) = support::envoy::binary() else { return };
    let metered = Metered::start(envoy, &["--speed", "0.5"]).await;
    let mut least = 0;
    for _ in 0..4 {
        let mut response = metered.ask("leaver", &prompt(true, 200)).await;
        let mut got = String::new();
        while tokens_in(&got) < 3 {
            let piece = response.chunk().await.unwrap().expect("the stream goes on");
            got.push_str(std::str::from_utf8(&piece).unwrap());
        }
        least += tokens_in(&got);
        drop(response);
    }
    let charged = metered.charged("leaver", 4).await;
    let charged: u64 = charged.iter().map(|n| n.parse::<u64>().expect("a number")).sum();
    // What `epp` charged is what Envoy was told; both are at least what the clients read.
    let page = || async {
        let url = format!("http://127.0.0.1:{}/metrics", metered.gateway.epp.metrics_port);
        let text = metered.gateway.http.get(url).send().await.ok()?.text().await.ok()?;
        let line = text.lines().find(|l| l.starts_with("llm_d_epp_quota_tokens_total{"))?;
        let tokens: u64 = line.rsplit(' ').next()?.parse().ok()?;
        (tokens >= charged).then_some(tokens)
    };
    let by_epp = eventually("all four to be charged", page).await;
    assert_eq!(by_epp, charged);
    assert!(charged as usize > least && charged < 4 * 200, "{charged}, clients read {least}");
}

#[tokio::test]
async fn thirty_two_clients_side_by_side_stay_within_the_quota() {
    let Some(envoy) = support::envoy::binary() else { return };
    let metered = Metered::start(envoy, &["--instant"]).await;
    let clients = (0..32).map(|_| async {
        let (mut served, mut used) = (0u64, 0u64);
        loop {
            // Of which the picker knows beforehand what it may use: the simulator counts a token
            // for four bytes of a bare prompt, too.
            let body = json!({"model": "m", "prompt": "x".repeat(64), "max_tokens": 16});
            let response = metered.post("/v1/completions", "many", &body).await;
            if response.status() == 429 {
                let headers = response.headers().clone();
                assert!(
                    headers["x-ratelimit-limit"].to_str().unwrap().starts_with("1000, 1000;w=")
                );
                assert!(headers.contains_key("retry-after"));
                return (served, used);
            }
            assert_eq!(response.status(), 200);
            let answer: Value = response.json().await.unwrap();
            served += 1;
            used += answer["usage"]["total_tokens"].as_u64().unwrap();
        }
    });
    let results = futures_util::future::join_all(clients).await;
    let served: u64 = results.iter().map(|(served, _)| served).sum();
    let used: u64 = results.iter().map(|(_, used)| used).sum();
    let each = used / served;
    assert_eq!(each, 32);
    // What was set aside was used, to the token; the last request overdraws.
    assert!((1000..1000 + each).contains(&used), "{used} tokens");
    let charged = metered.charged("many", served as usize + 32).await;
    let charged: u64 = charged.iter().filter_map(|n| n.parse::<u64>().ok()).sum();
    assert_eq!(charged, used, "tokens charged and tokens delivered");
}
