use std::time::Duration;

use epp::discovery::kubernetes::{
    AppProtocol, KubernetesError, KubernetesOptions, PoolGroup, Source, start,
};
use epp::endpoints::Pool;
use epp::objectives::Objectives;
use serde_json::json;

use crate::api_server::shared;
use crate::cluster::{Cluster, Picker, eventually};
use crate::logs::Warnings;

const V1: &str = "inference.networking.k8s.io/v1";
const V1ALPHA2: &str = "inference.networking.x-k8s.io/v1alpha2";

#[tokio::test]
async fn a_pool_that_appears_changes_goes_and_returns() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = Warnings::capture();
    cluster.ready_pod("a", "vllm", "127.0.0.1").await;
    cluster.ready_pod("b", "other", "127.0.0.2").await;

    let picker = Picker::follow_pool(&cluster, "pool").await;
    eventually("the absence is known", async || !warnings.with("is not there").is_empty()).await;
    assert!(!picker.pool.is_synced());

    cluster.pool_v1("pool", "vllm", &[8000, 8001]).await;
    picker.has(&["a-rank-0=127.0.0.1:8000", "a-rank-1=127.0.0.1:8001"]).await;
    picker.is_synced(true).await;
    let spec = picker.handle.pool().borrow().spec().cloned().expect("present");
    assert_eq!((spec.group, spec.app_protocol), (Some(PoolGroup::V1), Some(AppProtocol::Http)));
    let kept = picker.endpoint("a-rank-1").expect("there").instance;

    // The rank is the port's place in the list: 8001 is another endpoint when it moves.
    cluster.pool_v1("pool", "vllm", &[8001]).await;
    picker.has(&["a-rank-0=127.0.0.1:8001"]).await;
    cluster.pool_v1("pool", "vllm", &[8000, 8001]).await;
    picker.has(&["a-rank-0=127.0.0.1:8000", "a-rank-1=127.0.0.1:8001"]).await;
    assert_ne!(picker.endpoint("a-rank-1").expect("there").instance, kept);

    cluster.pool_v1("pool", "other", &[9000]).await;
    picker.has(&["b-rank-0=127.0.0.2:9000"]).await;
    // Events of pods that are no longer selected change nothing, those of the new ones do.
    cluster.delete_pod("a").await;
    cluster.ready_pod("c", "other", "127.0.0.3").await;
    picker.has(&["b-rank-0=127.0.0.2:9000", "c-rank-0=127.0.0.3:9000"]).await;

    cluster.delete(V1, "InferencePool", "pool").await;
    picker.has(&[]).await;
    picker.is_synced(false).await;

    cluster.pool_v1("pool", "other", &[9000]).await;
    picker.has(&["b-rank-0=127.0.0.2:9000", "c-rank-0=127.0.0.3:9000"]).await;
    picker.is_synced(true).await;
}

#[tokio::test]
async fn an_empty_pool_is_known_to_be_empty() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    let picker = Picker::follow_pool(&cluster, "pool").await;
    picker.is_synced(true).await;
    assert!(picker.endpoints().is_empty());
}

