//! A quota of tokens that a plain Envoy keeps: its rate-limit filter asks `envoyproxy/ratelimit`,
//! which counts in Redis what `epp` says that each exchange used (`deploy/envoy/rate-limit.yaml`).

use std::net::TcpListener;

use super::*;
use crate::support::needs::{self, Need};
use crate::support::redis::Redis;

const SAMPLE: &str = include_str!("../../deploy/envoy/rate-limit.yaml");
const RULES: &str = include_str!("../../deploy/envoy/rate-limit-rules.yaml");

const CONFIG: &str = "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: token-metering
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: max-score-picker
";

/// The binary that `make test` names; without it the test does nothing, or fails where nothing may
/// be skipped (see [`needs`]).
fn service() -> Option<PathBuf> {
    if needs::skipped(Need::RateLimit) {
        return None;
    }
    let binary = std::env::var_os("RATELIMIT").map(PathBuf::from).filter(|path| path.is_file());
    if binary.is_none() {
        let how = "RATELIMIT names no envoyproxy/ratelimit; `tools/ratelimit.sh` builds one";
        needs::missing(Need::RateLimit, how);
    }
    binary
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct RateLimited {
    gateway: Gateway,
    redis: Redis,
    _service: Process,
    _dir: tempfile::TempDir,
}

impl RateLimited {
    async fn start(worker_arguments: &[&str]) -> Option<Self> {
        let (envoy, service) = (support::envoy::binary()?, service()?);
        let redis = Redis::start()?;
        let dir = tempfile::tempdir().unwrap();
        let rules = dir.path().join("ratelimit/config");
        std::fs::create_dir_all(&rules).unwrap();
        // An hour may end while the test runs.
        assert!(RULES.contains("unit: hour"));
        std::fs::write(rules.join("rules.yaml"), RULES.replace("unit: hour", "unit: year"))
            .unwrap();
        // It takes no port 0: it is given ports that were free a moment ago.
        let port = free_port();
        let mut command = Command::new(service);
        command
            .envs([("RUNTIME_SUBDIRECTORY", "ratelimit"), ("RUNTIME_WATCH_ROOT", "false")])
            .envs([("USE_STATSD", "false"), ("BACKEND_TYPE", "redis"), ("LOG_LEVEL", "info")])
            .envs([("REDIS_SOCKET_TYPE", "tcp"), ("HOST", "127.0.0.1"), ("GRPC_HOST", "127.0.0.1")])
            .env("RUNTIME_ROOT", dir.path())
            .env("REDIS_URL", redis.url().trim_start_matches("redis://"))
            .env("GRPC_PORT", port.to_string())
            .env("PORT", free_port().to_string())
            .env("DEBUG_HOST", "127.0.0.1")
            .env("DEBUG_PORT", free_port().to_string());
        let service = Process::start("ratelimit", &mut command);
        service.wait_for("to listen", |line| line.contains("Listening for gRPC on").then_some(()));
        let workers: Vec<Worker> = (0..2).map(|_| Worker::start(worker_arguments)).collect();
        let addresses: Vec<SocketAddr> = workers.iter().map(|w| w.address).collect();
        let epp = Program::start(CONFIG, &addresses, &["--secure-serving=true"]);
        let edit = |yaml: String| {
            yaml.replace("port_value: 8085", &format!("port_value: {port}"))
                // Tests run side by side on a machine that may be slow.
                .replace("timeout: 0.1s", "timeout: 10s")
        };
        let envoy = Envoy::start_sample(envoy, SAMPLE, epp.grpc_port, edit).await;
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let gateway = Gateway { workers, epp, envoy, http };
        Some(Self { gateway, redis, _service: service, _dir: dir })
    }

    async fn ask(&self, user: &str, body: &Value) -> reqwest::Response {
        let url = format!("{}/v1/completions", self.gateway.envoy.url);
        let request = self.gateway.http.post(url).header("x-user-id", user).json(body);
        request.send().await.expect("Envoy answers")
    }

    /// Tokens that are counted for this user and the model `m`.
    async fn counted(&self, user: &str) -> u64 {
        let keys = self.redis.keys(&format!("epp_user_{user}_model_m_*")).await;
        match keys.as_slice() {
            [] => 0,
            [key] => redis::from_redis_value(self.redis.command(&["GET", key]).await).unwrap(),
            more => panic!("{more:?}"),
        }
    }

    async fn is_counted(&self, user: &str, tokens: u64) {
        eventually(&format!("{tokens} tokens to be counted for {user}"), || async {
            (self.counted(user).await == tokens).then_some(())
        })
        .await;
    }
}

fn completion(stream: bool) -> Value {
    let mut body = json!({"model": "m", "prompt": "x".repeat(200), "max_tokens": 50});
    if stream {
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

/// `usage.total_tokens` of an answer, or of the event of a stream that has it.
fn total(text: &str) -> u64 {
    let mut pieces = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    pieces
        .find_map(|piece| {
            let piece: Value = serde_json::from_str(piece).ok()?;
            piece["usage"]["total_tokens"].as_u64()
        })
        .unwrap_or_else(|| panic!("no usage: {text}"))
}

#[tokio::test]
async fn what_is_charged_is_what_was_delivered_until_the_quota_is_used_up() {
    let Some(limited) = RateLimited::start(&["--instant"]).await else { return };
    let mut delivered = 0;
    let refused = loop {
        let response = limited.ask("ann", &completion(delivered % 200 == 0)).await;
        if response.status() == 429 {
            break response;
        }
        assert_eq!(response.status(), 200);
        let left = response.headers()["x-ratelimit-remaining"].to_str().unwrap().to_owned();
        assert_eq!(left, 1000u64.saturating_sub(delivered).to_string());
        delivered += total(&response.text().await.unwrap());
        assert!(delivered < 2_000, "nothing was refused");
        limited.is_counted("ann", delivered).await;
    };
    assert!(delivered > 1_000, "refused after {delivered}");
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    assert!(header("x-ratelimit-limit").starts_with("1000, 1000;w="), "{refused:?}");
    assert_eq!(header("x-ratelimit-remaining"), "0");
    assert!(header("x-ratelimit-reset").parse::<u64>().is_ok());
    // Refused before a worker was picked, so it cost nothing; others go on.
    assert_eq!(limited.ask("ben", &completion(false)).await.status(), 200);
    assert_eq!(limited.ask("ann", &completion(true)).await.status(), 429);
    limited.is_counted("ann", delivered).await;
}

#[tokio::test]
async fn a_stream_that_its_client_leaves_is_charged_for_what_came() {
    let Some(limited) = RateLimited::start(&["--speed", "0.5"]).await else { return };
    let body = json!({"model": "m", "prompt": "hello", "stream": true, "max_tokens": 300});
    let mut response = limited.ask("leaver", &body).await;
    let mut read = 0;
    while read < 3 {
        let piece = response.chunk().await.unwrap().expect("the stream goes on");
        read += String::from_utf8_lossy(&piece).matches("data: {").count() as u64;
    }
    drop(response);
    let charged = eventually("it to be charged", || async {
        let counted = limited.counted("leaver").await;
        (counted > 0).then_some(counted)
    })
    .await;
    assert!(charged >= read && charged < 300, "{charged}, the client read {read}");
}

/// All else is as in the plain sample.
#[test]
fn the_sample_is_the_plain_one_and_the_quota() {
    let read = |text: &str| serde_yaml::from_str::<Value>(text).expect("YAML");
    let mut limited = read(SAMPLE);
    let plain = read(support::envoy::STANDALONE);
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let at = |path: &str| format!("{manager}{path}");
    let filters = limited.pointer_mut(&at("/http_filters")).and_then(Value::as_array_mut).unwrap();
    filters.drain(..2);
    let picker = filters[0]["typed_config"].as_object_mut().unwrap();
    assert!(picker.remove("metadata_options").is_some());
    let route = limited.pointer_mut(&at("/route_config/virtual_hosts/0/routes/0")).unwrap();
    assert!(route.as_object_mut().unwrap().remove("typed_per_filter_config").is_some());
    let clusters = limited["static_resources"]["clusters"].as_array_mut().unwrap();
    assert_eq!(clusters.pop().unwrap()["name"], "ratelimit");
    assert_eq!(limited, plain);
}
