//! KV-cache events of an engine, published by an implementation that is not ours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rmpv::Value;
use tokio::sync::Mutex;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

use crate::run::{arguments, doctor, file};
use crate::support::eventually;
use crate::support::program::Program;
use crate::workers::serve;

/// How an engine's events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// What it computed, in blocks of its size.
    Truth,
    Nothing,
    /// Blocks of another prompt.
    Another,
    /// Blocks of twice the size that its metrics tell.
    Larger,
    /// The truth, under a topic of its own.
    UnderTopic,
    /// What is no batch.
    Garbage,
}

const METRICS: &str = "vllm:num_requests_waiting 0\nvllm:num_requests_running 0\n\
    vllm:kv_cache_usage_perc 0\n\
    vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1000\",enable_prefix_caching=\"True\"} 1\n";

struct Publisher {
    socket: PubSocket,
    number: u64,
    says: Says,
}

impl Publisher {
    async fn computed(&mut self, tokens: &[u32]) {
        let (block, shift) = match self.says {
            Says::Nothing => return,
            Says::Truth | Says::UnderTopic | Says::Garbage => (16, 0),
            Says::Another => (16, 1),
            Says::Larger => (32, 0),
        };
        let tokens: Vec<u32> = tokens.iter().map(|token| token + shift).collect();
        let whole = tokens.len() / block * block;
        let names: Vec<Value> = (0..whole / block)
            .map(|i| Value::from(u64::from(tokens[i * block]) << 32 | (i as u64 + 1)))
            .collect();
        let event = Value::Map(vec![
            ("type".into(), "BlockStored".into()),
            ("block_hashes".into(), Value::Array(names)),
            ("parent_block_hash".into(), Value::Nil),
            ("token_ids".into(), tokens[..whole].iter().map(|&t| Value::from(t)).collect()),
            ("block_size".into(), block.into()),
            ("medium".into(), "GPU".into()),
        ]);
        let batch = Value::Array(vec![1.5.into(), Value::Array(vec![event]), 0.into()]);
        let mut payload = Vec::new();
        rmpv::encode::write_value(&mut payload, &batch).unwrap();
        if self.says == Says::Garbage {
            payload = b"no batch".to_vec();
        }
        let topic: &'static [u8] =
            if self.says == Says::UnderTopic { b"mine" } else { b"kv@127.0.0.1@m" };
        let number = Bytes::copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        let parts = vec![Bytes::from_static(topic), number, payload.into()];
        self.socket.send(ZmqMessage::try_from(parts).unwrap()).await.unwrap();
    }
}

/// An engine that publishes what it computes; its address and the port of its events.
async fn engine(says: Says) -> (SocketAddr, u16) {
    let mut socket = PubSocket::new();
    let bound = socket.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
    let port = bound.rsplit_once(':').unwrap().1.parse().unwrap();
    (serving(Arc::new(Mutex::new(Publisher { socket, number: 0, says }))).await, port)
}

/// An engine that connects to whoever listens at `port`, as soon as somebody does.
async fn connecting_engine(port: u16) -> SocketAddr {
    let publisher = Publisher { socket: PubSocket::new(), number: 0, says: Says::Truth };
    let publisher = Arc::new(Mutex::new(publisher));
    let mut own = publisher.clone().lock_owned().await;
    tokio::spawn(async move {
        while own.socket.connect(&format!("tcp://127.0.0.1:{port}")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    serving(publisher).await
}

async fn serving(publisher: Arc<Mutex<Publisher>>) -> SocketAddr {
    let seen = Arc::new(Mutex::new(Vec::<Vec<u32>>::new()));
    serve(move |stream| {
        let (publisher, seen) = (publisher.clone(), seen.clone());
        async move {
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (publisher, seen) = (publisher.clone(), seen.clone());
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    let text = match path.as_str() {
                        "/metrics" => METRICS.to_owned(),
                        "/v1/models" => r#"{"data":[{"id":"m"}]}"#.to_owned(),
                        _ => completion(&body, &publisher, &seen).await,
                    };
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(text))))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        }
    })
    .await
}