#[tokio::test]
async fn a_pod_through_its_life() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    // One that stays, to tell "nothing happened yet" from "nothing is to be seen".
    cluster.ready_pod("other", "vllm", "127.0.0.9").await;
    let other = "other-rank-0=127.0.0.9:8000";
    let picker = Picker::follow_pool(&cluster, "pool").await;
    picker.has(&[other]).await;

    cluster.create_pod("w", "vllm").await;
    cluster.set_pod("w", "127.0.0.1", false).await;
    cluster.ready_pod("marker", "vllm", "127.0.0.8").await;
    picker.has(&[other, "marker-rank-0=127.0.0.8:8000"]).await;
    cluster.delete_pod("marker").await;
    picker.has(&[other]).await;

    cluster.set_pod("w", "127.0.0.1", true).await;
    let serving = "w-rank-0=127.0.0.1:8000";
    picker.has(&[other, serving]).await;
    let first = picker.endpoint("w-rank-0").expect("there");
    assert_eq!(first.spec.uid, cluster.pod_uid("w").await);
    assert_eq!(first.spec.pod_name, "w");

    // Labels follow without the worker becoming another.
    cluster.patch_pod_metadata("w", json!({"labels": {"llm-d.ai/role": "decode"}})).await;
    eventually("the label is there", async || first.labels().contains_key("llm-d.ai/role")).await;
    assert_eq!(picker.endpoint("w-rank-0").expect("there").instance, first.instance);

    cluster.set_pod("w", "127.0.0.1", false).await;
    picker.has(&[other]).await;
    cluster.set_pod("w", "127.0.0.1", true).await;
    picker.has(&[other, serving]).await;

    // A label that is no longer selected.
    cluster.patch_pod_metadata("w", json!({"labels": {"app": "retired"}})).await;
    picker.has(&[other]).await;
    cluster.patch_pod_metadata("w", json!({"labels": {"app": "vllm"}})).await;
    picker.has(&[other, serving]).await;

    // Terminating, but still there and still "ready": a finalizer holds it.
    cluster.patch_pod_metadata("w", json!({"finalizers": ["test/hold"]})).await;
    cluster.begin_delete_pod("w").await;
    picker.has(&[other]).await;
    cluster.patch_pod_metadata("w", json!({"finalizers": null})).await;
    eventually("the pod is gone", async || {
        cluster.api("v1", "Pod").get_opt("w").await.expect("read").is_none()
    })
    .await;

    // Another pod under the same name and address is another worker.
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    picker.has(&[other, serving]).await;
    let second = picker.endpoint("w-rank-0").expect("there");
    assert_ne!(second.instance, first.instance);
    assert_ne!(second.spec.uid, first.spec.uid);
}

#[tokio::test]
async fn active_ports_of_a_pod() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = Warnings::capture();
    cluster.pool_v1("pool", "vllm", &[8000, 8001, 8002]).await;
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    let picker = Picker::follow_pool(&cluster, "pool").await;
    let [zero, one, two] = [0, 1, 2].map(|rank| format!("w-rank-{rank}=127.0.0.1:{}", 8000 + rank));
    picker.has(&[&zero, &one, &two]).await;
    let kept = picker.endpoint("w-rank-2").expect("there").instance;

    let annotate = async |value| {
        let annotations = json!({"annotations": {"llm-d.ai/active-ports": value}});
        cluster.patch_pod_metadata("w", annotations).await;
    };
    annotate(Some("8000,8002")).await;
    picker.has(&[&zero, &two]).await;
    annotate(Some("8002,not-a-port")).await;
    picker.has(&[&two]).await;
    assert_eq!(picker.endpoint("w-rank-2").expect("there").instance, kept);
    annotate(Some("")).await;
    picker.has(&[]).await;
    annotate(None).await;
    picker.has(&[&zero, &one, &two]).await;

    let said = warnings.with("not-a-port");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(&format!("pod {}/w", cluster.namespace)), "{said:?}");
}

#[tokio::test]
async fn the_newer_group_wins_and_the_older_takes_over() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = Warnings::capture();
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    cluster.pool_v1alpha2("pool", json!({"app": "vllm"}), 7000).await;
    let picker = Picker::follow_pool(&cluster, "pool").await;
    picker.has(&["w-rank-0=127.0.0.1:7000"]).await;

    cluster.pool_v1("pool", "vllm", &[8000]).await;
    picker.has(&["w-rank-0=127.0.0.1:8000"]).await;
    let said = warnings.with("in both groups");
    assert_eq!(said.len(), 1, "{said:?}");

    let options = |group| {
        let source = Source::Pool { name: "pool".into(), group };
        KubernetesOptions::new(source, &cluster.namespace)
    };
    let older = Picker::start(&cluster.client, options(Some(PoolGroup::V1Alpha2))).await;
    older.has(&["w-rank-0=127.0.0.1:7000"]).await;

    cluster.delete(V1, "InferencePool", "pool").await;
    picker.has(&["w-rank-0=127.0.0.1:7000"]).await;
    cluster.delete(V1ALPHA2, "InferencePool", "pool").await;
    picker.is_synced(false).await;
    picker.has(&[]).await;
}

