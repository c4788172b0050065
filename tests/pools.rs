//! Pools in one process: each has its own configuration, index, counters and labels.

use std::path::Path;
use std::task::Poll;

use bytes::Bytes;
use epp::app::PoolRuntime;
use epp::cli::{self, Command, Options};
use epp::exchange::{BodyKnown, Exchange, Forward, ResponseHead};

const BY_PREFIX: &str = "
- {type: prefix-cache-scorer, parameters: {hashBlockSize: 16}}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: prefix-cache-scorer}]
";

const BY_REQUESTS: &str = "
- type: active-request-scorer
schedulingProfiles:
- name: default
  plugins: [{pluginRef: active-request-scorer}]
";

/// The options of a pool called `name` that `plugins` decide for, with two endpoints of its own.
fn options(dir: &Path, name: &str, network: u8, plugins: &str) -> Options {
    let endpoints = dir.join(format!("{name}-endpoints.yaml"));
    let entry =
        |n: u8| format!("- {{name: {name}-{n}, address: 127.0.{network}.{n}, port: \"1\"}}\n");
    std::fs::write(&endpoints, format!("endpoints:\n{}{}", entry(1), entry(2))).unwrap();
    let config = dir.join(format!("{name}.yaml"));
    let text = format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
dataLayer: {{injectDefaults: false, discovery: {{pluginRef: file-discovery}}}}
plugins:
- {{type: file-discovery, parameters: {{path: {}}}}}{plugins}",
        endpoints.display()
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let arguments = ["--config-file", &config, "--pool-name", name].map(str::to_owned);
    match cli::parse(&arguments, |_| None) {
        Ok(Command::Serve(options)) => *options,
        other => panic!("{other:?}"),
    }
}

/// Sends a completion through the pool's exchange room and takes the whole response.
fn complete(pool: &PoolRuntime, prompt: &str) -> Forward {
    let mut exchange = Exchange::new(pool.context().clone());
    exchange.add_headers([(":path".into(), "/v1/completions".into())].into_iter()).unwrap();
    let body = format!(r#"{{"model":"m","prompt":"{prompt}"}}"#);
    exchange.add_body(body.into()).unwrap();
    let Poll::Ready(Ok(forward)) = exchange.decide(BodyKnown::Whole) else {
        panic!("not decided at once")
    };
    exchange.response_headers(ResponseHead { status: Some(200), ..ResponseHead::default() });
    exchange.response_chunk(br#"{"usage":{"prompt_tokens":5,"completion_tokens":7}}"#);
    exchange.response_end();
    forward
}

fn metric(pool: &PoolRuntime, line: &str) -> Option<String> {
    let text = pool.metrics().render().unwrap();
    text.lines().find_map(|l| Some(l.strip_prefix(line)?.trim().to_owned()))
}

#[tokio::test]
async fn two_pools_share_nothing_and_one_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let chat = PoolRuntime::start(&options(dir.path(), "chat", 1, BY_PREFIX)).await.unwrap();
    let batch = PoolRuntime::start(&options(dir.path(), "batch", 2, BY_REQUESTS)).await.unwrap();

    // The chat pool sends what it has sent before to the same endpoint again.
    let prompt = "the same prompt, long enough for a few blocks of sixteen bytes";
    let first: Bytes = complete(&chat, prompt).destination;
    assert!(first.starts_with(b"127.0.1."), "{first:?}");
    for _ in 0..20 {
        assert_eq!(complete(&chat, prompt).destination, first);
    }
    // The other pool never heard of it, and has endpoints of its own.
    let mut elsewhere = std::collections::BTreeSet::new();
    for _ in 0..40 {
        elsewhere.insert(complete(&batch, prompt).destination);
    }
    assert_eq!(elsewhere.len(), 2);
    assert!(elsewhere.iter().all(|d| d.starts_with(b"127.0.2.")), "{elsewhere:?}");

    // Each counts its own.
    let total = r#"llm_d_epp_request_total{fairness_id="default-flow",model_name="m",priority="0",target_model_name="m"}"#;
    assert_eq!(metric(&chat, total).as_deref(), Some("21"));
    assert_eq!(metric(&batch, total).as_deref(), Some("40"));
    for (pool, name, other) in [(&chat, "chat", "batch"), (&batch, "batch", "chat")] {
        assert!(metric(pool, &format!("llm_d_epp_ready_endpoints{{name=\"{name}\"}}")).is_some());
        assert!(!pool.metrics().render().unwrap().contains(other), "{name} shows {other}");
        assert!(pool.pool().snapshot().endpoints.iter().all(|e| e.in_flight.requests() == 0));
    }

    // One goes; the other goes on, with what it knows.
    batch.stop();
    drop(batch);
    assert_eq!(complete(&chat, prompt).destination, first);
}
