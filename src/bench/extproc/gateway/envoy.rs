use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::super::connection::Target;
use super::Bodies;
use crate::bench::programs::{Folder, Program, free_ports, get};

/// The configurations that ship with epp; what is replaced in them stands in each once.
const ALWAYS: &str = include_str!("../../../../deploy/envoy/standalone.yaml");
const AUTO: &str = include_str!("../../../../deploy/envoy/standalone-body-auto.yaml");
const NONE: &str = include_str!("../../../../deploy/envoy/standalone-body-none.yaml");

/// The worker is another one for each request there, and the same one here: what the picker
/// names need not exist.
const PICKED: &str = "    type: ORIGINAL_DST
    connect_timeout: 5s
    lb_policy: CLUSTER_PROVIDED
    original_dst_lb_config:
      use_http_header: true
      http_header_name: x-gateway-destination-endpoint
";
const EXT_PROC: &str = "          - name: envoy.filters.http.ext_proc\n";
const ROUTER: &str = "          - name: envoy.filters.http.router\n";
const TLS: &str = "    # epp serves TLS";
const HEALTH_CHECKS: &str = "    health_checks:\n";
const EPP_ENDPOINTS: &str = "    load_assignment:\n      cluster_name: epp\n";
const EPP_ADDRESS: &str = "{address: 127.0.0.1, port_value: 9002}";

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
        let picker = match asks {
            Some((target, bodies)) => Some((bodies, resolved(&target.addr)?, target.tls)),
            None => None,
        };
        let config = configuration(picker, worker, gateway, admin);
        let config = folder.write("envoy.yaml", &config)?;
        let mut command = Command::new(binary);
        command.arg("-c").arg(&config).args([
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--concurrency",
            "1",
        ]);
        let ready = format!("http://127.0.0.1:{admin}/ready");
        let program = Program::serving("envoy", &mut command, &folder, &ready).await?;
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
        let page = get(&url).await.map(|(_, page)| page).unwrap_or_default();
        page.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

fn resolved(address: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs;
    let found = address.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| format!("'{address}' is no address; expected HOST:PORT"))
}

fn configuration(
    picker: Option<(Bodies, SocketAddr, bool)>,
    worker: SocketAddr,
    gateway: u16,
    admin: u16,
) -> String {
    let shipped = match picker {
        Some((Bodies::Auto, ..)) => AUTO,
        Some((Bodies::None, ..)) => NONE,
        _ => ALWAYS,
    };
    let mut yaml = shipped
        .replace("port_value: 8081", &format!("port_value: {gateway}"))
        .replace("port_value: 19000", &format!("port_value: {admin}"))
        .replace(PICKED, &cluster("picked_worker", worker));
    // Nobody is asked whether it is well: pickers under test need not have that service.
    cut(&mut yaml, HEALTH_CHECKS, EPP_ENDPOINTS);
    match picker {
        None => cut(&mut yaml, EXT_PROC, ROUTER),
        Some((_, address, tls)) => {
            let (ip, port) = (address.ip(), address.port());
            yaml = yaml.replace(EPP_ADDRESS, &format!("{{address: \"{ip}\", port_value: {port}}}"));
            if !tls {
                cut(&mut yaml, TLS, EPP_ENDPOINTS);
            }
        }
    }
    yaml
}

fn cluster(name: &str, address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: \"{ip}\", port_value: {port}}}}}}}
"
    )
}

/// Takes out what stands from `from` to before `to`.
fn cut(yaml: &mut String, from: &str, to: &str) {
    if let (Some(from), Some(to)) = (yaml.find(from), yaml.find(to))
        && from < to
    {
        yaml.replace_range(from..to, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_stands_in_each_configuration_once() {
        for yaml in [ALWAYS, AUTO, NONE] {
            for part in [PICKED, EXT_PROC, ROUTER, TLS, HEALTH_CHECKS, EPP_ENDPOINTS, EPP_ADDRESS] {
                assert_eq!(yaml.matches(part).count(), 1, "{part}");
            }
        }
    }

    #[test]
    fn the_picker_is_asked_as_it_is_to_be() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let of = |picker| configuration(picker, address(1), 2, 3);
        let none = of(None);
        assert!(!none.contains(EXT_PROC) && none.contains("port_value: 1}"));
        let plain = of(Some((Bodies::None, address(4), false)));
        assert!(plain.contains("response_body_mode: NONE") && plain.contains("port_value: 4}"));
        assert!(!plain.contains("tls") && !plain.contains("ORIGINAL_DST"));
        let tls = of(Some((Bodies::Auto, address(4), true)));
        assert!(tls.contains("allow_mode_override: true") && tls.contains("UpstreamTlsContext"));
    }
}
