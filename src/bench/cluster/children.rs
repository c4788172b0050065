//! The programs of a cluster: simulated workers, `epp`, Envoy.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{ClusterArgs, client};

/// How long a program may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// The Envoy configuration that ships with epp; ports are replaced.
const ENVOY_CONFIG: &str = include_str!("../../../deploy/envoy/standalone.yaml");
const GATEWAY_PORT: u16 = 8081;
const ADMIN_PORT: u16 = 19000;
const EPP_PORT: u16 = 9002;

/// Where the programs lie.
#[derive(Debug)]
pub(super) struct Binaries {
    envoy: PathBuf,
    epp: PathBuf,
    epp_sim: PathBuf,
}

impl Binaries {
    /// # Errors
    /// Where one is not to be found, with a text that says how to name it.
    pub(super) fn find(args: &ClusterArgs) -> Result<Self, String> {
        let beside = |name: &str| {
            let here = std::env::current_exe().ok()?;
            Some(here.parent()?.join(name))
        };
        let ours = |given: &Option<PathBuf>, name: &str| {
            given.clone().or_else(|| beside(name)).filter(|p| p.is_file()).ok_or_else(|| {
                format!("no {name} beside this program: build it, or name it with --{name}")
            })
        };
        let envoy = match &args.envoy {
            Some(path) => Some(path.clone()),
            None => installed_envoy().or_else(|| in_search_path("envoy")),
        };
        Ok(Self {
            envoy: envoy
                .filter(|p| p.is_file())
                .ok_or("no Envoy: run `make tools`, or name one with --envoy")?,
            epp: ours(&args.epp, "epp")?,
            epp_sim: ours(&args.epp_sim, "epp-sim")?,
        })
    }
}

/// The Envoy that `make tools` installs below the working directory.
fn installed_envoy() -> Option<PathBuf> {
    let tools = std::fs::read_dir(".tools").ok()?;
    let mut found: Vec<PathBuf> =
        tools.flatten().map(|e| e.path().join("bin/envoy")).filter(|p| p.is_file()).collect();
    found.sort();
    found.pop()
}

fn in_search_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join(name)).find(|p| p.is_file())
}

/// A program that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null());
        command.spawn().map(Self).map_err(|e| format!("cannot start {name}: {e}"))
    }

    pub(super) fn id(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    /// `host:port` of Envoy.
    pub(super) gateway: String,
    pub(super) epp: Program,
    pub(super) envoy: Program,
    _workers: Program,
    _folder: Folder,
}

/// A folder of our own, gone when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, String> {
        let name = format!("epp-bench-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        Ok(Self(path))
    }

    /// A file for what a program writes.
    fn log(&self, name: &str) -> Result<std::fs::File, String> {
        let path = self.0.join(name);
        std::fs::File::create(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Cluster {
    /// Starts all programs and waits until they serve.
    ///
    /// # Errors
    /// Where one does not, with what it said.
    pub(super) async fn start(binaries: &Binaries, args: &ClusterArgs) -> Result<Self, String> {
        let folder = Folder::make()?;
        let (workers, addresses) = start_workers(binaries, args, &folder)?;
        let [grpc, health, metrics, gateway, admin] = free_ports()?;

        let log = folder.log("epp.log")?;
        let mut command = Command::new(&binaries.epp);
        command
            .args(["--endpoints", &addresses.join(",")])
            .args(["--grpc-port", &grpc.to_string()])
            .args(["--grpc-health-port", &health.to_string()])
            .args(["--metrics-port", &metrics.to_string()])
            .args(["--metrics-endpoint-auth=false", "--drain-timeout=0s"])
            .stdout(clone(&log)?)
            .stderr(log);
        if let Some(config) = &args.config {
            command.arg("--config-file").arg(config);
        }
        let mut epp = Program::start(&mut command)?;
        ready("epp", &mut epp, metrics, "/readyz", &folder).await?;

        let config = folder.0.join("envoy.yaml");
        let yaml = ENVOY_CONFIG
            .replace(&port(GATEWAY_PORT), &port(gateway))
            .replace(&port(ADMIN_PORT), &port(admin))
            .replace(&port(EPP_PORT), &port(grpc));
        std::fs::write(&config, yaml)
            .map_err(|e| format!("cannot write {}: {e}", config.display()))?;
        let log = folder.log("envoy.log")?;
        let mut command = Command::new(&binaries.envoy);
        command
            .arg("-c")
            .arg(&config)
            .args(["--disable-hot-restart", "--log-level", "warning", "--concurrency", "1"])
            .stdout(clone(&log)?)
            .stderr(log);
        let mut envoy = Program::start(&mut command)?;
        ready("envoy", &mut envoy, admin, "/ready", &folder).await?;
        Ok(Self {
            gateway: format!("127.0.0.1:{gateway}"),
            epp,
            envoy,
            _workers: workers,
            _folder: folder,
        })
    }
}

fn port(n: u16) -> String {
    format!("port_value: {n}")
}

fn clone(file: &std::fs::File) -> Result<std::fs::File, String> {
    file.try_clone().map_err(|e| e.to_string())
}

/// Starts the simulated workers and reads their addresses off their output.
fn start_workers(
    binaries: &Binaries,
    args: &ClusterArgs,
    folder: &Folder,
) -> Result<(Program, Vec<String>), String> {
    let mut command = Command::new(&binaries.epp_sim);
    command
        .args(["--port", "0", "--model", client::MODEL, "--max-model-len", "1000000"])
        .args(["--num-blocks", "62500"])
        .args(["--workers", &args.workers.to_string()])
        .args(["--speed", &args.speed.to_string()])
        .stdout(Stdio::piped())
        .stderr(folder.log("epp-sim.log")?);
    let mut program = Program::start(&mut command)?;
    let output = program.0.stdout.take().ok_or("no output of the workers")?;
    let addresses: Vec<String> = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| Some(line.split_once("listening on http://")?.1.trim().to_owned()))
        .take(usize::from(args.workers))
        .collect();
    if addresses.len() < usize::from(args.workers) {
        let said = tail(&folder.0.join("epp-sim.log"));
        return Err(format!("the workers did not start:\n{said}"));
    }
    Ok((program, addresses))
}

/// Ports that are free now, all different.
fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        *port = listener.local_addr().map_err(|e| e.to_string())?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Waits until a program answers 200.
async fn ready(
    name: &str,
    program: &mut Program,
    port: u16,
    path: &str,
    folder: &Folder,
) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    let url = format!("http://127.0.0.1:{port}{path}");
    loop {
        if client::status(&url).await == Some(200) {
            return Ok(());
        }
        let ended = program.0.try_wait().ok().flatten();
        if ended.is_some() || Instant::now() > end {
            let why = ended.map_or("is not ready".to_owned(), |status| format!("ended: {status}"));
            return Err(format!("{name} {why}\n{}", tail(&folder.0.join(format!("{name}.log")))));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envoy_configuration_has_the_ports_that_are_replaced() {
        for n in [GATEWAY_PORT, ADMIN_PORT, EPP_PORT] {
            assert_eq!(ENVOY_CONFIG.matches(&port(n)).count(), 1, "{n}");
        }
    }

    #[test]
    fn free_ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c);
    }
}
