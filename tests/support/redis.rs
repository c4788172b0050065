//! A real Redis.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use redis::Client;

use super::needs::{self, Need};
use super::process::Process;

/// A server with an address that stays, whether or not it runs.
pub struct Redis {
    binary: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

/// The binary that `make test` names, else the system's; without one the test does nothing, or
/// fails where nothing may be skipped (see [`needs`]).
fn binary() -> Option<PathBuf> {
    if needs::skipped(Need::Redis) {
        return None;
    }
    let named = std::env::var_os("REDIS_SERVER").filter(|path| !path.is_empty());
    let binary = named.map_or_else(|| PathBuf::from("redis-server"), PathBuf::from);
    let runs = Command::new(&binary).arg("--version").output().is_ok_and(|o| o.status.success());
    if !runs {
        needs::missing(Need::Redis, "there is no redis-server; `make tools` gets one");
    }
    runs.then_some(binary)
}

impl Redis {
    pub fn start() -> Option<Self> {
        let binary = binary()?;
        // Redis takes no port 0: it is given one that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut redis = Self { binary, address, process: None };
        redis.run();
        Some(redis)
    }

    /// Starts it, with nothing in it.
    pub fn run(&mut self) {
        let mut command = Command::new(&self.binary);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
        command.arg(self.address.port().to_string());
        let process = Process::start("redis-server", &mut command);
        let ready = |line: &str| line.contains("Ready to accept connections").then_some(());
        process.wait_for("to be ready", ready);
        self.process = Some(process);
    }

    /// Kills it, and what was in it is gone.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn signal(&self, signal: &str) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Runs one command.
    pub async fn command(&self, words: &[&str]) -> redis::Value {
        let client = Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }

    /// The keys that match a pattern, sorted.
    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> =
            redis::from_redis_value(self.command(&["KEYS", pattern]).await).unwrap();
        keys.sort();
        keys
    }
}
