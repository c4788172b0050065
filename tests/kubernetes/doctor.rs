//! `epp doctor` against the API server: objects that do not fit one another, and rights that are
//! missing.

use std::process::Command;

use serde_json::{Value, json};

use crate::api_server::{ApiServer, shared};
use crate::cluster::{Cluster, eventually};

/// What `epp doctor` says of `pool` as `user`: the exit status and the findings.
async fn doctor(
    server: &ApiServer,
    cluster: &Cluster,
    user: &str,
    more: &[&str],
) -> (Option<i32>, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
    command
        .args(["doctor", "-o", "json", "--only=kubernetes", "--patience=300ms"])
        .arg(format!("--kubeconfig={}", server.kubeconfig(user).display()))
        .arg(format!("--pool-namespace={}", cluster.namespace))
        .args(more);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("epp can be started");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().expect("a list").clone();
    (output.status.code(), findings)
}

#[track_caller]
fn must_have(findings: &[Value], severity: &str, check: &str, what: &str, change: &str) {
    let says = |f: &Value, key: &str, part: &str| {
        part.is_empty() || f[key].as_str().is_some_and(|text| text.contains(part))
    };
    let has = findings.iter().any(|f| {
        f["severity"] == severity
            && f["check"] == check
            && says(f, "what", what)
            && says(f, "change", change)
    });
    assert!(has, "{severity} {check} '{what}' -> '{change}': {findings:#?}");
}

fn problems(findings: &[Value]) -> Vec<&Value> {
    findings.iter().filter(|f| f["severity"] == "problem").collect()
}

impl Cluster {
    async fn service(&self, name: &str, app: &str, port: u16) {
        self.apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": app}, "ports": [{"port": port}]},
        }))
        .await;
    }

    /// A ready pod whose container says that it serves a port.
    async fn worker(&self, name: &str, app: &str, port: u16) {
        self.apply(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"containers": [
                {"name": "main", "image": "none", "ports": [{"containerPort": port}]}]},
        }))
        .await;
        self.set_pod(name, "127.0.0.1", true).await;
    }

    /// All that epp needs; its pods run as the ServiceAccount `default`, which may do everything.
    async fn healthy(&self) {
        let account =
            json!({"kind": "ServiceAccount", "name": "default", "namespace": self.namespace});
        self.apply_cluster_wide(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("doctor-{}", self.namespace)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "cluster-admin"},
            "subjects": [account],
        }))
        .await;
        self.pool_v1("pool", "vllm", &[8000]).await;
        self.worker("w", "vllm", 8000).await;
        self.service("epp", "epp", 9002).await;
        self.ready_pod("epp-0", "epp", "127.0.0.2").await;
    }
}

#[tokio::test]
async fn objects_that_fit_have_no_problem() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.healthy().await;
    // Rights reach the authorizer a moment after they are written.
    eventually("nothing is wrong", async || {
        doctor(server, &cluster, "admin", &["--pool-name=pool"]).await.0 == Some(0)
    })
    .await;
    let (code, findings) = doctor(server, &cluster, "admin", &["--pool-name=pool"]).await;
    assert_eq!(problems(&findings), [&Value::Null; 0], "{findings:#?}");
    assert_eq!(code, Some(0));
    must_have(&findings, "ok", "pool", "selects app=vllm at port 8000", "");
    must_have(&findings, "ok", "pods", "1 of 1 pods", "");
    must_have(&findings, "ok", "picker-service", "Service epp:9002, FailClose", "");
    must_have(&findings, "ok", "rights", "ServiceAccount default has the", "");
    let selector = ["--endpoint-selector=app=vllm", "--endpoint-target-ports=8000"];
    let (code, findings) = doctor(server, &cluster, "admin", &selector).await;
    assert_eq!(code, Some(0), "{findings:#?}");
}

