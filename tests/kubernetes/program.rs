//! The whole program against the API server: what a gateway and a kubelet see of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::api_server::{ApiServer, shared};
use crate::cluster::{Cluster, eventually};
use crate::support::client::Gateway;
use crate::support::program::{Program, TUTORIAL};

/// Starts `epp` as a user of the API server who may do everything.
pub fn start(server: &ApiServer, cluster: &Cluster, pool: &str, more: &[&str]) -> Program {
    let mut arguments = vec![
        format!("--kubeconfig={}", server.kubeconfig("admin").display()),
        format!("--pool-name={pool}"),
        format!("--pool-namespace={}", cluster.namespace),
    ];
    arguments.extend(more.iter().map(|a| (*a).to_owned()));
    Program::start_with(TUTORIAL, &arguments)
}

/// What a health check of `service` says.
async fn health(program: &Program, service: &str) -> ServingStatus {
    let address = format!("http://127.0.0.1:{}", program.health_port);
    let channel = Channel::from_shared(address).expect("an address").connect_lazy();
    let request = HealthCheckRequest { service: service.to_owned() };
    let reply = HealthClient::new(channel).check(request).await.expect("a reply");
    reply.into_inner().status()
}

pub async fn becomes_ready(program: &Program) {
    eventually("epp is ready", async || {
        health(program, "readiness").await == ServingStatus::Serving
    })
    .await;
}

async fn pick(gateway: &Gateway, model: &str, headers: &[(&str, &str)]) -> String {
    let body = json!({"model": model, "prompt": "Once upon a time"}).to_string();
    gateway.post("/v1/completions", headers, body.as_bytes()).await.destination()
}

/// Picks without a pause until told to stop; counts what was picked. Every pick has to succeed.
struct Load {
    stop: Arc<AtomicBool>,
    picking: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    fn start(gateway: Gateway) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let picking = tokio::spawn(async move {
            let mut picked = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                picked.push(pick(&gateway, "m", &[("x-gateway-inference-objective", "o")]).await);
            }
            picked
        });
        Self { stop, picking }
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.picking.await.expect("every pick succeeded")
    }
}

#[tokio::test]
async fn readiness_follows_the_pool() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    let epp = start(server, &cluster, "pool", &[]);
    epp.process.wait_for("the absence of the pool", |l| l.contains("is not there").then_some(()));
    assert_eq!(health(&epp, "readiness").await, ServingStatus::NotServing);
    assert_eq!(health(&epp, "inference-extension").await, ServingStatus::NotServing);
    // Restarting epp would not make the pool appear.
    assert_eq!(health(&epp, "liveness").await, ServingStatus::Serving);
    let gateway = Gateway::connect(epp.grpc_port).await;
    let refused = gateway.post("/v1/completions", &[], br#"{"model":"m","prompt":"x"}"#).await;
    assert_eq!(refused.error().0, 503);

    cluster.pool_v1("pool", "vllm", &[8000]).await;
    becomes_ready(&epp).await;
    assert_eq!(pick(&gateway, "m", &[]).await, "127.0.0.1:8000");
    cluster.delete("inference.networking.k8s.io/v1", "InferencePool", "pool").await;
    eventually("epp is not ready", async || {
        health(&epp, "readiness").await == ServingStatus::NotServing
    })
    .await;
}

