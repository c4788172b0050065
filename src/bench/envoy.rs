//! The Envoy of a measurement: a configuration that ships with epp, with other ports, other
//! clusters, and with or without a picker.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::programs::{Folder, Program};

/// Both bodies in full duplex: what the other ones are compared with.
pub(super) const STANDALONE: &str = include_str!("../../deploy/envoy/standalone.yaml");
/// A response header that says which endpoint answered.
pub(super) const SERVED_BY: &str = "x-served-by";

const LISTENER: &str = "/static_resources/listeners/0";
const HTTP: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const CLUSTERS: &str = "/static_resources/clusters";
const FIRST_ENDPOINT: &str = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint";

/// A configuration as JSON, which Envoy reads as well as YAML.
#[derive(Debug)]
pub(super) struct EnvoyConfig {
    whole: Value,
    admin: u16,
}

impl EnvoyConfig {
    /// One that ships, with its ports on this machine.
    ///
    /// # Errors
    /// As for all that is changed in it: where it has no place for what is to be set.
    pub(super) fn new(shipped: &str, gateway: u16, admin: u16) -> Result<Self, String> {
        let whole = serde_yaml::from_str(shipped).map_err(|e| e.to_string())?;
        let mut config = Self { whole, admin };
        *config.at("/admin/address/socket_address/port_value")? = admin.into();
        *config.at(&format!("{LISTENER}/address/socket_address/port_value"))? = gateway.into();
        Ok(config)
    }

    /// Has answers tell who gave them, in [`SERVED_BY`].
    pub(super) fn telling_endpoint(mut self) -> Result<Self, String> {
        let host = self.at(&format!("{HTTP}/route_config/virtual_hosts/0"))?;
        host["response_headers_to_add"] =
            json!([{"header": {"key": SERVED_BY, "value": "%UPSTREAM_REMOTE_ADDRESS%"}}]);
        Ok(self)
    }

    /// Has the picker asked that serves ext_proc there.
    pub(super) fn asking(mut self, picker: SocketAddr, tls: bool) -> Result<Self, String> {
        let cluster = self.cluster("epp")?;
        if !tls {
            remove(cluster, "transport_socket");
        }
        let endpoint = cluster.pointer_mut(FIRST_ENDPOINT);
        *endpoint.ok_or_else(|| missing(FIRST_ENDPOINT))? = address(picker);
        Ok(self)
    }

    /// Has the picker asked without a look at its health first: not every picker tells.
    pub(super) fn trusting_picker(mut self) -> Result<Self, String> {
        remove(self.cluster("epp")?, "health_checks");
        Ok(self)
    }

    /// Has nobody asked.
    pub(super) fn asking_nobody(mut self) -> Result<Self, String> {
        without(self.at(&format!("{HTTP}/http_filters"))?, "envoy.filters.http.ext_proc");
        without(self.at(CLUSTERS)?, "epp");
        Ok(self)
    }

    /// Has requests go to these endpoints, whatever a picker names; `policy`: as `lb_policy` spells
    /// it.
    pub(super) fn serving(
        mut self,
        endpoints: &[SocketAddr],
        policy: &str,
    ) -> Result<Self, String> {
        let workers = self.cluster("picked_worker")?;
        remove(workers, "original_dst_lb_config");
        workers["type"] = "STATIC".into();
        workers["lb_policy"] = policy.into();
        let all: Vec<Value> = endpoints.iter().map(|e| json!({"endpoint": address(*e)})).collect();
        workers["load_assignment"] =
            json!({"cluster_name": "picked_worker", "endpoints": [{"lb_endpoints": all}]});
        Ok(self)
    }

