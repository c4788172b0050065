//! Everything under `deploy/`, as the API server, Envoy and `epp` itself see it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use epp::cli;
use epp::endpoints::PoolIds;
use epp::loader::{self, LoadOptions};
use serde::Deserialize;
use serde_json::Value;

use crate::api_server::{ApiServer, shared};
use crate::support::envoy;
use crate::support::needs::{self, Need};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of `make kube-tools`, or of the machine.
pub fn tool(name: &str) -> Option<PathBuf> {
    if needs::skipped(Need::Kubernetes) {
        return None;
    }
    let ours = root().join(".tools/kube/bin").join(name);
    let of_the_machine = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists())
    };
    let found = if ours.exists() { Some(ours) } else { of_the_machine() };
    if found.is_none() {
        needs::missing(Need::Kubernetes, &format!("no {name}; `make kube-tools` gets it"));
    }
    found
}

fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

pub fn documents(yaml: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

/// Folders under `parent`, by name.
fn folders(parent: &str) -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(root().join(parent))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    folders
}

/// Every set of objects that someone may apply, by name: kustomize overlays, each with and
/// without each component, and the chart with each of its values files.
fn sets_of_manifests() -> Vec<(String, String)> {
    let mut sets = Vec::new();
    if let Some(kubectl) = tool("kubectl") {
        let here = tempfile::tempdir_in(root().join("deploy/kustomize")).expect("a folder");
        for overlay in folders("deploy/kustomize/overlays") {
            let overlay = overlay.file_name().expect("a name").to_string_lossy().into_owned();
            for components in
                [&[][..], &["leader-election", "metrics"], &["active-active", "metrics"]]
            {
                let listed: String =
                    components.iter().map(|c| format!("- ../components/{c}\n")).collect();
                let kustomization = format!(
                    "namespace: prod\nresources:\n- ../overlays/{overlay}\ncomponents:\n{listed}"
                );
                fs::write(here.path().join("kustomization.yaml"), kustomization).expect("written");
                let yaml = output(Command::new(&kubectl).arg("kustomize").arg(here.path()));
                sets.push((format!("{overlay} with {components:?}"), yaml));
            }
        }
    }
    if let Some(helm) = tool("helm") {
        let chart = root().join("deploy/helm/epp");
        for values in folders("deploy/helm/epp/ci") {
            let yaml = output(
                Command::new(&helm)
                    .args(["template", "vllm"])
                    .arg(&chart)
                    .args(["--namespace=prod", "--values"])
                    .arg(&values),
            );
            sets.push((values.display().to_string(), yaml));
        }
    }
    sets
}

/// The rules of all Roles of the gateway overlay with a leader.
pub fn rules_of_the_gateway_overlay() -> Option<Vec<Value>> {
    let (_, yaml) = sets_of_manifests()
        .into_iter()
        .find(|(set, _)| set.starts_with("gateway with") && set.contains("leader-election"))?;
    let objects = documents(&yaml);
    let roles = objects.iter().filter(|o| kind(o) == "Role");
    Some(roles.flat_map(|o| o["rules"].as_array().expect("rules").clone()).collect())
}

pub fn kind(object: &Value) -> &str {
    object["kind"].as_str().expect("a kind")
}

