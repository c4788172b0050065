use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use crate::api_server::ApiServer;
use crate::cluster::{Cluster, Picker, eventually};
use crate::logs::Warnings;

/// An API server that has none of our kinds at first, gets them, crashes and returns.
#[tokio::test]
async fn an_api_server_that_comes_and_goes() {
    let Some(mut server) = ApiServer::start().await else { return };
    let cluster = Cluster::new(&server).await;
    let (warnings, _guard) = Warnings::capture();
    let picker = Picker::follow_pool(&cluster, "pool").await;
    eventually("the kinds are missed", async || {
        !warnings.with("without inferencepools (inference.networking.k8s.io/v1)").is_empty()
    })
    .await;
    assert!(!picker.pool.is_synced());

    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/crds");
    server.install(&crds).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    for i in 1..=4 {
        cluster.ready_pod(&format!("w{i}"), "vllm", &format!("127.0.0.{i}")).await;
    }
    let [w1, w2, w3, w4, w5] = [1, 2, 3, 4, 5].map(|i| format!("w{i}-rank-0=127.0.0.{i}:8000"));
    picker.has(&[&w1, &w2, &w3, &w4]).await;
    cluster
        .apply(json!({
            "apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceObjective",
            "metadata": {"name": "batch"}, "spec": {"priority": -1, "poolRef": {"name": "pool"}},
        }))
        .await;
    let batch = async |priority| {
        eventually("the objective", async || picker.objectives.priority_of("batch") == priority)
            .await;
    };
    batch(Some(-1)).await;
    let instance = |name: &str| picker.endpoint(name).map(|e| e.instance);
    let before = instance("w1-rank-0");

    server.kill();
    eventually("the loss is noticed", async || {
        !warnings.with("pods (v1): the API server failed").is_empty()
    })
    .await;
    // What is known serves on.
    assert_eq!(picker.endpoints(), [&w1, &w2, &w3, &w4].map(String::as_str));
    assert!(picker.pool.is_synced());
    assert_eq!(picker.objectives.priority_of("batch"), Some(-1));

    // Behind our back, before we are connected again: one goes, one is replaced, one comes.
    server.resume().await;
    cluster.delete_pod("w2").await;
    cluster.delete_pod("w3").await;
    cluster.ready_pod("w3", "vllm", "127.0.0.3").await;
    cluster.ready_pod("w5", "vllm", "127.0.0.5").await;
    let replaced = cluster.pod_uid("w3").await;
    cluster.delete("llm-d.ai/v1alpha2", "InferenceObjective", "batch").await;
    picker.has(&[&w1, &w3, &w4, &w5]).await;
    eventually("the replaced pod is known by its UID", async || {
        picker.endpoint("w3-rank-0").is_some_and(|e| e.spec.uid == replaced)
    })
    .await;
    batch(None).await;
    // Who stayed is the same instance, with all that is remembered of it.
    assert_eq!(instance("w1-rank-0"), before);
    // A kind that goes away for good no longer stands before the older group's.
    let older = |priority| {
        json!({
            "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceObjective",
            "metadata": {"name": "batch"},
            "spec": {"priority": priority, "poolRef": {"name": "pool"}},
        })
    };
    cluster.apply(older(-7)).await;
    eventually("it does not count yet", async || !warnings.with("does not count").is_empty()).await;
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    crds.delete("inferenceobjectives.llm-d.ai", &DeleteParams::default()).await.expect("deleted");
    batch(Some(-7)).await;
    cluster.apply(older(-8)).await;
    batch(Some(-8)).await;
    // What was said of it all is ours: the client library speaks of every attempt, as an error.
    for line in warnings.with("") {
        assert!(line.contains(" epp::"), "{line}");
        assert!(!line.contains("Status {"), "{line}");
    }
}