    /// Starts an Envoy with it and waits until that serves.
    ///
    /// # Errors
    /// Where it does not, with what it said.
    pub(super) async fn start(
        &self,
        binary: &Path,
        threads: u16,
        folder: &Folder,
    ) -> Result<Program, String> {
        let path = folder.write("envoy.json", &self.whole.to_string())?;
        let mut command = Command::new(binary);
        command
            .arg("-c")
            .arg(path)
            .args(["--disable-hot-restart", "--log-level", "warning"])
            .args(["--concurrency", &threads.to_string()]);
        let ready = format!("http://127.0.0.1:{}/ready", self.admin);
        Program::serving("envoy", &mut command, folder, &ready).await
    }

    fn at(&mut self, pointer: &str) -> Result<&mut Value, String> {
        self.whole.pointer_mut(pointer).ok_or_else(|| missing(pointer))
    }

    fn cluster(&mut self, name: &str) -> Result<&mut Value, String> {
        let mut clusters = self.at(CLUSTERS)?.as_array_mut().into_iter().flatten();
        clusters
            .find(|cluster| cluster["name"] == name)
            .ok_or_else(|| missing(&format!("cluster {name}")))
    }
}

fn missing(what: &str) -> String {
    format!("the Envoy configuration that ships with epp has no {what}")
}

fn address(address: SocketAddr) -> Value {
    let socket = json!({"address": address.ip().to_string(), "port_value": address.port()});
    json!({"address": {"socket_address": socket}})
}

fn remove(of: &mut Value, key: &str) {
    of.as_object_mut().and_then(|of| of.remove(key));
}

/// Takes the entry of this name out of a list.
fn without(list: &mut Value, name: &str) {
    if let Some(list) = list.as_array_mut() {
        list.retain(|entry| entry["name"] != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTO: &str = include_str!("../../deploy/envoy/standalone-body-auto.yaml");
    const NONE: &str = include_str!("../../deploy/envoy/standalone-body-none.yaml");

    fn of(shipped: &str) -> EnvoyConfig {
        EnvoyConfig::new(shipped, 1, 2).unwrap().telling_endpoint().unwrap()
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_picker_is_asked_on_its_port_with_tls_or_without() {
        for (tls, shipped) in [(false, STANDALONE), (true, STANDALONE), (false, NONE)] {
            let mut config = of(shipped).asking(at(4), tls).unwrap().trusting_picker().unwrap();
            assert_eq!(config.whole["admin"]["address"]["socket_address"]["port_value"], 2);
            let picker = config.cluster("epp").unwrap();
            assert_eq!(picker.get("transport_socket").is_some(), tls);
            assert!(picker.get("health_checks").is_none());
            assert!(picker.to_string().contains(r#""port_value":4"#), "{picker}");
        }
    }

    #[test]
    fn the_variants_send_bodies_as_they_say() {
        let modes = |shipped| of(shipped).asking(at(4), true).unwrap().whole.to_string();
        assert!(modes(NONE).contains(r#""response_body_mode":"NONE""#));
        assert!(modes(AUTO).contains(r#""allow_mode_override":true"#));
        assert!(modes(AUTO).contains("UpstreamTlsContext"));
    }

    #[test]
    fn without_a_picker_envoy_knows_the_endpoints_and_asks_nobody() {
        let endpoints = [at(8001), "[::1]:8002".parse().unwrap()];
        let config = of(STANDALONE).asking_nobody().unwrap();
        let mut config = config.serving(&endpoints, "LEAST_REQUEST").unwrap();
        assert!(!config.whole.to_string().contains("ext_proc"));
        assert!(!config.whole.to_string().contains("ORIGINAL_DST"));
        assert!(config.cluster("epp").is_err());
        let workers = config.cluster("picked_worker").unwrap();
        assert_eq!(workers["lb_policy"], "LEAST_REQUEST");
        let socket = |i: usize| {
            workers["load_assignment"]["endpoints"][0]["lb_endpoints"][i]["endpoint"]["address"]
                ["socket_address"]
                .clone()
        };
        assert_eq!(socket(0), json!({"address": "127.0.0.1", "port_value": 8001}));
        assert_eq!(socket(1), json!({"address": "::1", "port_value": 8002}));
    }
}
