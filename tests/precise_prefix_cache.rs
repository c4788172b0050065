//! Picks by what engines say they hold: publishers of another implementation, a configuration as
//! it is loaded, and the scheduler.

#[path = "support/runtime.rs"]
mod runtime;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use epp::clock;
use epp::endpoints::{EndpointSpec, Pool};
use epp::exchange::{Ending, Kept, Outcome, Response, Times};
use epp::kv_sockets::Sockets;
use epp::loader::{LoadOptions, Pipeline, load};
use epp::plugins::Outside;
use epp::redis_quota::RedisCounters;
use epp::rendering::RenderClient;
use epp::scheduling::{
    Ask, Candidate, Decision, DecisionOptions, InferenceRequest, PromptBuilder, RequestData,
    Runtime, TokenUsage,
};
use rmpv::Value;
use runtime::Tokio;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

const PATIENCE: Duration = Duration::from_secs(30);

/// An engine that publishes and does nothing else.
struct Engine {
    socket: PubSocket,
    number: u64,
}

impl Engine {
    async fn start(address: &str) -> (Self, u16) {
        let mut socket = PubSocket::new();
        let bound = socket.bind(&format!("tcp://{address}")).await.unwrap().to_string();
        let port = bound.rsplit_once(':').unwrap().1.parse().unwrap();
        (Self { socket, number: 0 }, port)
    }

    /// Says that it holds these blocks of `size` tokens, which begin a prompt.
    async fn holds(&mut self, tokens: &[u32], size: usize) {
        let list = |values: &[u32]| Value::Array(values.iter().map(|&v| v.into()).collect());
        let names: Vec<Value> = tokens
            .chunks(size)
            .enumerate()
            .map(|(i, block)| Value::from(u64::from(block[0]) << 32 | (i as u64 + 1)))
            .collect();
        let event = Value::Map(vec![
            ("type".into(), "BlockStored".into()),
            ("block_hashes".into(), Value::Array(names)),
            ("parent_block_hash".into(), Value::Nil),
            ("token_ids".into(), list(tokens)),
            ("block_size".into(), size.into()),
            ("medium".into(), "GPU".into()),
        ]);
        self.publish(vec![event]).await;
    }

    async fn publish(&mut self, events: Vec<Value>) {
        let mut payload = Vec::new();
        let batch = Value::Array(vec![1.5.into(), Value::Array(events), 0.into()]);
        rmpv::encode::write_value(&mut payload, &batch).unwrap();
        let number = Bytes::copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        let parts = vec![Bytes::from_static(b"kv@x@m"), number, payload.into()];
        self.socket.send(ZmqMessage::try_from(parts).unwrap()).await.unwrap();
    }
}

/// A configuration at work on two endpoints, 127.0.0.1 and 127.0.0.2.
struct Picker {
    pool: Arc<Pool>,
    pipeline: Pipeline,
    rng: RefCell<fastrand::Rng>,
}

impl Picker {
    fn start(plugins: &str, scorer: &str) -> Self {
        let pool = Arc::new(Pool::new());
        let yaml = format!(
            "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n{plugins}\
             schedulingProfiles:\n- name: default\n  plugins:\n  - {{pluginRef: {scorer}, weight: 1}}\n"
        );
        let (pipeline, diagnostics) =
            load("test", Some(&yaml), &LoadOptions::default(), pool.ids());
        let pipeline = pipeline.unwrap_or_else(|| panic!("{yaml}\n{diagnostics}"));
        let spec = |n: u8| EndpointSpec {
            placement: Default::default(),
            namespace: "default".into(),
            name: format!("w{n}"),
            pod_name: format!("w{n}"),
            ip: [127, 0, 0, n].into(),
            port: 8000,
            rank: 0,
            uid: String::new(),
            labels: Default::default(),
        };
        pool.replace(vec![spec(1), spec(2)]);
        let runtime: Arc<dyn Runtime> = Arc::new(Tokio);
        let outside = Outside {
            events: Arc::new(Sockets::default()),
            renderer: Arc::new(RenderClient::default()),
            quotas: Arc::new(RedisCounters),
        };
        pipeline.hooks.reaching.iter().for_each(|plugin| plugin.reach(&outside));
        pipeline.hooks.lifecycles.iter().for_each(|plugin| plugin.start(&pool, &runtime));
        Self { pool, pipeline, rng: RefCell::new(fastrand::Rng::with_seed(7)) }
    }

    fn decide(&self, request: &InferenceRequest) -> Decision {
        let snapshot = self.pool.snapshot();
        let candidates: Vec<Candidate<'_>> =
            snapshot.endpoints.iter().map(Candidate::new).collect();
        let ask = Ask {
            request,
            candidates: &candidates,
            data: RequestData::default(),
            now: clock::now(),
            rng: &self.rng,
            options: DecisionOptions { scores: true, ..DecisionOptions::default() },
        };
        self.pipeline.scheduler.schedule(ask).unwrap()
    }

