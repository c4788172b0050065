use epp::kubernetes::ApiServerAuth;
use serde_json::json;

use crate::api_server::shared;
use crate::cluster::{Cluster, eventually};

/// A cluster-wide role for a user.
async fn grant(cluster: &Cluster, user: &str, role: &str) {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("{}-{user}", cluster.namespace)},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user}],
    });
    cluster.apply_cluster_wide(binding).await;
}

#[tokio::test]
async fn who_may_read_metrics() {
    let Some(server) = shared().await else { return };
    let cluster = Cluster::new(server).await;
    let reader = format!("{}-metrics-reader", cluster.namespace);
    cluster
        .apply_cluster_wide(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": reader},
            "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
        }))
        .await;
    grant(&cluster, "scraper", &reader).await;
    grant(&cluster, "picker", "system:auth-delegator").await;

    // Rights reach the authorizer a moment after they are written.
    let client = server.client("picker").await;
    eventually("the scraper may read", async || {
        ApiServerAuth::new(client.clone()).check(Some("scraper-token"), "/metrics", "GET").await
            == Ok(())
    })
    .await;
    let auth = ApiServerAuth::new(client);
    for (token, path, method, expected) in [
        (Some("scraper-token"), "/metrics", "GET", Ok(())),
        (Some("admin-token"), "/metrics", "GET", Ok(())),
        (Some("scraper-token"), "/metrics", "POST", Err(403)),
        (Some("scraper-token"), "/debug/decisions", "GET", Err(403)),
        (Some("stranger-token"), "/metrics", "GET", Err(403)),
        (Some("made-up"), "/metrics", "GET", Err(401)),
        (Some(""), "/metrics", "GET", Err(401)),
        (None, "/metrics", "GET", Err(401)),
    ] {
        assert_eq!(auth.check(token, path, method).await, expected, "{token:?} {method} {path}");
        // Once more, from memory.
        assert_eq!(auth.check(token, path, method).await, expected, "{token:?} {method} {path}");
    }
    // Who may not ask cannot tell, which is no fault of the scraper's.
    let powerless = ApiServerAuth::new(server.client("stranger").await);
    assert_eq!(powerless.check(Some("scraper-token"), "/metrics", "GET").await, Err(500));
}