pub fn containers(object: &Value) -> impl Iterator<Item = &Value> {
    object["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten()
}

/// Arguments of a container, as the kubelet would pass them.
pub fn arguments(container: &Value) -> Vec<String> {
    let list = container["args"].as_array().expect("arguments");
    list.iter().map(|a| a.as_str().expect("a string").to_owned()).collect()
}

#[test]
fn epp_takes_its_arguments_and_configuration() {
    for (set, yaml) in sets_of_manifests() {
        let objects = documents(&yaml);
        let mut started = 0;
        for container in objects.iter().flat_map(containers).filter(|c| c["name"] == "epp") {
            let arguments = arguments(container);
            let parsed = cli::parse(&arguments, |_| None);
            assert!(parsed.is_ok(), "{set}: {arguments:?}: {parsed:?}");
            started += 1;
        }
        assert_eq!(started, 1, "{set}");
        for map in objects.iter().filter(|o| kind(o) == "ConfigMap") {
            for (file, text) in map["data"].as_object().expect("data") {
                let text = text.as_str().expect("text");
                if !text.contains("kind: EndpointPickerConfig") {
                    continue;
                }
                let (pipeline, found) =
                    loader::load(file, Some(text), &LoadOptions::default(), &PoolIds::default());
                assert!(pipeline.is_some(), "{set}: {found}");
                assert_eq!(found.to_string(), "", "{set}");
            }
        }
    }
}

#[test]
fn the_tutorials_arguments_and_configuration() {
    let read = |file: &str| {
        let text = fs::read_to_string(root().join("deploy/tutorial").join(file)).expect("readable");
        documents(&text).remove(0)
    };
    let template = read("30-llm-inference-service-config.yaml");
    let container = &template["spec"]["router"]["scheduler"]["template"]["containers"][0];
    // What the controller makes of the templates in them.
    let arguments: Vec<_> = arguments(container)
        .iter()
        .map(|a| {
            a.replace("{{ .ObjectMeta.Namespace }}", "kserve-test").replace(
                "{{ ChildName .ObjectMeta.Name `-inference-pool` }}",
                "qwen-instruct-inference-pool",
            )
        })
        .collect();
    let parsed = cli::parse(&arguments, |_| None).expect("accepted");
    let cli::Command::Serve(options) = parsed else { panic!("not to serve: {arguments:?}") };
    assert_eq!(options.namespace, "kserve-test");
    assert_eq!(
        options.workers,
        cli::WorkerSource::Pool { name: "qwen-instruct-inference-pool".into(), group: None }
    );
    let map = read("20-endpoint-picker-config.yaml");
    let text = map["data"]["endpoint-picker-config.yaml"].as_str().expect("text");
    let (pipeline, found) =
        loader::load("tutorial", Some(text), &LoadOptions::default(), &PoolIds::default());
    assert!(pipeline.is_some(), "{found}");
    // Today's KServe takes the same configuration with the service.
    let today = read("today/40-llm-inference-service.yaml");
    let inline = &today["spec"]["router"]["scheduler"]["config"]["inline"];
    let original: Value = serde_yaml::from_str(text).expect("YAML");
    assert_eq!(*inline, original);
}

/// Least privilege, in every set: nobody runs as root, writes to the image's file system or keeps
/// a capability, and no rule lets anything be written that the picker does not write.
#[test]
fn pods_and_roles_have_no_more_than_they_need() {
    let writes: BTreeSet<_> =
        ["create", "update", "patch", "delete", "deletecollection", "*"].into();
    for (set, yaml) in sets_of_manifests() {
        for object in documents(&yaml) {
            for container in containers(&object) {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false, "{set}");
                assert_eq!(context["readOnlyRootFilesystem"], true, "{set}");
                assert_eq!(context["capabilities"]["drop"][0], "ALL", "{set}");
                let pod = &object["spec"]["template"]["spec"]["securityContext"];
                assert_eq!(pod["runAsNonRoot"], true, "{set}");
                assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{set}");
            }
            for rule in object["rules"].as_array().into_iter().flatten() {
                let verbs = rule["verbs"].as_array().expect("verbs");
                let writing = verbs.iter().any(|v| writes.contains(v.as_str().expect("a verb")));
                let leases = rule["resources"] == serde_json::json!(["leases"]);
                assert!(!writing || leases, "{set}: {rule}");
            }
        }
    }
}

fn kubectl(server: &ApiServer, arguments: &[&str]) -> Option<Command> {
    let mut command = Command::new(tool("kubectl")?);
    command.arg("--kubeconfig").arg(server.kubeconfig("admin")).args(arguments);
    Some(command)
}

/// Objects of projects beside ours can be checked where their CRDs were fetched.
async fn neighbours_are_installed(server: &ApiServer) -> bool {
    let crds = root().join(".tools/kube/crds");
    if !crds.join("done").exists() {
        let why = "no CRDs of Gateway API, KServe, ...; `make kube-tools` gets them";
        needs::missing(Need::Kubernetes, why);
        return false;
    }
    static INSTALLED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    INSTALLED
        .get_or_init(|| async {
            server.install(&crds).await;
            server.install(&root().join("tests/fixtures/neighbours")).await;
        })
        .await;
    true
}

