use epp::discovery::kubernetes::{KubernetesOptions, Source};
use epp::kubernetes::{LeaderElection, LeaderOptions};
use epp::objectives::criticality;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::api_server::shared;
use crate::cluster::{Cluster, Picker, eventually};
use crate::logs::Warnings;
use crate::manifests::rules_of_the_gateway_overlay;

/// Grants `user` what `rules` say, in the namespace.
async fn grant(cluster: &Cluster, user: &str, rules: Value) {
    cluster
        .apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": user}, "rules": rules,
        }))
        .await;
    cluster
        .apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
            "subjects": [{"kind": "User", "name": user}],
        }))
        .await;
}

fn options(cluster: &Cluster) -> KubernetesOptions {
    let source = Source::Pool { name: "pool".into(), group: None };
    KubernetesOptions::new(source, &cluster.namespace)
}

/// KServe 0.16 lets its scheduler read pods, v1alpha2 pools and models, and nothing else.
#[tokio::test]
async fn the_rights_of_the_tutorial_are_enough() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = Warnings::capture();
    let read = json!(["get", "list", "watch"]);
    grant(
        &cluster,
        "tutorial",
        json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": read},
            {"apiGroups": ["inference.networking.x-k8s.io"],
             "resources": ["inferencepools", "inferencemodels"], "verbs": read},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        ]),
    )
    .await;
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    cluster.pool_v1alpha2("pool", json!({"app": "vllm"}), 8000).await;
    cluster
        .apply(json!({
            "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel",
            "metadata": {"name": "qwen"},
            "spec": {"modelName": "Qwen/Qwen2.5-0.5B-Instruct", "criticality": "Critical",
                "poolRef": {"name": "pool"}},
        }))
        .await;

    let picker = Picker::start(&server.client("tutorial").await, options(&cluster)).await;
    picker.has(&["w-rank-0=127.0.0.1:8000"]).await;
    picker.is_synced(true).await;
    let priority = |model: &str| picker.objectives.priority(None, model);
    eventually("the model is known", async || {
        priority("Qwen/Qwen2.5-0.5B-Instruct") == criticality::CRITICAL
    })
    .await;
    assert_eq!(priority("unheard-of"), criticality::SHEDDABLE);

    // What the Role lacks is one line that says what goes on without.
    let refused = [
        "without inferencepools (inference.networking.k8s.io/v1): no pool is taken from there",
        "without inferenceobjectives (inference.networking.x-k8s.io/v1alpha2), \
         inferenceobjectives (llm-d.ai/v1alpha2): no priorities by name from there",
        "without inferencemodelrewrites (inference.networking.x-k8s.io/v1alpha2), \
         inferencemodelrewrites (llm-d.ai/v1alpha2): \
         models are asked for by the names that requests give",
    ];
    for kind in refused {
        eventually(kind, async || !warnings.with(kind).is_empty()).await;
    }
    // A right granted later is used; by then every kind was looked for twice at least.
    grant(
        &cluster,
        "picker",
        json!([{"apiGroups": ["llm-d.ai"], "resources": ["*"], "verbs": read}]),
    )
    .await;
    let binding = json!({"subjects": [{"kind": "User", "name": "tutorial"}]});
    cluster
        .api("rbac.authorization.k8s.io/v1", "RoleBinding")
        .patch("picker", &PatchParams::default(), &Patch::Merge(&binding))
        .await
        .expect("accepted");
    cluster
        .apply(json!({
            "apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceObjective",
            "metadata": {"name": "late"},
            "spec": {"priority": 4, "poolRef":
                {"group": "inference.networking.x-k8s.io", "name": "pool"}},
        }))
        .await;
    eventually("the objective is known", async || picker.objectives.priority_of("late") == Some(4))
        .await;
    // The rights were looked for again and again, yet nothing else was said of it.
    let said = warnings.with("");
    assert_eq!(said.len(), 1, "{said:#?}");
    for kind in refused {
        assert!(said[0].contains(kind), "{said:?}");
    }
    // One sentence for a human: who may not do what. No structures of a library.
    assert!(said[0].contains("\"tutorial\" cannot list resource"), "{said:?}");
    assert!(!said[0].contains("Status {"), "{said:?}");
}

/// Lists without watches: what changes is found by listing again, at a pace that neither the API
/// server nor the reader of the log has to suffer from.
#[tokio::test]
async fn no_right_to_watch_pods() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = Warnings::capture();
    let rules = json!([
        {"apiGroups": ["inference.networking.k8s.io"], "resources": ["inferencepools"],
         "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]);
    grant(&cluster, "picker", rules).await;
    cluster.ready_pod("a", "vllm", "127.0.0.1").await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    let picker = Picker::start(&server.client("picker").await, options(&cluster)).await;
    picker.has(&["a-rank-0=127.0.0.1:8000"]).await;
    cluster.ready_pod("b", "vllm", "127.0.0.2").await;
    picker.has(&["a-rank-0=127.0.0.1:8000", "b-rank-0=127.0.0.2:8000"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let said = warnings.with("pods");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("cannot watch resource"), "{said:?}");
}

/// The Roles that we ship are enough for discovery and the election, with nothing missed.
#[tokio::test]
async fn the_rights_of_our_manifests_are_enough() {
    let Some(server) = shared().await else { return };
    let Some(rules) = rules_of_the_gateway_overlay() else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = Warnings::capture();
    grant(&cluster, "picker", rules.into()).await;
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    cluster
        .apply(json!({
            "apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceObjective",
            "metadata": {"name": "batch"}, "spec": {"priority": -1, "poolRef": {"name": "pool"}},
        }))
        .await;
    let client = server.client("picker").await;
    // Rights reach the authorizer a moment after they are written.
    let pods = kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(
        client.clone(),
        &cluster.namespace,
    );
    eventually("the rights are there", async || pods.list(&Default::default()).await.is_ok()).await;

    let picker = Picker::start(&client, options(&cluster)).await;
    picker.has(&["w-rank-0=127.0.0.1:8000"]).await;
    eventually("the objective is known", async || {
        picker.objectives.priority_of("batch") == Some(-1)
    })
    .await;
    let election =
        LeaderElection::start(client, LeaderOptions::new(&cluster.namespace, "pool", "picker"));
    let mut leader = election.leader();
    leader.wait_for(|leads| *leads).await.expect("the election goes on");
    election.release().await;
    for trouble in ["cannot be read", "without", "lease"] {
        assert_eq!(warnings.with(trouble), Vec::<String>::new());
    }
}

/// Without the right to read pods nothing can be picked: not synced, one line, and no end.
#[tokio::test]
async fn no_right_to_read_pods() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = Warnings::capture();
    let read = json!(["get", "list", "watch"]);
    let pools = |resources: Value| {
        json!([
            {"apiGroups": ["inference.networking.k8s.io"], "resources": ["inferencepools"],
             "verbs": read},
            {"apiGroups": [""], "resources": resources, "verbs": read},
        ])
    };
    grant(&cluster, "picker", pools(json!(["services"]))).await;
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    let picker = Picker::start(&server.client("picker").await, options(&cluster)).await;
    eventually("it is said", async || !warnings.with("pods (v1) cannot be read").is_empty()).await;
    assert!(!picker.pool.is_synced());
    grant(&cluster, "picker", pools(json!(["services", "pods"]))).await;
    picker.has(&["w-rank-0=127.0.0.1:8000"]).await;
    picker.is_synced(true).await;
    assert_eq!(warnings.with("pods (v1) cannot be read").len(), 1);
}
