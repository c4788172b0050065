//! The table of `docs/health.md`: `cargo test --test faults -- --ignored --nocapture table`.
//!
//! `ENVOY` names an Envoy, as for the other tests. Where `EPP_REFERENCE` names a reference picker
//! (llm-d-router's Go EPP), it is measured too. `FAULT` and
//! `CHOOSER` name one of each to measure no others, `CONFIG` a configuration of epp.

use std::process::Command;
use std::time::{Duration, Instant};

use super::clients::Clients;
use super::support::envoy::Envoy;
use super::support::process::Process;
use super::worker::{Mode, Worker};
use super::{Cluster, DEFAULT, support};

const WELL: Duration = Duration::from_secs(5);
const ILL: Duration = Duration::from_secs(30);

/// What befalls the first worker.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Flaps,
    Is(Mode),
}

const FAULTS: [Fault; 7] = [
    Fault::Killed,
    Fault::Is(Mode::FailsFast),
    Fault::Is(Mode::FailsOneInTwo),
    Fault::Is(Mode::Slow),
    Fault::Is(Mode::Hangs),
    Fault::Flaps,
    Fault::Is(Mode::Lies),
];

/// Who chooses the worker.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Chooser {
    RoundRobin,
    Reference,
    /// With health switched off.
    Plain,
    Epp,
}

/// What keeps a chooser running.
enum Running {
    None,
    Epp(Box<Cluster>),
    Reference { _held: Box<(Envoy, Process, tempfile::TempDir)> },
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour"]
async fn table() {
    let reference = std::env::var_os("EPP_REFERENCE");
    let is_wanted = |variable: &str, value: String| {
        std::env::var(variable).is_ok_and(|wanted| value.contains(&wanted))
            || std::env::var_os(variable).is_none()
    };
    let mut choosers = vec![Chooser::RoundRobin, Chooser::Reference, Chooser::Plain, Chooser::Epp];
    choosers.retain(|c| *c != Chooser::Reference || reference.is_some());
    choosers.retain(|c| is_wanted("CHOOSER", format!("{c:?}")));
    for fault in FAULTS.into_iter().filter(|f| is_wanted("FAULT", format!("{f:?}"))) {
        for &chooser in &choosers {
            println!("{}", measure(fault, chooser).await);
        }
    }
}

async fn measure(fault: Fault, chooser: Chooser) -> String {
    let Some(envoy) = support::envoy::binary() else { return String::new() };
    let (clients, mut workers, running) = match chooser {
        Chooser::Epp | Chooser::Plain => {
            let config = std::env::var("CONFIG")
                .map_or(DEFAULT.to_owned(), |path| std::fs::read_to_string(path).unwrap());
            let off: &[&str] =
                if chooser == Chooser::Plain { &["--endpoint-health=false"] } else { &[] };
            let mut cluster = Cluster::start(envoy, &config, off).await;
            let workers = std::mem::take(&mut cluster.workers);
            (None, workers, Running::Epp(Box::new(cluster)))
        }
        _ => {
            let workers: Vec<Worker> = (0..4).map(|_| Worker::start()).collect();
            if chooser == Chooser::RoundRobin {
                let urls = workers.iter().map(|w| format!("http://{}", w.address)).collect();
                (Some(Clients::start(urls)), workers, Running::None)
            } else {
                let (running, url) = start_reference(envoy, &workers).await;
                (Some(Clients::start(vec![url])), workers, running)
            }
        }
    };
    let clients = match (&clients, &running) {
        (Some(clients), _) => clients,
        (None, Running::Epp(cluster)) => &cluster.clients,
        _ => unreachable!("somebody asks"),
    };
    tokio::time::sleep(WELL).await;
    let begin = Instant::now();
    let before = workers[0].requests();
    befall(fault, &mut workers[0]).await;
    let end = Instant::now();
    let arrived = workers[0].requests() - before;
    let (all, lost) = clients.between(begin, end);
    let (all_later, lost_later) = clients.between(begin + Duration::from_secs(1), end);
    let after = workers[0].requests();
    // Back in service: more than an eighth of what ends in a second arrives there.
    let mut back = None;
    while end.elapsed() < Duration::from_secs(30) && back.is_none() {
        let (ended, there) = (clients.ended(), workers[0].requests());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (ended, there) = (clients.ended() - ended, workers[0].requests() - there);
        back = (there as f64 > ended as f64 / 8.0 && workers[0].requests() > after)
            .then(|| end.elapsed().as_secs_f64());
    }
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    format!(
        "{fault:?} {chooser:?}: {all} requests, {arrived} to the ill one; lost {:.1} %, after the \
         first second {:.2} %; back after {back:.1?} s",
        percent(lost, all),
        percent(lost_later, all_later),
    )
}

/// Lets the worker be ill for a while, and well again.
async fn befall(fault: Fault, worker: &mut Worker) {
    match fault {
        Fault::Killed => {
            tokio::task::block_in_place(|| worker.kill());
            tokio::time::sleep(ILL).await;
            worker.revive();
        }
        Fault::Flaps => {
            let end = Instant::now() + ILL;
            while Instant::now() < end {
                tokio::task::block_in_place(|| worker.kill());
                tokio::time::sleep(Duration::from_millis(500)).await;
                worker.revive();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Fault::Is(mode) => {
            worker.set(mode);
            tokio::time::sleep(ILL).await;
            worker.set(Mode::Well);
        }
    }
}

async fn start_reference(envoy: std::path::PathBuf, workers: &[Worker]) -> (Running, String) {
    let dir = tempfile::tempdir().unwrap();
    let endpoints = dir.path().join("endpoints.yaml");
    let list: String = workers
        .iter()
        .enumerate()
        .map(|(i, w)| {
            let (ip, port) = (w.address.ip(), w.address.port());
            format!("- {{name: w{i}, address: {ip}, port: '{port}'}}\n")
        })
        .collect();
    std::fs::write(&endpoints, format!("endpoints:\n{list}")).unwrap();
    let config = dir.path().join("config.yaml");
    let discovery =
        format!("- type: file-discovery\n  parameters: {{path: '{}'}}\n", endpoints.display());
    let yaml = DEFAULT
        .replace("plugins:\n- type: queue", &format!("plugins:\n{discovery}- type: queue"))
        + "dataLayer:\n  discovery:\n    pluginRef: file-discovery\n";
    std::fs::write(&config, yaml).unwrap();
    let ports: [u16; 3] = std::array::from_fn(|_| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    });
    let binary = std::env::var_os("EPP_REFERENCE").unwrap();
    let process = Process::start(
        "reference",
        Command::new(binary)
            .args(["--pool-name", "p", "--metrics-endpoint-auth=false", "--tracing=false"])
            .args(["--refresh-metrics-interval", "50ms", "--drain-timeout", "1s"])
            .args(["--grpc-port", &ports[0].to_string()])
            .args(["--grpc-health-port", &ports[1].to_string()])
            .args(["--metrics-port", &ports[2].to_string()])
            .arg("--config-file")
            .arg(&config),
    );
    let envoy = Envoy::start(envoy, ports[0], |yaml| yaml).await;
    let url = envoy.url.clone();
    let http = reqwest::Client::new();
    support::eventually("the reference to route", || async {
        let body = serde_json::json!({"model": "m", "prompt": "x", "max_tokens": 1});
        let sent = http.post(format!("{url}/v1/completions")).json(&body).send().await.ok()?;
        (sent.status() == 200).then_some(())
    })
    .await;
    (Running::Reference { _held: Box::new((envoy, process, dir)) }, url)
}