#[tokio::test]
async fn the_api_server_accepts_every_manifest() {
    let Some(server) = shared().await else { return };
    if !neighbours_are_installed(server).await {
        return;
    }
    let Some(mut create) = kubectl(server, &["create", "namespace", "prod"]) else { return };
    output(&mut create);
    for (set, yaml) in sets_of_manifests() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        // Istio's and GKE's kinds are theirs to publish, and not as Go modules.
        let known: Vec<_> = documents(&yaml)
            .into_iter()
            .filter(|o| {
                let group = o["apiVersion"].as_str().expect("a version");
                !group.starts_with("networking.istio.io/")
                    && !group.starts_with("networking.gke.io/")
            })
            .collect();
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": known});
        fs::write(file.path(), list.to_string()).expect("written");
        let path = file.path().display().to_string();
        let arguments = ["apply", "--server-side", "--dry-run=server", "-n", "prod", "-f", &path];
        let accepted = output(&mut kubectl(server, &arguments).expect("kubectl"));
        assert_eq!(accepted.lines().count(), known.len(), "{set}: {accepted}");
    }
}

/// Not a dry run: what a user types, into an empty cluster, in the order of the files.
#[tokio::test]
async fn the_tutorial_applies_in_order() {
    let Some(server) = shared().await else { return };
    if !neighbours_are_installed(server).await {
        return;
    }
    let folder = root().join("deploy/tutorial").display().to_string();
    let Some(mut apply) = kubectl(server, &["apply", "-f", &folder]) else { return };
    let applied = output(&mut apply);
    let kinds: Vec<_> = applied.lines().filter_map(|l| l.split(['.', '/']).next()).collect();
    assert_eq!(
        kinds,
        [
            "namespace",
            "gatewayclass",
            "gateway",
            "configmap",
            "llminferenceserviceconfig",
            "llminferenceservice",
            "aigatewayroute",
            "backendtrafficpolicy",
        ],
        "{applied}"
    );
}

/// Envoy's configurations, wherever they are.
#[test]
fn envoy_accepts_its_configurations() {
    let Some(binary) = envoy::binary() else { return };
    let mut configurations = BTreeSet::new();
    for (_, yaml) in sets_of_manifests() {
        for map in documents(&yaml).iter().filter(|o| kind(o) == "ConfigMap") {
            if let Some(text) = map["data"]["envoy.yaml"].as_str() {
                configurations.insert(text.to_owned());
            }
        }
    }
    for text in configurations {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
        fs::write(file.path(), &text).expect("written");
        output(Command::new(&binary).args(["--mode", "validate", "-c"]).arg(file.path()));
    }
}

/// The overlays' Envoys are the chart's: `make manifests` writes them. And all do with connections
/// to workers what the one beside a plain Envoy does.
#[test]
fn envoys_configurations_agree() {
    let sets = sets_of_manifests();
    let envoy_of = |start: &str| -> Option<Value> {
        let (_, yaml) = sets.iter().find(|(set, _)| set.contains(start))?;
        let objects = documents(yaml);
        let text = objects.iter().find_map(|o| o["data"]["envoy.yaml"].as_str())?;
        Some(serde_yaml::from_str(&text.replace("vllm-epp", "epp")).expect("YAML"))
    };
    let standalone = fs::read_to_string(root().join("deploy/envoy/standalone.yaml"));
    let standalone: Value = serde_yaml::from_str(&standalone.expect("readable")).expect("YAML");
    for mode in ["sidecar", "service"] {
        let chart = envoy_of(&format!("standalone-{mode}-values"));
        let overlay = envoy_of(&format!("standalone-{mode} with []"));
        let (Some(chart), Some(overlay)) = (chart, overlay) else { return };
        assert_eq!(chart, overlay, "{mode}: run `make manifests`");
        assert_eq!(retries(&chart), retries(&standalone), "{mode}");
        assert_eq!(to_workers(&chart), to_workers(&standalone), "{mode}");
    }
}

/// What the route to the workers does where a connection fails.
fn retries(envoy: &Value) -> &Value {
    let listeners = envoy["static_resources"]["listeners"].as_array().expect("listeners");
    let gateway = listeners.iter().find(|l| l["name"] == "gateway").expect("the gateway");
    let policy = "/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0/route/retry_policy";
    gateway.pointer(policy).expect("a retry policy")
}

/// How connections to the workers are kept.
fn to_workers(envoy: &Value) -> &Value {
    let clusters = envoy["static_resources"]["clusters"].as_array().expect("clusters");
    let cluster = clusters.iter().find(|c| c["name"] == "picked_worker").expect("the workers");
    &cluster["typed_extension_protocol_options"]
}
