use epp::objectives::criticality;
use serde_json::{Value, json};

use crate::api_server::shared;
use crate::cluster::{Cluster, Picker, eventually};
use crate::logs::Warnings;

const CURRENT: &str = "llm-d.ai/v1alpha2";
const OLDER: &str = "inference.networking.x-k8s.io/v1alpha2";
const V1_GROUP: &str = "inference.networking.k8s.io";
const OLD_GROUP: &str = "inference.networking.x-k8s.io";

fn objective(api_version: &str, name: &str, pool: Value, priority: i32) -> Value {
    json!({
        "apiVersion": api_version, "kind": "InferenceObjective", "metadata": {"name": name},
        "spec": {"priority": priority, "poolRef": pool},
    })
}

fn rewrite(name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": CURRENT, "kind": "InferenceModelRewrite", "metadata": {"name": name},
        "spec": {"poolRef": {"group": V1_GROUP, "name": "pool"}, "rules": rules},
    })
}

#[tokio::test]
async fn objectives_come_change_and_go() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let (warnings, _guard) = Warnings::capture();
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    let pool = json!({"name": "pool"});
    cluster.apply(objective(CURRENT, "batch", pool.clone(), -10)).await;
    cluster.apply(objective(CURRENT, "elsewhere", json!({"name": "another"}), 7)).await;
    let foreign = json!({"group": OLD_GROUP, "name": "pool"});
    cluster.apply(objective(CURRENT, "foreign", foreign, 7)).await;
    cluster.apply(objective(OLDER, "shadowed", pool.clone(), 7)).await;

    let picker = Picker::follow_pool(&cluster, "pool").await;
    let becomes = async |name: &str, priority: Option<i32>| {
        eventually(&format!("{name} is {priority:?}"), async || {
            picker.objectives.priority_of(name) == priority
        })
        .await;
    };
    becomes("batch", Some(-10)).await;
    for name in ["elsewhere", "foreign", "shadowed"] {
        assert_eq!(picker.objectives.priority_of(name), None, "{name}");
    }
    cluster.apply(objective(CURRENT, "batch", pool.clone(), 5)).await;
    becomes("batch", Some(5)).await;
    cluster.apply(objective(CURRENT, "interactive", pool, 100)).await;
    becomes("interactive", Some(100)).await;
    cluster.delete(CURRENT, "InferenceObjective", "batch").await;
    becomes("batch", None).await;

    for (name, reason) in [("foreign", "ignored"), ("shadowed", "does not count")] {
        let said = warnings.with(&format!("{}/{name}", cluster.namespace));
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(said[0].contains(reason), "{said:?}");
    }
    assert!(warnings.with("elsewhere").is_empty());
}

#[tokio::test]
async fn rewrites_come_change_and_go() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.pool_v1("pool", "vllm", &[8000]).await;
    let picker = Picker::follow_pool(&cluster, "pool").await;
    let becomes = async |model: &str, expected: Option<&str>| {
        let mut rng = fastrand::Rng::with_seed(3);
        eventually(&format!("{model} becomes {expected:?}"), async || {
            picker.objectives.rewrite(model, &mut rng).map(|r| r.model).as_deref() == expected
        })
        .await;
    };
    becomes("food", None).await;
    let to = |model: &str| json!([{"modelRewrite": model}]);
    let exactly = |model: &str| json!([{"model": {"value": model}}]);
    cluster.apply(rewrite("generic", json!([{"targets": to("base")}]))).await;
    becomes("food", Some("base")).await;
    becomes("", Some("base")).await;
    let food = json!([{"matches": exactly("food"), "targets": to("food-v1")}]);
    cluster.apply(rewrite("exact", food)).await;
    becomes("food", Some("food-v1")).await;
    becomes("other", Some("base")).await;

    let canary = json!([{"matches": exactly("food"), "targets": [
        {"modelRewrite": "food-v1", "weight": 1}, {"modelRewrite": "food-v2", "weight": 1}]}]);
    cluster.apply(rewrite("exact", canary)).await;
    becomes("food", Some("food-v2")).await;
    becomes("food", Some("food-v1")).await;

    cluster.delete(CURRENT, "InferenceModelRewrite", "generic").await;
    becomes("other", None).await;
    cluster.delete(CURRENT, "InferenceModelRewrite", "exact").await;
    becomes("food", None).await;
}

/// `InferenceModel`s beside `InferenceObjective`s: the objective counts first, and models that
/// nobody names are not shed.
#[tokio::test]
async fn inference_models_beside_objectives() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    cluster.pool_v1alpha2("pool", json!({"app": "vllm"}), 8000).await;
    cluster.apply(objective(OLDER, "of-the-older-group", json!({"name": "pool"}), 1)).await;
    let current = json!({"group": OLD_GROUP, "name": "pool"});
    cluster.apply(objective(CURRENT, "urgent", current, 50)).await;
    cluster
        .apply(json!({
            "apiVersion": OLDER, "kind": "InferenceModel", "metadata": {"name": "m"},
            "spec": {"modelName": "m", "criticality": "Critical", "poolRef": {"name": "pool"},
                "targetModels": [{"name": "m-tuned"}]},
        }))
        .await;
    let picker = Picker::follow_pool(&cluster, "pool").await;
    let objectives = &picker.objectives;
    eventually("both are known", async || {
        objectives.priority(None, "m") == criticality::CRITICAL
            && objectives.priority(Some("urgent"), "m") == 50
    })
    .await;
    assert_eq!(objectives.priority(None, "unheard-of"), 0);
    let mut rng = fastrand::Rng::with_seed(1);
    assert_eq!(objectives.rewrite("m", &mut rng).map(|r| r.model).as_deref(), Some("m-tuned"));
}
