//! Pickers replaced one by one behind a real Envoy, under load: no request fails.
#![cfg(feature = "sim")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::api_server::{ApiServer, free_port, shared};
use crate::cluster::{Cluster, eventually};
use crate::program::{becomes_ready, start};
use crate::support::envoy::{self, Envoy};
use crate::support::process::Process;
use crate::support::program::Program;

/// A pool of one simulated worker.
async fn one_worker(server: &ApiServer) -> (Cluster, Process) {
    let cluster = Cluster::new(server).await;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_epp-sim"));
    let worker = Process::start("epp-sim", command.args(["--port", "0", "--model", "m"]));
    let address: SocketAddr = worker.wait_for("its address", |line| {
        line.split_once("listening on http://")?.1.trim().parse().ok()
    });
    cluster.pool_v1("pool", "vllm", &[address.port()]).await;
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    (cluster, worker)
}

/// Clients that send one request after the other; each has to be answered, whole.
struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<u32>>,
}

impl Clients {
    fn start(envoy: &Envoy) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..4)
            .map(|client| {
                let (stop, url) = (stop.clone(), format!("{}/v1/completions", envoy.url));
                tokio::spawn(async move {
                    let http = reqwest::Client::new();
                    let body = json!({
                        "model": "m", "prompt": "Once upon a time", "max_tokens": 4 << client,
                        "stream": client % 2 == 0,
                    });
                    let mut answered = 0_u32;
                    while !stop.load(Ordering::Relaxed) {
                        let reply = http.post(&url).json(&body).send().await.expect("an answer");
                        let status = reply.status();
                        let text = reply.text().await.expect("the whole answer");
                        assert!(status.is_success(), "after {answered}: {status}: {text}");
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        Self { stop, tasks }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            assert!(task.await.expect("every request succeeded") > 0);
        }
    }
}

/// A gateway that knows both replicas by address and asks for their health: it learns of the drain
/// by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_gateway_that_checks_health() {
    let Some(binary) = envoy::binary() else { return };
    let Some(server) = shared().await else { return };
    let (cluster, _worker) = one_worker(server).await;
    let replica = |port: u16| {
        let flags = ["--secure-serving=true", "--drain-timeout=5s", &format!("--grpc-port={port}")];
        start(server, &cluster, "pool", &flags)
    };
    let ports = [free_port(), free_port()];
    let mut replicas = ports.map(replica);
    for replica in &replicas {
        becomes_ready(replica).await;
    }
    // As in deployments, but with both replicas known by address, and asked for their health
    // often: Envoy itself stands for the Service here.
    let envoy = Envoy::start(binary, ports[0], |yaml| {
        let endpoint = |port| {
            format!(
                "- endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}"
            )
        };
        let both = format!("{}\n        {}", endpoint(ports[0]), endpoint(ports[1]));
        let edited = yaml
            .replace(&endpoint(ports[0]), &both)
            .replace("interval: 10s", "interval: 0.2s\n      no_traffic_interval: 0.2s")
            .replace("unhealthy_threshold: 3", "unhealthy_threshold: 1")
            .replace("healthy_threshold: 2", "healthy_threshold: 1");
        assert!(edited.contains(&both) && edited.contains("interval: 0.2s"), "{edited}");
        edited
    })
    .await;
    let seen_healthy = async |port: u16| {
        let url = format!("{}/clusters", envoy.admin);
        eventually("Envoy sees the replica", async || {
            let text = reqwest::get(&url).await.expect("an answer").text().await.expect("text");
            text.contains(&format!("epp::127.0.0.1:{port}::health_flags::healthy"))
        })
        .await;
    };
    for port in ports {
        seen_healthy(port).await;
    }

    let clients = Clients::start(&envoy);
    for (at, port) in ports.into_iter().enumerate() {
        replicas[at].process.signal("TERM");
        let (code, output) = tokio::task::block_in_place(|| replicas[at].process.wait());
        assert_eq!(code, Some(0), "{output}");
        replicas[at] = replica(port);
        becomes_ready(&replicas[at]).await;
        seen_healthy(port).await;
    }
    clients.end().await;
}

/// What a ClusterIP is to a gateway: new connections go to a replica that is ready, and those that
/// are there stay where they are.
struct Service {
    port: u16,
    target: Arc<AtomicU16>,
    _accepting: AbortOnDropHandle<()>,
}

impl Service {
    async fn start(target: &Program) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let target = Arc::new(AtomicU16::new(target.grpc_port));
        let now = target.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let port = now.load(Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut replica = TcpStream::connect(("127.0.0.1", port)).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut replica).await
                });
            }
        });
        Self { port, target, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

/// As with KServe's scheduler: the gateway knows a Service and checks nobody's health, there is
/// no preStop hook, and the kubelet's patience ends with the drain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_service_with_no_time_to_spare() {
    let Some(binary) = envoy::binary() else { return };
    let Some(server) = shared().await else { return };
    let (cluster, _worker) = one_worker(server).await;
    let grace = Duration::from_secs(6);
    let replica = || {
        let drain = format!("--drain-timeout={}s", grace.as_secs());
        start(server, &cluster, "pool", &["--secure-serving=true", &drain])
    };
    let mut serving = replica();
    becomes_ready(&serving).await;
    let service = Service::start(&serving).await;
    let envoy = Envoy::start(binary, service.port, |yaml| {
        let (before, checks) = yaml.split_once("    health_checks:\n").expect("health checks");
        let (_, after) = checks.split_once("    load_assignment:\n").expect("a load assignment");
        format!("{before}    load_assignment:\n{after}")
    })
    .await;
    let clients = Clients::start(&envoy);
    for _ in 0..2 {
        let next = replica();
        becomes_ready(&next).await;
        service.target.store(next.grpc_port, Ordering::Relaxed);
        let leaving = std::mem::replace(&mut serving, next);
        leaving.process.signal("TERM");
        tokio::time::sleep(grace).await;
        // Dropping kills it.
        drop(leaving);
    }
    clients.end().await;
}