#[tokio::test]
async fn a_pool_that_cannot_be_used_is_one_line() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = Warnings::capture();
    cluster.ready_pod("w", "vllm", "127.0.0.1").await;
    // As KServe writes it before its controller fills in the selector.
    cluster.pool_v1alpha2("pool", json!({}), 8000).await;
    let picker = Picker::follow_pool(&cluster, "pool").await;
    let said = || warnings.with("cannot be used");
    eventually("it is said", async || !said().is_empty()).await;
    assert!(!picker.pool.is_synced());
    cluster.pool_v1alpha2("pool", json!({"app": "vllm"}), 8000).await;
    picker.has(&["w-rank-0=127.0.0.1:8000"]).await;

    // Once in use, a pool that loses its selector stays as it was.
    let emptied = json!({"spec": {"selector": {"app": null}}});
    cluster
        .api(V1ALPHA2, "InferencePool")
        .patch("pool", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&emptied))
        .await
        .expect("accepted");
    eventually("it is said again", async || said().len() == 2).await;
    assert_eq!(picker.endpoints(), ["w-rank-0=127.0.0.1:8000"]);
    assert!(picker.pool.is_synced());
    assert!(said()[0].contains(&format!("{}/pool", cluster.namespace)), "{:?}", said());
}

#[tokio::test]
async fn a_selector_in_the_place_of_a_pool() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.ready_pod("a", "vllm", "127.0.0.1").await;
    cluster.ready_pod("b", "sglang", "127.0.0.2").await;
    cluster.ready_pod("c", "other", "127.0.0.3").await;
    let options = |labels: &str| {
        let source = Source::Selector { labels: labels.into(), target_ports: vec![8000, 8001] };
        KubernetesOptions::new(source, &cluster.namespace)
    };
    let picker = Picker::start(&cluster.client, options("app in (vllm, sglang),!retired")).await;
    let [a0, a1, b0, b1] = [
        "a-rank-0=127.0.0.1:8000",
        "a-rank-1=127.0.0.1:8001",
        "b-rank-0=127.0.0.2:8000",
        "b-rank-1=127.0.0.2:8001",
    ];
    picker.has(&[a0, a1, b0, b1]).await;
    picker.is_synced(true).await;
    cluster.patch_pod_metadata("b", json!({"labels": {"retired": "true"}})).await;
    picker.has(&[a0, a1]).await;

    let refused = start(
        cluster.client.clone(),
        options("app in vllm"),
        Pool::new().into(),
        Objectives::default().into(),
    )
    .await;
    let Err(KubernetesError::Selector { message, .. }) = refused else {
        panic!("a broken selector was accepted");
    };
    assert!(!message.is_empty());
}

/// Half a thousand pods come, change and go at once; in the end the pool holds exactly those
/// that serve.
#[tokio::test]
async fn five_hundred_pods_churning() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    let picker = Picker::follow_pool(&cluster, "pool").await;
    let address = |i: usize| format!("127.1.{}.{}", i / 250, i % 250 + 1);
    // A pod's fate by its number: gone, not ready, at a new address, replaced, or as it was.
    let churn = async |i: usize| {
        let name = format!("w{i}");
        cluster.ready_pod(&name, "vllm", &address(i)).await;
        match i % 5 {
            0 => cluster.delete_pod(&name).await,
            1 => cluster.set_pod(&name, &address(i), false).await,
            2 => cluster.set_pod(&name, &address(i + 500), true).await,
            3 => {
                cluster.delete_pod(&name).await;
                cluster.ready_pod(&name, "vllm", &address(i)).await;
            }
            _ => {}
        }
    };
    let mut at_once = futures_util::stream::FuturesUnordered::new();
    for i in 0..500 {
        at_once.push(churn(i));
        if at_once.len() == 32 {
            futures_util::StreamExt::next(&mut at_once).await;
        }
    }
    while futures_util::StreamExt::next(&mut at_once).await.is_some() {}
    let expected: Vec<_> = (0..500)
        .filter(|i| i % 5 > 1)
        .map(|i| {
            let at = address(if i % 5 == 2 { i + 500 } else { i });
            format!("w{i}-rank-0={at}:8000")
        })
        .collect();
    picker.has(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for i in [3, 498] {
        let endpoint = picker.endpoint(&format!("w{i}-rank-0")).expect("there");
        assert_eq!(endpoint.spec.uid, cluster.pod_uid(&format!("w{i}")).await);
    }
    // Nothing trails behind.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(picker.endpoints().len(), expected.len());
}
