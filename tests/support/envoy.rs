//! A real Envoy in front of `epp`.

use std::path::PathBuf;
use std::process::Command;

use super::needs::{self, Need};
use super::process::Process;
use super::{PATIENCE, eventually};

/// The repository's own Envoy configuration, with ports of the moment.
pub struct Envoy {
    pub process: Process,
    /// `http://127.0.0.1:PORT` of the gateway listener.
    pub url: String,
    pub admin: String,
    _dir: tempfile::TempDir,
}

/// The Envoy binary that `make test` names; without it the test does nothing, or fails where
/// nothing may be skipped (see [`needs`]).
pub fn binary() -> Option<PathBuf> {
    if needs::skipped(Need::Envoy) {
        return None;
    }
    let binary = std::env::var_os("ENVOY").map(PathBuf::from).filter(|path| path.is_file());
    if binary.is_none() {
        needs::missing(Need::Envoy, "ENVOY names no Envoy binary; `make tools` installs one");
    }
    binary
}

pub const STANDALONE: &str = include_str!("../../deploy/envoy/standalone.yaml");

impl Envoy {
    /// Starts Envoy with `deploy/envoy/standalone.yaml`, its `epp` cluster at `epp_port`, and
    /// `edit` applied to the text.
    pub async fn start(
        binary: PathBuf,
        epp_port: u16,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        Self::start_sample(binary, STANDALONE, epp_port, edit).await
    }

    /// The same with another of the repository's samples.
    pub async fn start_sample(
        binary: PathBuf,
        sample: &str,
        epp_port: u16,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let yaml = sample
            .replace("port_value: 19000", "port_value: 0")
            .replace("port_value: 8081", "port_value: 0")
            .replace("port_value: 9002", &format!("port_value: {epp_port}"));
        let config = dir.path().join("envoy.yaml");
        let admin_file = dir.path().join("admin");
        std::fs::write(&config, edit(yaml)).unwrap();
        let process = Process::start(
            "envoy",
            Command::new(binary)
                .arg("-c")
                .arg(&config)
                .arg("--admin-address-path")
                .arg(&admin_file)
                .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]),
        );
        let admin = eventually("Envoy's admin address", || async {
            let text = std::fs::read_to_string(&admin_file).ok()?;
            (!text.trim().is_empty()).then(|| format!("http://{}", text.trim()))
        })
        .await;
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let url = eventually("Envoy to be ready", || async {
            let ready = http.get(format!("{admin}/ready")).send().await.ok()?;
            if !ready.status().is_success() {
                return None;
            }
            let listeners = http.get(format!("{admin}/listeners?format=json")).send().await.ok()?;
            let listeners: serde_json::Value = listeners.json().await.ok()?;
            let socket = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
            let port = socket["port_value"].as_u64()?;
            Some(format!("http://127.0.0.1:{port}"))
        })
        .await;
        Self { process, url, admin, _dir: dir }
    }
}
