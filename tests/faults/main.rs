//! Four workers of which one falls ill, behind a real Envoy and the real `epp`, and eight clients
//! that ask all the time: what they lose.

mod clients;
mod table;
mod worker;

#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use clients::Clients;
use serde_json::Value;
use support::envoy::Envoy;
use support::eventually;
use support::program::Program;
use worker::{Mode, Worker};

/// The configuration of who gives none.
const DEFAULT: &str = include_str!("../../config/default.yaml");

/// Four workers, `epp`, Envoy and eight clients.
struct Cluster {
    clients: Clients,
    workers: Vec<Worker>,
    epp: Program,
    _envoy: Envoy,
}

impl Cluster {
    async fn start(envoy: PathBuf, config: &str, arguments: &[&str]) -> Self {
        let workers: Vec<Worker> = (0..4).map(|_| Worker::start()).collect();
        let addresses: Vec<SocketAddr> = workers.iter().map(|w| w.address).collect();
        let mut all = vec!["--secure-serving=true"];
        all.extend(arguments);
        let epp = Program::start(config, &addresses, &all);
        let envoy = Envoy::start(envoy, epp.grpc_port, |yaml| yaml).await;
        let clients = Clients::start(vec![envoy.url.clone()]);
        Self { clients, workers, epp, _envoy: envoy }
    }

    /// Waits until so many more requests have ended; how many of those sent meanwhile were lost.
    async fn lost_of(&self, count: usize) -> usize {
        let (begin, before) = (Instant::now(), self.clients.ended());
        eventually("requests to end", || async {
            (self.clients.ended() >= before + count).then_some(())
        })
        .await;
        self.clients.between(begin, Instant::now()).1
    }

    /// Waits until the first worker serves so many more requests.
    async fn serves(&self, count: u64) {
        let before = self.workers[0].requests();
        eventually("the worker to serve again", || async {
            (self.workers[0].requests() >= before + count).then_some(())
        })
        .await;
    }

    async fn page(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.epp.metrics_port);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// What the debug page says of the first worker's health.
    async fn health(&self) -> Value {
        let page: Value = serde_json::from_str(&self.page("/debug/endpoints").await).unwrap();
        let address = self.workers[0].address.to_string();
        let endpoints = page["endpoints"].as_array().unwrap();
        endpoints.iter().find(|e| e["address"] == address).unwrap()["health"].clone()
    }
}

/// Requests that may be lost of those of an ill worker: what eight clients had there, a run of
/// failures, and the few that try whether it is back.
const A_FEW: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed() {
    let Some(envoy) = support::envoy::binary() else { return };
    let mut cluster = Cluster::start(envoy, DEFAULT, &[]).await;
    cluster.serves(20).await;
    tokio::task::block_in_place(|| cluster.workers[0].kill());
    let lost = cluster.lost_of(500).await;
    assert!(lost <= A_FEW, "{lost} lost");
    let before = cluster.workers[0].requests();
    cluster.workers[0].revive();
    cluster.serves(50).await;
    assert!(cluster.workers[0].requests() > before);
    let lost = cluster.lost_of(300).await;
    assert_eq!(lost, 0, "it is back");
    for line in ["Endpoint ejected", "Endpoint is back"] {
        cluster.epp.process.wait_for(line, |text| text.contains(line).then_some(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_fails_at_once() {
    let Some(envoy) = support::envoy::binary() else { return };
    let cluster = Cluster::start(envoy, DEFAULT, &["--explain-decisions=100"]).await;
    cluster.serves(20).await;
    cluster.workers[0].set(Mode::FailsFast);
    let lost = cluster.lost_of(500).await;
    assert!(lost <= A_FEW, "{lost} lost");
    let health = cluster.health().await;
    assert_eq!(health["standing"], "ejected", "{health}");
    assert!(health["reason"].as_str().is_some_and(|r| r.contains("status 500")), "{health}");
    let decisions: Value = serde_json::from_str(&cluster.page("/debug/decisions").await).unwrap();
    let left_out = decisions["decisions"].as_array().unwrap().iter().find_map(|decision| {
        decision["explanation"]["health"]["leftOut"].as_array()?.first().cloned()
    });
    let address = cluster.workers[0].address.to_string();
    assert_eq!(left_out.unwrap()["endpoint"], address);
    let metrics = cluster.page("/metrics").await;
    assert!(metrics.contains("llm_d_epp_ejected_endpoints{name=\"epp\"} 1"), "{metrics}");
    cluster.workers[0].set(Mode::Well);
    cluster.serves(50).await;
    assert_eq!(cluster.lost_of(300).await, 0, "it is back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_hangs() {
    let Some(envoy) = support::envoy::binary() else { return };
    let cluster = Cluster::start(envoy, DEFAULT, &[]).await;
    cluster.serves(40).await;
    cluster.workers[0].set(Mode::Hangs);
    let lost = cluster.lost_of(500).await;
    assert!(lost <= A_FEW, "{lost} lost");
    let ejected = eventually("the worker to be ejected", || async {
        let health = cluster.health().await;
        (health["standing"] == "ejected").then_some(health)
    })
    .await;
    assert!(ejected["ejections"].as_u64() >= Some(1), "{ejected}");
    cluster.workers[0].set(Mode::Well);
    cluster.serves(50).await;
}

/// What the others are held against: with health switched off most requests are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_health_a_worker_that_fails_at_once_swallows_the_pool() {
    let Some(envoy) = support::envoy::binary() else { return };
    let cluster = Cluster::start(envoy, DEFAULT, &["--endpoint-health=false"]).await;
    cluster.serves(20).await;
    cluster.workers[0].set(Mode::FailsFast);
    let lost = cluster.lost_of(500).await;
    assert!(lost > 125, "{lost} lost: no more than round robin would lose");
}
