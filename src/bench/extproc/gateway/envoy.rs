use std::net::SocketAddr;
use std::path::Path;

use super::super::connection::Target;
use super::Bodies;
use crate::bench::engine_api::page_of;
use crate::bench::envoy::{EnvoyConfig, STANDALONE};
use crate::bench::programs::{Folder, Program, free_ports};

const AUTO: &str = include_str!("../../../../deploy/envoy/standalone-body-auto.yaml");
const NONE: &str = include_str!("../../../../deploy/envoy/standalone-body-none.yaml");

/// An Envoy that asks a picker, or nobody.
#[derive(Debug)]
pub(super) struct Gateway {
    /// `host:port` that clients go to.
    pub(super) address: String,
    admin: u16,
    program: Program,
    folder: Folder,
}

impl Gateway {
    /// # Errors
    /// Where it does not come up, with what it said.
    pub(super) async fn start(
        binary: &Path,
        asks: Option<(&Target, Bodies)>,
        worker: SocketAddr,
    ) -> Result<Self, String> {
        let folder = Folder::make()?;
        let [gateway, admin] = free_ports()?;
        let shipped = match asks {
            Some((_, Bodies::Auto)) => AUTO,
            Some((_, Bodies::None)) => NONE,
            _ => STANDALONE,
        };
        let config = EnvoyConfig::new(shipped, gateway, admin)?;
        let config = match asks {
            // Nobody is asked whether it is well: pickers under test need not have that service.
            Some((target, _)) => {
                config.asking(resolved(&target.addr)?, target.tls)?.trusting_picker()?
            }
            None => config.asking_nobody()?,
        };
        // The worker is the same one for each request: what the picker names need not exist.
        let config = config.serving(&[worker], "ROUND_ROBIN")?;
        let program = config.start(binary, 1, &folder).await?;
        Ok(Self { address: format!("127.0.0.1:{gateway}"), admin, program, folder })
    }

    pub(super) fn id(&self) -> i32 {
        self.program.id()
    }

    /// The end of its log.
    pub(super) fn said(&self) -> String {
        self.folder.last_lines("envoy")
    }

    /// Messages to and from the picker so far.
    pub(super) async fn messages(&self) -> u64 {
        let url = format!("http://127.0.0.1:{}/stats?filter=stream_msgs", self.admin);
        let page = page_of(&url).await.unwrap_or_default();
        page.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

fn resolved(address: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs;
    let found = address.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| format!("'{address}' is no address; expected HOST:PORT"))
}