/// A pool of gRPC workers, and parsers that read only HTTP: not ready, rather than wrong.
#[tokio::test]
async fn readiness_follows_the_protocol() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    let parsers = "requestHandler:\n  parsers:\n  - pluginRef: openai-parser\n";
    let arguments = [
        format!("--kubeconfig={}", server.kubeconfig("admin").display()),
        "--pool-name=pool".to_owned(),
        format!("--pool-namespace={}", cluster.namespace),
    ];
    let epp = Program::start_with(&format!("{TUTORIAL}{parsers}"), &arguments);
    becomes_ready(&epp).await;
    let h2c = json!({"spec": {"appProtocol": "kubernetes.io/h2c"}});
    let params = kube::api::PatchParams::default();
    let pools = cluster.api("inference.networking.k8s.io/v1", "InferencePool");
    let patched = pools.patch("pool", &params, &kube::api::Patch::Merge(&h2c)).await;
    patched.expect("accepted");
    eventually("epp is not ready", async || {
        health(&epp, "readiness").await == ServingStatus::NotServing
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objectives_and_rewrites_change_under_load() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    let epp = start(server, &cluster, "pool", &[]);
    becomes_ready(&epp).await;
    let gateway = Gateway::connect(epp.grpc_port).await;
    let load = Load::start(gateway.clone());
    let reference = json!({"name": "pool"});
    for round in 0..20 {
        cluster
            .apply(json!({
                "apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceObjective",
                "metadata": {"name": "o"}, "spec": {"priority": round, "poolRef": reference},
            }))
            .await;
        cluster
            .apply(json!({
                "apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite",
                "metadata": {"name": "r"}, "spec": {"poolRef": reference, "rules": [
                    {"targets": [{"modelRewrite": format!("m-{round}")}]}]},
            }))
            .await;
    }
    // The last word is what counts.
    eventually("the last rewrite is in force", async || {
        let body = br#"{"model":"m","prompt":"x"}"#;
        let reply = gateway.post("/v1/completions", &[], body).await;
        String::from_utf8_lossy(&reply.body()).contains(r#""m-19""#)
    })
    .await;
    let picked = load.end().await;
    assert!(!picked.is_empty() && picked.iter().all(|p| p == "127.0.0.1:8000"), "{picked:?}");
    let url = format!("http://127.0.0.1:{}/metrics", epp.metrics_port);
    eventually("the last priority is counted", async || {
        pick(&gateway, "m", &[("x-gateway-inference-objective", "o")]).await;
        let metrics = reqwest::get(&url).await.expect("metrics").text().await.expect("text");
        metrics.contains(r#"priority="19""#)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn picks_go_on_while_the_api_server_is_away() {
    let Some(mut server) = ApiServer::start().await else { return };
    server.install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/crds")).await;
    let cluster = Cluster::new(&server).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    cluster.ready_pod("a", "vllm", "127.0.0.1").await;
    let epp = start(&server, &cluster, "pool", &[]);
    becomes_ready(&epp).await;
    let gateway = Gateway::connect(epp.grpc_port).await;
    assert_eq!(pick(&gateway, "m", &[]).await, "127.0.0.1:8000");
    let load = Load::start(gateway);
    server.kill();
    epp.process.wait_for("the loss of the API server", |line| {
        line.contains("pods (v1): the API server failed").then_some(())
    });
    assert_eq!(health(&epp, "readiness").await, ServingStatus::Serving);
    server.resume().await;
    let picked = load.end().await;
    assert!(!picked.is_empty() && picked.iter().all(|p| p == "127.0.0.1:8000"), "{picked:?}");
    // And what changes after the return is seen.
    cluster.delete_pod("a").await;
    cluster.ready_pod("b", "vllm", "127.0.0.2").await;
    let gateway = Gateway::connect(epp.grpc_port).await;
    let body = br#"{"model":"m","prompt":"x"}"#;
    eventually("the new worker is picked", async || {
        let reply = gateway.post("/v1/completions", &[], body).await;
        let headers = crate::support::client::set_headers(&reply.replies[0]);
        headers.iter().any(|(_, value)| value == "127.0.0.2:8000")
    })
    .await;
}

/// With the reference's timings: the follower is warm, and leads once the lease of the dead
/// leader has run out, or at once when the leader leaves in order.
#[tokio::test]
async fn two_replicas_and_a_leader_that_dies() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    let replica = || {
        let flags = ["--ha-enable-leader-election", "--drain-timeout=1s"];
        start(server, &cluster, "pool", &flags)
    };
    let first = replica();
    becomes_ready(&first).await;
    let second = replica();
    // Follows the pool while another leads: it would pick, were it asked.
    let gateway = Gateway::connect(second.grpc_port).await;
    eventually("the follower is warm", async || {
        let body = br#"{"model":"m","prompt":"x"}"#;
        let reply = gateway.post("/v1/completions", &[], body).await;
        let headers = crate::support::client::set_headers(&reply.replies[0]);
        headers.iter().any(|(_, value)| value == "127.0.0.1:8000")
    })
    .await;
    for (service, first_says, second_says) in [
        ("liveness", ServingStatus::Serving, ServingStatus::Serving),
        ("readiness", ServingStatus::Serving, ServingStatus::NotServing),
        ("", ServingStatus::Serving, ServingStatus::NotServing),
        (
            "envoy.service.ext_proc.v3.ExternalProcessor",
            ServingStatus::Serving,
            ServingStatus::NotServing,
        ),
        ("anything", ServingStatus::ServiceUnknown, ServingStatus::ServiceUnknown),
    ] {
        assert_eq!(health(&first, service).await, first_says, "{service}");
        assert_eq!(health(&second, service).await, second_says, "{service}");
    }
    first.process.signal("KILL");
    becomes_ready(&second).await;

    let third = replica();
    assert_eq!(health(&third, "readiness").await, ServingStatus::NotServing);
    second.process.signal("TERM");
    becomes_ready(&third).await;
    tokio::time::timeout(Duration::from_secs(60), async {
        let mut second = second;
        assert_eq!(
            tokio::task::spawn_blocking(move || second.process.wait().0).await.ok(),
            Some(Some(0))
        );
    })
    .await
    .expect("the old leader ends");
}
