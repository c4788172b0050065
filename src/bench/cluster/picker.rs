//! An endpoint picker for a turn: `epp`, or another that takes the same flags.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::ClusterArgs;
use crate::bench::programs::{Folder, Program, free_ports};

/// A running picker, and the port of its ext_proc server (plaintext).
#[derive(Debug)]
pub(super) struct Picker {
    pub(super) program: Program,
    pub(super) port: u16,
}

impl Picker {
    /// # Errors
    /// Where it does not serve, with what it said.
    pub(super) async fn epp(
        binary: &Path,
        config: Option<&Path>,
        endpoints: &[String],
        folder: &Folder,
        args: &ClusterArgs,
    ) -> Result<Self, String> {
        let mut command = Command::new(binary);
        if let Some(folder) = &args.record {
            command.arg("--record").arg(folder);
        }
        if !args.endpoint_health {
            command.arg("--endpoint-health=false");
        }
        command.args(["--endpoints", &endpoints.join(",")]).arg("--drain-timeout=0s");
        if let Some(config) = config {
            command.arg("--config-file").arg(config);
        }
        Self::start("epp", command, "/readyz", folder).await
    }

    /// A picker that finds its endpoints in a file that its configuration names.
    ///
    /// # Errors
    /// Where it does not serve, with what it said, and where the configuration finds endpoints in
    /// a way of its own.
    pub(super) async fn other(
        binary: &Path,
        config: &Path,
        endpoints: &[String],
        folder: &Folder,
    ) -> Result<Self, String> {
        let name = config.display();
        let text = std::fs::read_to_string(config).map_err(|e| format!("{name}: {e}"))?;
        let list = folder.write("endpoints.yaml", &endpoint_list(endpoints)?)?;
        let whole = with_endpoints(&text, &list).map_err(|e| format!("{name}: {e}"))?;
        let path = folder.write("picker.yaml", &whole)?;
        let mut command = Command::new(binary);
        command
            .args(["--pool-name", "pool", "--tracing=false", "--refresh-metrics-interval", "50ms"])
            .arg("--config-file")
            .arg(path);
        Self::start("picker", command, "/metrics", folder).await
    }

    async fn start(
        name: &str,
        mut command: Command,
        path: &str,
        folder: &Folder,
    ) -> Result<Self, String> {
        let [port, health, metrics] = free_ports()?;
        command
            .args(["--grpc-port", &port.to_string()])
            .args(["--grpc-health-port", &health.to_string()])
            .args(["--metrics-port", &metrics.to_string()])
            .args(["--secure-serving=false", "--metrics-endpoint-auth=false"]);
        let url = format!("http://127.0.0.1:{metrics}{path}");
        let program = Program::serving(name, &mut command, folder, &url).await?;
        Ok(Self { program, port })
    }
}

fn endpoint_list(endpoints: &[String]) -> Result<String, String> {
    let mut rows = Vec::new();
    for (i, endpoint) in endpoints.iter().enumerate() {
        let address: std::net::SocketAddr =
            endpoint.parse().map_err(|e| format!("{endpoint}: {e}"))?;
        rows.push(json!({
            "name": format!("engine-{i}"),
            "address": address.ip().to_string(),
            "port": address.port().to_string(),
            "labels": {"pool": "pool"},
        }));
    }
    Ok(json!({"endpoints": rows}).to_string())
}

/// An `EndpointPickerConfig` (YAML) with the file to find endpoints in, as JSON, which is YAML too.
fn with_endpoints(config: &str, list: &Path) -> Result<String, String> {
    const DISCOVERY: &str = "file-discovery";
    let mut whole: Value = serde_yaml::from_str(config).map_err(|e| e.to_string())?;
    if whole.pointer("/dataLayer/discovery").is_some_and(|d| !d.is_null()) {
        return Err("dataLayer.discovery: it is the bench that says where the engines are".into());
    }
    let document = whole.as_object_mut().ok_or("not an EndpointPickerConfig")?;
    let plugins = document.entry("plugins").or_insert_with(|| json!([]));
    let plugins = plugins.as_array_mut().ok_or("plugins: not a list")?;
    plugins.push(json!({"type": DISCOVERY, "parameters": {"path": list}}));
    let layer = document.entry("dataLayer").or_insert_with(|| json!({}));
    let layer = layer.as_object_mut().ok_or("dataLayer: not a mapping")?;
    layer.insert("discovery".into(), json!({"pluginRef": DISCOVERY}));
    Ok(whole.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_learns_where_the_endpoints_are() {
        let made = with_endpoints("plugins:\n- type: queue-scorer\n", Path::new("/f")).unwrap();
        let made: Value = serde_json::from_str(&made).unwrap();
        assert_eq!(made["plugins"][1]["parameters"]["path"], "/f");
        assert_eq!(made["dataLayer"]["discovery"]["pluginRef"], "file-discovery");
    }

    #[test]
    fn a_configuration_that_cannot_be_told_is_refused() {
        for (config, want) in [
            ("dataLayer: {discovery: {pluginRef: mine}}", "dataLayer.discovery"),
            ("plugins: 3", "plugins"),
            ("dataLayer: 3", "dataLayer"),
            ("- a", "EndpointPickerConfig"),
        ] {
            let e = with_endpoints(config, Path::new("/f")).unwrap_err();
            assert!(e.contains(want), "{config}: {e}");
        }
    }

    #[test]
    fn our_own_loader_reads_what_is_written_for_others() {
        let config = std::fs::read_to_string("config/tutorial.yaml").unwrap();
        let made = with_endpoints(&config, Path::new("/f")).unwrap();
        assert!(made.contains("file-discovery"));
        let list = endpoint_list(&["127.0.0.1:80".to_owned()]).unwrap();
        assert!(list.contains(r#""port":"80""#), "{list}");
    }
}
