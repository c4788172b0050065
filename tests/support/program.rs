//! The real `epp`, started with port 0 everywhere.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::process::Process;

pub struct Program {
    pub process: Process,
    pub grpc_port: u16,
    pub health_port: u16,
    pub metrics_port: u16,
    /// The configuration's file.
    pub config_file: PathBuf,
    _dir: tempfile::TempDir,
}

/// The tutorial's configuration.
pub const TUTORIAL: &str = include_str!("../../config/tutorial.yaml");

impl Program {
    /// Starts `epp` with a configuration and a list of endpoints, and waits until it serves.
    pub fn start(config: &str, endpoints: &[SocketAddr], arguments: &[&str]) -> Self {
        let list: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        let mut all = vec!["--endpoints".to_owned(), list.join(",")];
        all.extend(arguments.iter().map(|a| (*a).to_owned()));
        Self::start_with(config, &all)
    }

    /// Starts `epp` with a configuration and any arguments.
    pub fn start_with(config: &str, arguments: &[String]) -> Self {
        Self::start_in(config, arguments, &[])
    }

    /// The same with variables of the environment.
    pub fn start_in(config: &str, arguments: &[String], environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
        command
            .args(["--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0"])
            .args(["--metrics-endpoint-auth=false", "--zap-encoder=json", "--config-file"])
            .arg(&file)
            .args(arguments)
            .envs(environment.iter().copied());
        let plain = arguments.iter().any(|a| a.starts_with("--secure-serving"));
        if !plain {
            command.arg("--secure-serving=false");
        }
        let process = Process::start("epp", &mut command);
        let port = |listener: &str| {
            process.wait_for(&format!("the address of {listener}"), |line| {
                let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
                    return in_console_form(line, listener);
                };
                let named = line["msg"] == "Listening" && line["listener"] == listener;
                let address: SocketAddr =
                    line["address"].as_str().filter(|_| named)?.parse().ok()?;
                Some(address.port())
            })
        };
        let (grpc_port, health_port, metrics_port) =
            (port("ext_proc"), port("health"), port("metrics"));
        Self { grpc_port, health_port, metrics_port, config_file: file, process, _dir: dir }
    }
}

/// The port in a line of the form for people, if it is of this listener.
fn in_console_form(line: &str, listener: &str) -> Option<u16> {
    let fields = line.split_once(&format!("Listening listener={listener} address="))?.1;
    Some(fields.split(' ').next()?.parse::<SocketAddr>().ok()?.port())
}
