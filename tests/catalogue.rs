//! Plugins that ask for more than metrics, or tell more than a destination: the whole program
//! between a gateway and engines that stand still.

mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::Value;
use support::client::{Gateway, lb_metadata, response_body, response_headers, set_headers};
use support::eventually;
use support::program::Program;
use tokio::net::TcpListener;

const CHAT: &str = "/v1/chat/completions";
const EXPERIMENTAL: &str = "--allow-experimental-plugins";

/// Something that answers GETs with texts, by path; what is not there is 404.
struct Pages {
    address: SocketAddr,
    texts: Arc<Mutex<BTreeMap<&'static str, String>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Pages {
    async fn serve(texts: &[(&'static str, &str)]) -> Self {
        Self::over(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), texts)
    }

    /// At one port of two addresses.
    async fn serve_pair(texts: [&[(&'static str, &str)]; 2]) -> [Self; 2] {
        loop {
            let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = one.local_addr().unwrap().port();
            // Somebody may have it at the other address.
            if let Ok(other) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).await {
                return [Self::over(one, texts[0]), Self::over(other, texts[1])];
            }
        }
    }

    fn over(listener: TcpListener, texts: &[(&'static str, &str)]) -> Self {
        let texts = texts.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
        let texts = Arc::new(Mutex::new(texts));
        let address = listener.local_addr().unwrap();
        let shared: Arc<Mutex<BTreeMap<&'static str, String>>> = texts.clone();
        let answer = move |uri: axum::http::Uri| async move {
            let found = shared.lock().get(uri.path()).cloned();
            found.ok_or(axum::http::StatusCode::NOT_FOUND)
        };
        let app = Router::new().fallback(get(answer));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, texts, server }
    }

    fn now(&self, path: &'static str, text: &str) {
        self.texts.lock().insert(path, text.to_owned());
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A vLLM's metrics with so many requests waiting.
fn vllm(waiting: u32) -> String {
    format!(
        "vllm:num_requests_waiting 0\nvllm:num_requests_running 0\nvllm:kv_cache_usage_perc 0\n\
         vllm:num_requests_swapped {waiting}\n"
    )
}

/// A configuration of these plugins, all of which stand in one profile in this order.
fn config(plugins: &str, in_profile: &[&str], sources: &str) -> String {
    let references: Vec<String> =
        in_profile.iter().map(|name| format!("{{pluginRef: {name}}}")).collect();
    format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n{plugins}\n\
         schedulingProfiles:\n- {{name: default, plugins: [{}]}}\n{sources}\n",
        references.join(", ")
    )
}

fn body(prompt: &str) -> Vec<u8> {
    let body = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": prompt}]});
    body.to_string().into_bytes()
}

async fn destination(gateway: &Gateway) -> String {
    gateway.post(CHAT, &[], &body("hi")).await.destination()
}

async fn plugin_state(program: &Program, plugin: &str) -> Option<Value> {
    let url = format!("http://127.0.0.1:{}/debug/plugins", program.metrics_port);
    let text = reqwest::get(url).await.ok()?.text().await.ok()?;
    let state: Value = serde_json::from_str(&text).ok()?;
    let found = [&state[plugin], &state["plugins"][plugin]].into_iter().find(|s| !s.is_null());
    found.cloned()
}

/// GPUs behind a DCGM exporter of each endpoint's own, and which endpoints they rule out.
#[tokio::test(flavor = "multi_thread")]
async fn requests_go_where_the_gpus_are_idle() {
    const BUSY: &str = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 97\nDCGM_FI_DEV_GPU_UTIL{gpu=\"1\"} 12\n";
    const IDLE: &str = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 12\n";
    // Two hosts with an exporter at the same port each.
    let [one, other] = Pages::serve_pair([&[("/metrics", BUSY)], &[("/metrics", IDLE)]]).await;
    let port = one.address.port();
    let plugins = format!(
        "- {{type: dcgm-data-source, parameters: {{port: {port}, interval: 50ms}}}}
- type: dcgm-extractor
- type: endpoint-attribute-filter
  parameters:
    attribute: GPUUtilization
    producer: dcgm-extractor
    onMissing: Fail
    algorithm: {{type: threshold, threshold: {{operator: LessThanOrEqual, value: 0.9}}}}"
    );
    let sources = "dataLayer:\n  sources:\n  - pluginRef: dcgm-data-source\n    extractors: \
                   [{pluginRef: dcgm-extractor}]";
    let config = config(&plugins, &["endpoint-attribute-filter"], sources);
    let endpoints = ["127.0.0.1:29201", "127.0.0.2:29201"].map(|a| a.parse().unwrap());
    let program = Program::start(&config, &endpoints, &[EXPERIMENTAL]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let refused = |answer: &support::client::Replies| set_headers(&answer.replies[0]).is_empty();
    eventually("the idle endpoint alone", || async {
        let answer = gateway.post(CHAT, &[], &body("hi")).await;
        (!refused(&answer)).then(|| assert_eq!(answer.destination(), "127.0.0.2:29201"))
    })
    .await;
    // The other way round.
    one.now("/metrics", IDLE);
    other.now("/metrics", BUSY);
    eventually("the other one alone", || async {
        let mut seen = Vec::new();
        for _ in 0..8 {
            let answer = gateway.post(CHAT, &[], &body("hi")).await;
            seen.push(if refused(&answer) { String::new() } else { answer.destination() });
        }
        seen.iter().all(|at| at == "127.0.0.1:29201").then_some(())
    })
    .await;
}

/// A metric of the engines that is no signal of ours.
#[tokio::test(flavor = "multi_thread")]
async fn requests_go_by_a_metric_of_the_engines() {
    let engines = [
        Pages::serve(&[("/metrics", &vllm(9))]).await,
        Pages::serve(&[("/metrics", &vllm(1))]).await,
    ];
    let plugins = "- type: core-metrics-extractor
  parameters:
    engineConfigs:
    - name: vllm
      queuedRequestsSpec: vllm:num_requests_waiting
      runningRequestsSpec: vllm:num_requests_running
      kvUsageSpec: vllm:kv_cache_usage_perc
      customMetrics: [{attributeKey: swapped, metricSpec: vllm:num_requests_swapped}]
- type: endpoint-attribute-scorer
  parameters: {attributeKey: swapped, algorithm: {type: linear_lower_is_better}}";
    let config = config(plugins, &["endpoint-attribute-scorer"], "");
    let addresses = engines.each_ref().map(|engine| engine.address);
    let program = Program::start(&config, &addresses, &[EXPERIMENTAL]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let [one, other] = addresses.map(|address| address.to_string());
    let always = |wanted: String| {
        let gateway = gateway.clone();
        async move {
            for _ in 0..8 {
                if destination(&gateway).await != wanted {
                    return None;
                }
            }
            Some(())
        }
    };
    eventually("the one that swaps less", || always(other.clone())).await;
    engines[0].now("/metrics", &vllm(0));
    eventually("the one that swaps less now", || always(one.clone())).await;
}

/// Which models engines serve, and that an engine which does not tell is counted.
#[tokio::test(flavor = "multi_thread")]
async fn the_models_of_each_engine_are_known() {
    const MODELS: &str = r#"{"object":"list","data":[{"id":"base"},{"id":"sql","parent":"base"}]}"#;
    let engines = [
        Pages::serve(&[("/metrics", &vllm(0)), ("/v1/models", MODELS)]).await,
        Pages::serve(&[("/metrics", &vllm(0)), ("/v1/models", "{}")]).await,
    ];
    let plugins = "- {type: models-data-source, parameters: {interval: 50ms}}
- type: models-data-extractor
- type: queue-scorer";
    let sources = "dataLayer:\n  sources:\n  - pluginRef: models-data-source\n    extractors: \
                   [{pluginRef: models-data-extractor}]";
    let config = config(plugins, &["queue-scorer"], sources);
    let addresses = engines.each_ref().map(|engine| engine.address);
    let program = Program::start(&config, &addresses, &[]);
    let models = |state: &Value, n: usize| -> Value {
        let endpoints = state.as_object().expect("by endpoint");
        let of = endpoints.iter().find(|(id, _)| id.contains(&addresses[n].port().to_string()));
        of.expect("the endpoint is there").1.clone()
    };
    let expected = serde_json::json!([{"id": "base"}, {"id": "sql", "parent": "base"}]);
    eventually("the models of the first engine", || async {
        let state = plugin_state(&program, "models-data-extractor").await?;
        assert_eq!(models(&state, 1), Value::Null);
        (models(&state, 0) == expected).then_some(())
    })
    .await;
    let url = format!("http://127.0.0.1:{}/metrics", program.metrics_port);
    eventually("the answer that is none is counted", || async {
        let page = reqwest::get(&url).await.ok()?.text().await.ok()?;
        let line = page.lines().find(|line| {
            line.starts_with("llm_d_epp_datalayer_extract_errors_total")
                && line.contains("models-data-source")
                && line.contains("models-data-extractor")
        })?;
        (!line.ends_with(" 0")).then_some(())
    })
    .await;
    engines[1].now("/v1/models", MODELS);
    eventually("the models of the other one", || async {
        let state = plugin_state(&program, "models-data-extractor").await?;
        (models(&state, 1) == expected).then_some(())
    })
    .await;
}

/// The cost of a response, for the gateway's rate limit.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_is_told_what_a_response_costs() {
    let plugins = "- type: request-attribute-reporter
  parameters:
    attributes:
    - key: {name: x-gateway-inference-request-cost}
      expression: usage.prompt_tokens + 2.0 * usage.completion_tokens
      condition: has(usage.completion_tokens)
- type: random-picker";
    let config = config(plugins, &["random-picker"], "");
    let program = Program::start(&config, &["127.0.0.1:29202".parse().unwrap()], &[]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let mut answer = gateway.post(CHAT, &[], &body("hi")).await;
    let headers = [(":status", "200"), ("content-type", "application/json")];
    answer.exchange.send(response_headers(&headers, false)).await;
    let usage = br#"{"usage":{"prompt_tokens":30,"completion_tokens":6,"total_tokens":36}}"#;
    answer.exchange.send(response_body(usage, true)).await;
    answer.exchange.half_close();
    let replies = answer.exchange.rest().await;
    let cost = replies.iter().find_map(|r| lb_metadata(r, "x-gateway-inference-request-cost"));
    let Some(envoy_types::pb::google::protobuf::value::Kind::NumberValue(cost)) =
        cost.and_then(|value| value.kind)
    else {
        panic!("no cost in {replies:?}")
    };
    assert_eq!(cost, 42.0);
}

/// Endpoints of a file, whose labels say where they are.
struct Listed(tempfile::TempDir);

impl Listed {
    /// `name port labels`.
    fn new(endpoints: &[(&str, u16, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lines = endpoints.iter().map(|(name, port, labels)| {
            format!(
                "- {{name: {name}, address: 127.0.0.1, port: \"{port}\", labels: {{{labels}}}}}\n"
            )
        });
        let text = format!("endpoints:\n{}", lines.collect::<String>());
        std::fs::write(dir.path().join("endpoints.yaml"), text).unwrap();
        Self(dir)
    }

    fn plugin(&self) -> String {
        let path = self.0.path().join("endpoints.yaml");
        format!("- {{type: file-discovery, parameters: {{path: {}}}}}", path.display())
    }
}

const DISCOVERY: &str = "dataLayer: {discovery: {pluginRef: file-discovery}}";

/// A prefill endpoint on the host of the decode endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn stages_meet_on_one_host() {
    let label =
        |role: &str, host: &str| format!("llm-d.ai/role: {role}, kubernetes.io/hostname: {host}");
    let listed = Listed::new(&[
        ("p1", 29_211, &label("prefill", "h1")),
        ("p2", 29_212, &label("prefill", "h2")),
        ("d1", 29_221, &label("decode", "h1")),
        ("d2", 29_222, &label("decode", "h2")),
    ]);
    let config = format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
{}
- type: prefill-filter
- type: decode-filter
- type: topology-extractor
- type: topology-affinity-scorer
- type: always-disagg-pd-decider
- {{type: disagg-profile-handler, parameters: {{deciders: {{prefill: always-disagg-pd-decider}}}}}}
schedulingProfiles:
- {{name: prefill, plugins: [{{pluginRef: prefill-filter}}, {{pluginRef: topology-affinity-scorer}}]}}
- {{name: decode, plugins: [{{pluginRef: decode-filter}}]}}
{DISCOVERY}
",
        listed.plugin()
    );
    let program = Program::start_with(&config, &[EXPERIMENTAL.to_owned()]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let mut seen = BTreeMap::new();
    for _ in 0..30 {
        let answer = gateway.post(CHAT, &[], &body("hi")).await;
        let headers = set_headers(&answer.replies[0]);
        let prefill = headers.into_iter().find(|(k, _)| k == "x-prefiller-host-port").unwrap().1;
        *seen.entry((answer.destination(), prefill)).or_insert(0) += 1;
    }
    let pairs: Vec<_> = seen.keys().map(|(d, p)| (d.as_str(), p.as_str())).collect();
    let expected = [("127.0.0.1:29221", "127.0.0.1:29211"), ("127.0.0.1:29222", "127.0.0.1:29212")];
    assert_eq!(pairs, expected, "each of the two pairs, and no other");
}

/// The endpoint that holds a prompt which another one has to compute.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_told_where_to_pull_from() {
    let listed = Listed::new(&[("a", 29_231, "app: one"), ("b", 29_232, "app: other")]);
    let plugins = format!(
        "{}
- {{type: approx-prefix-cache-producer, parameters: {{autoTune: false, blockSizeTokens: 64}}}}
- {{type: p2p-source-producer, parameters: {{prefillProfileName: default}}}}
- {{type: header-label-affinity-scorer, parameters: {{headerName: x-app, labelKey: app}}}}",
        listed.plugin()
    );
    let config = config(&plugins, &["header-label-affinity-scorer"], DISCOVERY);
    let program = Program::start_with(&config, &[EXPERIMENTAL.to_owned()]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let prompt = body(&"a long prompt, ".repeat(100));
    let ask = |app: &'static str| {
        let (gateway, prompt) = (gateway.clone(), prompt.clone());
        async move {
            let spoof = ("x-kv-cache-source-host-port", "10.9.9.9:1");
            let answer = gateway.post(CHAT, &[("x-app", app), spoof], &prompt).await;
            let headers = set_headers(&answer.replies[0]);
            let source = headers.into_iter().find(|(k, _)| k == spoof.0).map(|(_, v)| v);
            (answer.destination(), source)
        }
    };
    let (a, b) = ("127.0.0.1:29231".to_owned(), "127.0.0.1:29232".to_owned());
    assert_eq!(ask("one").await, (a.clone(), None), "nobody has it yet");
    assert_eq!(ask("other").await, (b, Some(a.clone())));
    assert_eq!(ask("one").await, (a, None), "it has it itself");
}

/// Requests with one prompt that come at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_one_prompt_meets_at_one_endpoint() {
    let plugins = "- {type: burst-prefix-cache-producer, parameters: {windowDurationMs: 500}}
- type: prefix-cache-scorer
  parameters: {prefixMatchInfoProducerName: burst-prefix-cache-producer}";
    let config = config(plugins, &["prefix-cache-scorer"], "");
    let endpoints: Vec<SocketAddr> =
        (0..4).map(|n| SocketAddr::from(([127, 0, 0, 1], 29_241 + n))).collect();
    let program = Program::start(&config, &endpoints, &[EXPERIMENTAL]);
    let gateway = Gateway::connect(program.grpc_port).await;
    let prompts: Vec<Vec<u8>> =
        (0..4).map(|n| body(&format!("prompt number {n}, ").repeat(100))).collect();
    let requests = (0..24).map(|n| {
        let (gateway, prompt) = (gateway.clone(), prompts[n % 4].clone());
        tokio::spawn(async move { gateway.post(CHAT, &[], &prompt).await.destination() })
    });
    let mut at: [Vec<String>; 4] = Default::default();
    for (n, request) in requests.collect::<Vec<_>>().into_iter().enumerate() {
        at[n % 4].push(request.await.unwrap());
    }
    let mut taken = Vec::new();
    for destinations in at {
        assert!(destinations.iter().all(|d| *d == destinations[0]), "{destinations:?}");
        taken.push(destinations[0].clone());
    }
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 4, "each prompt has an endpoint of its own");
}

/// Two revisions, one of which lacks a role.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_keeps_requests_on_whole_revisions() {
    let label = |revision: &str, role: &str| {
        format!(
            "set: s, disaggregatedset.x-k8s.io/revision: {revision}, \
             disaggregatedset.x-k8s.io/role: {role}, llm-d.ai/role: {role}"
        )
    };
    let listed = Listed::new(&[
        ("p1", 29_251, &label("old", "prefill")),
        ("d1", 29_252, &label("old", "decode")),
        ("d2", 29_253, &label("new", "decode")),
    ]);
    let plugins = format!(
        "{}
- type: decode-filter
- type: disaggregatedset-rollout-screener
  parameters:
    scope: {{labelSelector: set=s}}
    headerSelectors:
    - {{name: revision, headerName: x-disagg-revision, labelKey: disaggregatedset.x-k8s.io/revision, mode: strict}}
    revisionGating: {{mode: max-role, requireRoles: {{values: [prefill, decode]}}}}
- {{type: k8s-notification-source, parameters: {{version: v1, kind: Pod}}}}",
        listed.plugin()
    );
    let sources = "dataLayer:
  discovery: {pluginRef: file-discovery}
  sources:
  - pluginRef: k8s-notification-source
    extractors: [{pluginRef: disaggregatedset-rollout-screener}]";
    let config = config(&plugins, &["decode-filter"], sources);
    let program = Program::start_with(&config, &[EXPERIMENTAL.to_owned()]);
    let gateway = Gateway::connect(program.grpc_port).await;
    for _ in 0..10 {
        assert_eq!(destination(&gateway).await, "127.0.0.1:29252");
    }
    let asked = [("x-disagg-revision", "new")];
    let (status, ..) = gateway.post(CHAT, &asked, &body("hi")).await.error();
    assert_eq!(status, 503, "it is not complete");
    let mut answer = gateway.post(CHAT, &[], &body("hi")).await;
    answer.exchange.send(response_headers(&[(":status", "200")], true)).await;
    let reply = answer.exchange.next().await.unwrap().unwrap();
    let told = set_headers(&reply).into_iter().find(|(k, _)| k == "x-disagg-revision");
    assert_eq!(told.map(|(_, v)| v).as_deref(), Some("old"));
}
