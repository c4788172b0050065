use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use epp::discovery::kubernetes::{Handle, KubernetesOptions, Source, start};
use epp::endpoints::{Endpoint, Pool};
use epp::objectives::Objectives;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::api_server::ApiServer;

const WITHIN: Duration = Duration::from_secs(60);

/// Waits until `holds`.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + WITHIN;
    while !holds().await {
        assert!(Instant::now() < give_up, "not within {WITHIN:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// A namespace of one test, as its administrator sees it.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Cluster {
    pub async fn new(server: &ApiServer) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let namespace = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let client = server.client("admin").await;
        let object = json!({"metadata": {"name": namespace}});
        let object = serde_json::from_value(object).expect("a namespace");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &object).await.expect("created");
        Self { client, namespace }
    }

    pub fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = resource(api_version, kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Creates an object in the namespace, or makes it what is given.
    pub async fn apply(&self, object: Value) {
        let api = self.api(text(&object["apiVersion"]), text(&object["kind"]));
        Self::apply_with(&api, &object).await;
    }

    /// The same for an object of no namespace.
    pub async fn apply_cluster_wide(&self, object: Value) {
        let resource = resource(text(&object["apiVersion"]), text(&object["kind"]));
        Self::apply_with(&Api::all_with(self.client.clone(), &resource), &object).await;
    }

    async fn apply_with(api: &Api<DynamicObject>, object: &Value) {
        let name = text(&object["metadata"]["name"]);
        let params = PatchParams::apply("test").force();
        api.patch(name, &params, &Patch::Apply(object)).await.expect("accepted");
    }

    pub async fn delete(&self, api_version: &str, kind: &str, name: &str) {
        let api = self.api(api_version, kind);
        api.delete(name, &DeleteParams::default()).await.expect("deleted");
        eventually("the object is gone", async || api.get_opt(name).await.expect("read").is_none())
            .await;
    }

    pub async fn pool_v1(&self, name: &str, app: &str, ports: &[u16]) {
        let ports: Vec<_> = ports.iter().map(|port| json!({"number": port})).collect();
        self.apply(json!({
            "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": {"app": app}}, "targetPorts": ports,
                "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
            },
        }))
        .await;
    }

    pub async fn pool_v1alpha2(&self, name: &str, selector: Value, port: u16) {
        self.apply(json!({
            "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferencePool",
            "metadata": {"name": name},
            "spec": {
                "selector": selector, "targetPortNumber": port, "extensionRef": {"name": "epp"},
            },
        }))
        .await;
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a pod labelled `app` that is not ready and has no address.
    pub async fn create_pod(&self, name: &str, app: &str) {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"containers": [{"name": "main", "image": "none"}]},
        });
        let pod = serde_json::from_value(pod).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("created");
    }

    /// Writes a pod's address and readiness.
    pub async fn set_pod(&self, name: &str, ip: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let patch = json!({"status": {
            "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": status}],
        }});
        let params = PatchParams::default();
        self.pods().patch_status(name, &params, &Patch::Merge(&patch)).await.expect("patched");
    }

    pub async fn ready_pod(&self, name: &str, app: &str, ip: &str) {
        self.create_pod(name, app).await;
        self.set_pod(name, ip, true).await;
    }

    pub async fn patch_pod_metadata(&self, name: &str, metadata: Value) {
        let patch = json!({"metadata": metadata});
        let params = PatchParams::default();
        self.pods().patch(name, &params, &Patch::Merge(&patch)).await.expect("patched");
    }

    /// Asks for a pod's end without waiting for it.
    pub async fn begin_delete_pod(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.expect("deleted");
    }

    pub async fn delete_pod(&self, name: &str) {
        self.begin_delete_pod(name).await;
        let gone = async || self.pods().get_opt(name).await.expect("read").is_none();
        eventually("the pod is gone", gone).await;
    }

    pub async fn pod_uid(&self, name: &str) -> String {
        self.pods().get(name).await.expect("the pod").uid().expect("a UID")
    }
}

/// What `epp` knows, as told by discovery.
pub struct Picker {
    pub pool: Arc<Pool>,
    pub objectives: Arc<Objectives>,
    pub handle: Handle,
}

impl Picker {
    pub async fn follow_pool(cluster: &Cluster, name: &str) -> Self {
        let source = Source::Pool { name: name.to_owned(), group: None };
        Self::start(&cluster.client, KubernetesOptions::new(source, &cluster.namespace)).await
    }

    pub async fn start(client: &Client, mut options: KubernetesOptions) -> Self {
        options.missing_kind_retry = Duration::from_secs(1);
        let pool = Arc::new(Pool::new());
        let objectives = Arc::new(Objectives::default());
        let handle = start(client.clone(), options, pool.clone(), objectives.clone())
            .await
            .expect("started");
        Self { pool, objectives, handle }
    }

    /// `name=address`, sorted.
    pub fn endpoints(&self) -> Vec<String> {
        let snapshot = self.pool.snapshot();
        let mut endpoints: Vec<_> =
            snapshot.endpoints.iter().map(|e| format!("{}={}", e.spec.name, e.host_port)).collect();
        endpoints.sort();
        endpoints
    }

    pub fn endpoint(&self, name: &str) -> Option<Arc<Endpoint>> {
        self.pool.snapshot().endpoints.iter().find(|e| e.spec.name == name).cloned()
    }

    /// Waits until the endpoints are these, in any order.
    pub async fn has(&self, expected: &[&str]) {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        let give_up = Instant::now() + WITHIN;
        while self.endpoints() != expected {
            let got = self.endpoints();
            assert!(Instant::now() < give_up, "expected {expected:?}, got {got:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn is_synced(&self, synced: bool) {
        eventually(&format!("synced is {synced}"), async || self.pool.is_synced() == synced).await;
    }
}