#[tokio::test]
async fn each_object_that_does_not_fit_is_found() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.healthy().await;
    let look = async |more: &[&str]| doctor(server, &cluster, "admin", more).await.1;

    let findings = look(&["--pool-name=pol"]).await;
    must_have(&findings, "problem", "pool", "no InferencePool 'pol'", "--pool-name");
    let group = "--pool-group=inference.networking.x-k8s.io";
    let findings = look(&["--pool-name=pool", group]).await;
    must_have(&findings, "problem", "pool", "not in the group asked for", "--pool-group");

    cluster.pool_v1("typo", "vlm", &[8000]).await;
    let findings = look(&["--pool-name=typo"]).await;
    must_have(&findings, "problem", "pods", "no pod has app=vlm; the nearest is", "spec.selector");
    cluster.pool_v1("port", "vllm", &[8001]).await;
    let findings = look(&["--pool-name=port"]).await;
    must_have(&findings, "problem", "target-port", "no container port 8001; it has 8000", "port");

    cluster.create_pod("late", "vllm").await;
    let findings = look(&["--pool-name=pool"]).await;
    must_have(&findings, "problem", "pods", "is not ready", "kubectl describe pod late");
    must_have(&findings, "ok", "pods", "1 of 2 pods", "");
    cluster.begin_delete_pod("late").await;

    cluster.pool_v1alpha2("pool", json!({"app": "vllm"}), 8000).await;
    let findings = look(&["--pool-name=pool"]).await;
    must_have(&findings, "note", "pool", "in both groups", "--pool-group");

    let reference = |name: &str, reference: Value| {
        json!({
            "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": [{"number": 8000}],
                "endpointPickerRef": reference},
        })
    };
    cluster.service("empty", "nobody", 9002).await;
    for (name, of, severity, check, what, change) in [
        (
            "a",
            json!({"name": "nowhere", "port": {"number": 9002}}),
            "problem",
            "picker-service",
            "refers to Service nowhere, which is not in",
            "endpointPickerRef.name",
        ),
        (
            "b",
            json!({"name": "epp", "port": {"number": 9003}}),
            "problem",
            "picker-service",
            "port 9003 of Service epp, which has 9002",
            "port.number",
        ),
        (
            "c",
            json!({"name": "empty", "port": {"number": 9002}}),
            "problem",
            "picker-service",
            "selects no pod",
            "selector",
        ),
        (
            "d",
            json!({"name": "epp", "port": {"number": 9002}, "failureMode": "FailOpen"}),
            "note",
            "failure-mode",
            "FailOpen",
            "FailClose",
        ),
    ] {
        cluster.apply(reference(name, of)).await;
        let findings = look(&[&format!("--pool-name={name}")]).await;
        must_have(&findings, severity, check, what, change);
    }
}

/// Whoever asks may do everything here: it is the picker's account that matters.
#[tokio::test]
async fn the_rights_are_those_of_the_account_behind_the_service() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    cluster.worker("w", "vllm", 8000).await;
    cluster.service("epp", "epp", 9002).await;
    cluster
        .apply(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "epp-0", "labels": {"app": "epp"}},
            "spec": {"serviceAccountName": "picker-account",
                "containers": [{"name": "main", "image": "none"}]},
        }))
        .await;
    let flags = ["--pool-name=pool", "--metrics-endpoint-auth=false"];
    let (code, findings) = doctor(server, &cluster, "admin", &flags).await;
    assert_eq!(code, Some(1));
    let what = "ServiceAccount picker-account may not list, watch pods";
    must_have(&findings, "problem", "rights", what, "resources: [pods]");
    let read = json!(["get", "list", "watch"]);
    cluster
        .apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "picker"},
            "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": read},
                {"apiGroups": ["inference.networking.k8s.io", "inference.networking.x-k8s.io",
                    "llm-d.ai"], "resources": ["*"], "verbs": read},
            ],
        }))
        .await;
    cluster
        .apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "picker"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "picker"},
            "subjects": [{"kind": "ServiceAccount", "name": "picker-account",
                "namespace": cluster.namespace}],
        }))
        .await;
    // Rights reach the authorizer a moment after they are written.
    eventually("nothing is wrong", async || {
        doctor(server, &cluster, "admin", &flags).await.0 == Some(0)
    })
    .await;
    let (_, findings) = doctor(server, &cluster, "admin", &flags).await;
    must_have(&findings, "ok", "rights", "ServiceAccount picker-account has the", "");
}

#[tokio::test]
async fn missing_rights_are_found_with_the_rule_to_add() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.healthy().await;
    let flags = ["--pool-name=pool", "--ha-enable-leader-election"];
    let (code, findings) = doctor(server, &cluster, "stranger", &flags).await;
    assert_eq!(code, Some(1));
    for (what, change) in [
        ("may not list, watch pods", "Role: {apiGroups: [\"\"], resources: [pods], verbs: [list"),
        ("inferencepools.inference.networking.k8s.io", "resources: [inferencepools]"),
        ("may not get, create, update leases.coordination.k8s.io", "resources: [leases]"),
        ("may not create tokenreviews.authentication.k8s.io", "ClusterRole"),
    ] {
        must_have(&findings, "problem", "rights", what, change);
    }
    must_have(&findings, "note", "rights", "inferenceobjectives.llm-d.ai", "list, watch");
    must_have(&findings, "problem", "pool", "cannot get resource", "Role");
}