async fn completion(
    body: &[u8],
    publisher: &Arc<Mutex<Publisher>>,
    seen: &Mutex<Vec<Vec<u32>>>,
) -> String {
    #[derive(serde::Deserialize)]
    struct Asked {
        prompt: Vec<u32>,
    }
    let Asked { prompt } = serde_json::from_slice(body).expect("token ids");
    let mut seen = seen.lock().await;
    let cached = if seen.contains(&prompt) { prompt.len() - 16 } else { 0 };
    if cached == 0 {
        let (publisher, prompt) = (publisher.clone(), prompt.clone());
        // Again and again, for a subscriber whose subscription is still on its way.
        tokio::spawn(async move {
            for _ in 0..40 {
                publisher.lock().await.computed(&prompt).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    if cached == 0 {
        seen.push(prompt.clone());
    }
    format!(
        r#"{{"usage":{{"prompt_tokens":{},"prompt_tokens_details":{{"cached_tokens":{cached}}}}}}}"#,
        prompt.len()
    )
}

fn config(port: u16) -> String {
    format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n\
         - type: precise-prefix-cache-producer\n  parameters:\n    \
         tokenProcessorConfig: {{blockSizeTokens: 16}}\n    \
         kvEventsConfig: {{podDiscoveryConfig: {{socketPort: {port}}}}}\n\
         - type: prefix-cache-scorer\n  parameters: {{prefixMatchInfoProducerName: \
         precise-prefix-cache-producer}}\n\
         schedulingProfiles:\n- name: default\n  plugins: [{{pluginRef: prefix-cache-scorer}}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_and_the_probe_is_found_by_them() {
    let directory = tempfile::tempdir().expect("a folder");
    // What the engine says, flags, and the finding: severity, check, part of what, of the change.
    type Case<'a> = (Says, &'a [&'a str], &'a str, &'a str, &'a str, &'a str);
    let cases: [Case<'_>; 7] = [
        (Says::Truth, &["--probe"], "ok", "events-blocks", "512 of the 512 tokens", ""),
        (Says::Truth, &[], "ok", "events-port", "--probe makes it speak", ""),
        (
            Says::Nothing,
            &["--probe"],
            "problem",
            "events-silent",
            "published nothing of it",
            "enable_kv_cache_events",
        ),
        (
            Says::Another,
            &["--probe"],
            "problem",
            "events-blocks",
            "nothing of the prompt",
            "data-parallel rank",
        ),
        (
            Says::Larger,
            &["--probe"],
            "problem",
            "events-block-size",
            "blocks of 32 tokens",
            "blockSizeTokens: 32",
        ),
        (Says::UnderTopic, &["--probe"], "note", "events-topic", "under 'mine'", "kv@POD@MODEL"),
        (Says::Garbage, &["--probe"], "problem", "events-format", "cannot be read", "port"),
    ];
    for (says, flags, severity, check, what, change) in cases {
        let (address, port) = engine(says).await;
        let file = file(directory.path(), "c.yaml", &config(port));
        let mut arguments =
            vec![format!("--endpoints={address}"), format!("--config-file={}", file.display())];
        arguments.extend(flags.iter().map(ToString::to_string));
        let found = doctor(&arguments).await;
        let case = format!("{says:?} {flags:?}");
        assert!(
            found.has(severity, check, &address.to_string(), what, change),
            "{case}: {:#}",
            found.report
        );
        let code = if severity == "problem" { 1 } else { 0 };
        assert_eq!(found.code, Some(code), "{case}: {:#}", found.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_nobody_publishes_is_said() {
    let directory = tempfile::tempdir().expect("a folder");
    let (address, _) = engine(Says::Truth).await;
    // Nobody there, and somebody who speaks something else.
    for (port, what) in
        [(crate::workers::nobody().port(), "refused"), (address.port(), "publishes no KV events")]
    {
        let file = file(directory.path(), "c.yaml", &config(port));
        let flags = [
            format!("--endpoints={address}"),
            format!("--config-file={}", file.display()),
            "--only=events".to_owned(),
        ];
        let found = doctor(&flags).await;
        assert_eq!(found.code, Some(1), "{:#}", found.report);
        found.must_have("problem", "events-port", &address.to_string(), what, "--kv-events-config");
    }
}

/// The configuration of an `epp` that engines connect to.
fn listening(port: u16) -> String {
    config(1).replace(
        "podDiscoveryConfig: {socketPort: 1}",
        &format!("zmqEndpoint: \"tcp://127.0.0.1:{port}\", topicFilter: \"kv@\""),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_connect_are_waited_for() {
    let directory = tempfile::tempdir().expect("a folder");
    let port = crate::workers::nobody().port();
    let file = file(directory.path(), "c.yaml", &listening(port));
    let flags = |address: SocketAddr, more: &[&str]| {
        let all = [format!("--endpoints={address}"), format!("--config-file={}", file.display())];
        [&all[..], &arguments(more)].concat()
    };
    let (idle, _) = engine(Says::Truth).await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let found = doctor(&flags(idle, &[])).await;
    found.must_have("note", "events-port", "", "nobody can be waited for", "--admin");
    drop(taken);
    // Without a prompt it is not known whether anybody would come.
    let found = doctor(&flags(idle, &[])).await;
    found.is_well();
    found.must_have("note", "events-port", &idle.to_string(), "was not heard", "--probe");
    // This one publishes elsewhere.
    let found = doctor(&flags(idle, &["--probe"])).await;
    found.must_have("problem", "events-silent", &idle.to_string(), "published nothing", "");
    let address = connecting_engine(port).await;
    let found = doctor(&flags(address, &["--probe"])).await;
    found.is_well();
    found.must_have("ok", "events-blocks", &address.to_string(), "512 of the 512 tokens", "");
}

/// What a running `epp` cannot rely upon it says itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_epp_says_whose_events_it_does_not_rely_upon() {
    let (address, _) = engine(Says::Truth).await;
    let port = crate::workers::nobody().port();
    let program = Program::start(&config(port), &[address], &[]);
    let page = format!("http://127.0.0.1:{}/debug/plugins", program.metrics_port);
    eventually("it is in trouble", || async {
        let plugins: serde_json::Value = reqwest::get(&page).await.ok()?.json().await.ok()?;
        let endpoints = &plugins["precise-prefix-cache-producer"]["endpoints"];
        let trouble = endpoints.as_object()?.values().next()?["trouble"].as_str()?;
        (trouble == "not_connected").then_some(())
    })
    .await;
    let flags =
        [format!("--admin=http://127.0.0.1:{}", program.metrics_port), "--only=running".to_owned()];
    let found = doctor(&flags).await;
    found.must_have("problem", "events", &address.to_string(), "not_connected", "socketPort");
}
