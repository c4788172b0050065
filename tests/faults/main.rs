//! Four workers of which one falls ill, behind a real Envoy and the real `epp`, and eight clients
//! that ask all the time: what they lose.

mod clients;
mod table;
mod worker;

#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;

use clients::Clients;
use support::envoy::Envoy;
use support::program::Program;
use worker::Worker;

/// The configurations that ship with epp and need nothing else.
const DEFAULT: &str = include_str!("../../config/default.yaml");

/// Four workers, `epp`, Envoy and eight clients.
struct Cluster {
    clients: Clients,
    workers: Vec<Worker>,
    _epp: Program,
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
        Self { clients, workers, _epp: epp, _envoy: envoy }
    }
}