    fn scores(&self, request: &InferenceRequest) -> Vec<f64> {
        self.decide(request).scores.iter().map(|(_, score)| *score).collect()
    }

    async fn scores_become(&self, request: &InferenceRequest, expected: &[f64]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let scores = self.scores(request);
            if scores == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{scores:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn state(&self, name: &str) -> serde_json::Value {
        let states = &self.pipeline.hooks.debug_states;
        states.iter().find(|(n, _)| n == name).unwrap().1.debug_state()
    }
}

/// A request that gives its prompt as token ids.
fn request(ids: &[u32]) -> InferenceRequest {
    let mut prompt = PromptBuilder::new(Bytes::new());
    prompt.tokens(ids.iter().copied());
    InferenceRequest {
        id: format!("{ids:?}"),
        target_model: "m".into(),
        incoming_model: "m".into(),
        prompt: prompt.finish(),
        ..Default::default()
    }
}

fn ids(from: u32, count: usize) -> Vec<u32> {
    (from..from + count as u32).collect()
}

fn producer(port: u16, more: &str) -> String {
    format!(
        "- type: precise-prefix-cache-producer\n  parameters:\n    \
         tokenProcessorConfig: {{blockSizeTokens: 16}}\n    \
         kvEventsConfig: {{podDiscoveryConfig: {{socketPort: {port}}}}}\n    {more}\n\
         - type: prefix-cache-scorer\n  parameters:\n    \
         prefixMatchInfoProducerName: precise-prefix-cache-producer\n"
    )
}

async fn engines() -> (Engine, Engine, u16) {
    let (one, port) = Engine::start("127.0.0.1:0").await;
    let (other, _) = Engine::start(&format!("127.0.0.2:{port}")).await;
    (one, other, port)
}

/// Says it again and again until it is heard: subscribers hear nothing that was said before.
async fn until_heard(picker: &Picker, plugin: &str, engines: &mut [(&mut Engine, &[u32])]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = picker.state(plugin);
        let heard = state["endpoints"].as_object().is_some_and(|endpoints| {
            endpoints.values().filter(|e| e["reliedUpon"] == true).count() == engines.len()
        });
        if heard {
            return;
        }
        assert!(Instant::now() < deadline, "{state:#}");
        for (engine, tokens) in engines.iter_mut() {
            engine.holds(tokens, 4).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn endpoints_are_scored_by_what_their_engines_hold() {
    let (mut one, mut other, port) = engines().await;
    let picker = Picker::start(&producer(port, ""), "prefix-cache-scorer");
    let prompt = ids(1, 16);
    until_heard(
        &picker,
        "precise-prefix-cache-producer",
        &mut [(&mut one, &prompt[..4]), (&mut other, &prompt[..12])],
    )
    .await;
    picker.scores_become(&request(&prompt), &[0.25, 0.75]).await;
    // Whole blocks only, of the engine's size.
    picker.scores_become(&request(&ids(1, 11)), &[0.5, 1.0]).await;
    picker.scores_become(&request(&ids(100, 8)), &[0.0, 0.0]).await;
    one.publish(vec![Value::Map(vec![("type".into(), "AllBlocksCleared".into())])]).await;
    picker.scores_become(&request(&prompt), &[0.0, 0.75]).await;
    let state = picker.state("precise-prefix-cache-producer");
    assert_eq!(state["endpoints"]["default/w2"]["blocks"], 3);
    assert_eq!(state["endpoints"]["default/w2"]["blockSize"], 4);
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_is_estimated() {
    let (mut one, port) = Engine::start("127.0.0.1:0").await;
    let picker = Picker::start(&producer(port, ""), "prefix-cache-scorer");
    let prompt = ids(1, 160);
    // Before anybody has said anything, our own picks count.
    let first = picker.decide(&request(&prompt)).target().unwrap().clone();
    let index = usize::from(&*first.id == "default/w2");
    let mut expected = [0.0, 0.0];
    expected[index] = 1.0;
    assert_eq!(picker.scores(&request(&prompt)), expected);
    // The first endpoint's engine speaks; the second one's is not there.
    let held = &prompt[..80];
    until_heard(&picker, "precise-prefix-cache-producer", &mut [(&mut one, held)]).await;
    expected[0] = 0.5;
    picker.scores_become(&request(&prompt), &expected).await;
}

#[tokio::test]
async fn what_was_sent_counts_until_it_is_said_to_be_there() {
    let (mut one, mut other, port) = engines().await;
    let more = "speculativeIndexing: true\n    speculativeTTL: 60s";
    let picker = Picker::start(&producer(port, more), "prefix-cache-scorer");
    let some = ids(1000, 4);
    until_heard(
        &picker,
        "precise-prefix-cache-producer",
        &mut [(&mut one, &some[..]), (&mut other, &some[..])],
    )
    .await;
    let prompt = request(&ids(1, 16));
    let target = picker.decide(&prompt).target().unwrap().clone();
    let mut expected = [0.0, 0.0];
    expected[usize::from(&*target.id == "default/w2")] = 1.0;
    assert_eq!(picker.scores(&prompt), expected);
}

#[tokio::test]
async fn tiers_have_weights() {
    let (mut one, mut other, port) = engines().await;
    let more = "indexerConfig: {kvCacheBackendConfigs: [{name: cpu, weight: 0.5}]}";
    let picker = Picker::start(&producer(port, more), "prefix-cache-scorer");
    let prompt = ids(1, 16);
    until_heard(
        &picker,
        "precise-prefix-cache-producer",
        &mut [(&mut one, &prompt[..]), (&mut other, &prompt[..])],
    )
    .await;
    let name = |i: u64| Value::from(u64::from(prompt[i as usize * 4]) << 32 | (i + 1));
    let event = |kind: &str, medium: &str| {
        Value::Map(vec![
            ("type".into(), kind.into()),
            ("block_hashes".into(), Value::Array(vec![name(2), name(3)])),
            ("parent_block_hash".into(), Value::Nil),
            ("token_ids".into(), Value::Array(Vec::new())),
            ("block_size".into(), 0.into()),
            ("medium".into(), medium.into()),
        ])
    };
    other.publish(vec![event("BlockStored", "CPU")]).await;
    // Every announcement of a block is a copy.
    let copies = other.number;
    for _ in 0..copies {
        other.publish(vec![event("BlockRemoved", "GPU")]).await;
    }
    picker.scores_become(&request(&prompt), &[1.0, 0.75]).await;
}

#[tokio::test]
async fn hits_that_do_not_come_true_are_noticed() {
    let (mut one, mut other, port) = engines().await;
    let picker = Picker::start(&producer(port, ""), "prefix-cache-scorer");
    let prompt = ids(1, 400);
    until_heard(
        &picker,
        "precise-prefix-cache-producer",
        &mut [(&mut one, &prompt[..]), (&mut other, &prompt[..])],
    )
    .await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The engines go on speaking, or they would be taken to be silent.
        one.publish(Vec::new()).await;
        other.publish(Vec::new()).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        end_without_a_hit(&picker, &request(&prompt));
        let state = picker.state("precise-prefix-cache-producer");
        let endpoints = state["endpoints"].as_object().unwrap();
        if endpoints.values().any(|e| e["trouble"] == "overstated" && e["reliedUpon"] == false) {
            break;
        }
        assert!(Instant::now() < deadline, "{state:#}");
    }
}

/// The request goes where it is sent, and its answer says that nothing of it was cached.
fn end_without_a_hit(picker: &Picker, request: &InferenceRequest) {
    let decision = picker.decide(request);
    let usage = TokenUsage { prompt: 400, completion: 1, cached: Some(0) };
    let response = Response { status: Some(200), usage: Some(usage), ..Default::default() };
    let outcome = Outcome {
        request,
        has_body: true,
        endpoint: decision.target(),
        decision: Some(&decision),
        refusal: None,
        rewritten_by: None,
        times: Times::default(),
        response: &response,
        ending: Ending::Complete,
        kept: &Kept::default(),
    };
    picker.pipeline.hooks.outcomes.iter().for_each(|listener| listener.ended(&outcome));
}

#[tokio::test]
async fn scorers_of_older_kinds_follow_the_engines_themselves() {
    let (mut one, mut other, port) = engines().await;
    let events = format!("kvEventsConfig: {{podDiscoveryConfig: {{socketPort: {port}}}}}");
    let prompt = ids(1, 16);
    let cases: [(&str, &str, &[f64]); 2] = [
        ("precise-prefix-cache-scorer", "", &[0.25, 0.75]),
        // The least and the most of those that hold anything.
        ("prefix-cache-scorer", "mode: cache_tracking", &[0.0, 1.0]),
    ];
    for (kind, more, scores) in cases {
        let plugins = format!("- type: {kind}\n  parameters:\n    {events}\n    {more}\n");
        let picker = Picker::start(&plugins, kind);
        until_heard(&picker, kind, &mut [(&mut one, &prompt[..4]), (&mut other, &prompt[..12])])
            .await;
        picker.scores_become(&request(&prompt), scores).await;
    }
}

/// The scorer is a name for another one where there is a producer; it brings none of its own then.
#[tokio::test]
async fn the_newer_scorer_reads_the_producer_there_is() {
    let (_one, port) = Engine::start("127.0.0.1:0").await;
    let plugins = producer(port, "") + "- type: precise-prefix-cache-scorer\n";
    let picker = Picker::start(&plugins, "precise-prefix-cache-scorer");
    let states: Vec<&str> =
        picker.pipeline.hooks.debug_states.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(states, ["precise-prefix-cache-producer"]);
}
