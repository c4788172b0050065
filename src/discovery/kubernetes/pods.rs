//! Endpoints, from the pods that the pool selects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ApiResource, Object};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::kind::{self, Availability, Cluster, Listing, Selection};
use super::pool::PoolState;
use super::pool_spec::PoolSpec;
use super::warn_once::WarnOnce;
use crate::endpoints::{EndpointSpec, Labels, Placement, Pool};

/// Annotations that say which of the pool's ports a pod serves now; the first one there counts.
const ACTIVE_PORTS: [&str; 2] =
    ["llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports"];

/// A pod, less all that we do not read.
type RawPod = Object<PodSpec, PodStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct PodSpec {
    hostname: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// A pod that may serve.
#[derive(Debug)]
struct WorkerPod {
    uid: String,
    labels: Labels,
    /// Where requests go; `None` while the pod is not ready, is terminating or has no address.
    ip: Option<IpAddr>,
    placement: Placement,
    /// The annotation and the ports in it; `None` where it has none, and serves all.
    active_ports: Option<(&'static str, BTreeSet<u16>)>,
    /// What is wrong with the pod.
    oddity: Option<String>,
}

impl WorkerPod {
    fn read(mut pod: RawPod) -> Self {
        let status = pod.status.take().unwrap_or_default();
        let ready = pod.metadata.deletion_timestamp.is_none()
            && status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True");
        let (ip, mut oddity) = match status.pod_ip.as_deref().map(str::parse) {
            Some(Ok(ip)) => (Some(ip), None),
            Some(Err(_)) => (None, Some("status.podIP is not an address".to_owned())),
            None => (None, None),
        };
        let placement = Placement {
            node_ip: status.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
            hostname: pod.spec.hostname.take(),
        };
        let annotation = ACTIVE_PORTS
            .into_iter()
            .find_map(|key| pod.annotations().get(key).map(|value| (key, value)));
        let active_ports = annotation.map(|(key, value)| {
            let (ports, wrong) = active_ports(value);
            if !wrong.is_empty() {
                oddity = Some(format!("annotation {key}: not ports: {}", wrong.join(", ")));
            }
            (key, ports)
        });
        Self {
            uid: pod.uid().unwrap_or_default(),
            labels: std::mem::take(pod.labels_mut()),
            ip: ip.filter(|_| ready),
            placement,
            active_ports,
            oddity,
        }
    }

    fn serves(&self, port: u16) -> bool {
        self.active_ports.as_ref().is_none_or(|(_, active)| active.contains(&port))
    }

    /// What is wrong with the pod in a pool of these ports.
    fn odd(&self, target_ports: &[u16]) -> Option<String> {
        if self.oddity.is_some() {
            return self.oddity.clone();
        }
        let (key, active) = self.active_ports.as_ref()?;
        if active.is_empty() || target_ports.iter().any(|port| active.contains(port)) {
            return None;
        }
        let active: Vec<_> = active.iter().map(u16::to_string).collect();
        let active = active.join(", ");
        Some(format!("serves none of the pool's ports: annotation {key}: {active}"))
    }
}

/// The ports in a comma list, and the entries that are none. An empty list has no ports.
fn active_ports(list: &str) -> (BTreeSet<u16>, Vec<&str>) {
    let mut ports = BTreeSet::new();
    let mut wrong = Vec::new();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match entry.parse() {
            Ok(port) if port != 0 => {
                ports.insert(port);
            }
            _ => wrong.push(entry),
        }
    }
    (ports, wrong)
}

/// The endpoints of `pods`: one for each port a ready pod serves. The rank is the port's place
/// among all target ports, so that it does not shift when another port goes away.
fn endpoints(
    namespace: &str,
    pods: &BTreeMap<String, WorkerPod>,
    target_ports: &[u16],
) -> Vec<EndpointSpec> {
    let mut specs = Vec::with_capacity(pods.len() * target_ports.len());
    for (name, pod) in pods {
        let Some(ip) = pod.ip else { continue };
        for (rank, port) in (0..).zip(target_ports.iter().copied()) {
            if pod.serves(port) {
                specs.push(EndpointSpec {
                    placement: pod.placement.clone(),
                    namespace: namespace.to_owned(),
                    name: format!("{name}-rank-{rank}"),
                    pod_name: name.clone(),
                    ip,
                    port,
                    rank,
                    uid: pod.uid.clone(),
                    labels: pod.labels.clone(),
                });
            }
        }
    }
    specs
}

/// Keeps `pool` as the pods that the pool's selector selects.
pub(super) fn follow(
    cluster: Cluster,
    state: watch::Receiver<PoolState>,
    pool: Arc<Pool>,
    tasks: &mut Vec<AbortOnDropHandle<()>>,
) {
    let follower = PodFollower {
        cluster,
        state,
        pool,
        in_use: None,
        coming: None,
        notes: WarnOnce::default(),
    };
    tasks.push(AbortOnDropHandle::new(tokio::spawn(follower.run())));
}

struct PodFollower {
    cluster: Cluster,
    state: watch::Receiver<PoolState>,
    pool: Arc<Pool>,
    /// The watch that the endpoints come from.
    in_use: Option<Followed>,
    /// The watch of a new selector, which takes over once it has its first list: until then the
    /// endpoints of the old one serve on.
    coming: Option<Followed>,
    notes: WarnOnce,
}

/// The pods of one selector.
struct Followed {
    spec: PoolSpec,
    pods: watch::Receiver<Listing<WorkerPod>>,
    _task: AbortOnDropHandle<()>,
}

impl Followed {
    fn start(cluster: &Cluster, spec: PoolSpec) -> Self {
        let labels = Some(spec.selector.clone());
        let selection = Selection { labels, ..Selection::all(ApiResource::erase::<Pod>(&())) };
        let (pods, task) = kind::follow(cluster, selection, WorkerPod::read);
        Self { spec, pods, _task: task }
    }
}

async fn changed(followed: &mut Option<Followed>) -> Result<(), watch::error::RecvError> {
    match followed {
        Some(followed) => followed.pods.changed().await,
        None => std::future::pending().await,
    }
}

impl PodFollower {
    async fn run(mut self) {
        self.take_up_pool();
        loop {
            let more = tokio::select! {
                more = self.state.changed() => {
                    self.take_up_pool();
                    more
                }
                more = changed(&mut self.coming) => {
                    self.take_over();
                    more
                }
                more = changed(&mut self.in_use) => {
                    self.publish();
                    more
                }
            };
            if more.is_err() {
                return;
            }
        }
    }

    fn take_up_pool(&mut self) {
        let state = self.state.borrow_and_update().clone();
        match state {
            PoolState::Unknown => {}
            PoolState::Absent => {
                self.in_use = None;
                self.coming = None;
                self.pool.set_synced(false);
                self.pool.replace(Vec::new());
            }
            PoolState::Present(spec) => match &mut self.in_use {
                Some(in_use) if in_use.spec.selector == spec.selector => {
                    in_use.spec = spec;
                    self.coming = None;
                    self.publish();
                }
                _ => match &mut self.coming {
                    Some(coming) if coming.spec.selector == spec.selector => coming.spec = spec,
                    coming => *coming = Some(Followed::start(&self.cluster, spec)),
                },
            },
        }
    }

    fn take_over(&mut self) {
        let listed = |f: &Followed| f.pods.borrow().availability == Availability::Listed;
        if self.coming.as_ref().is_some_and(listed) {
            self.in_use = self.coming.take();
            self.publish();
        }
    }

    fn publish(&mut self) {
        let Some(in_use) = &mut self.in_use else { return };
        let known = in_use.pods.borrow_and_update();
        let namespace = &self.cluster.namespace;
        let ports = &in_use.spec.target_ports;
        let odd = known.objects.iter().filter_map(|(name, pod)| {
            pod.odd(ports).map(|oddity| format!("pod {namespace}/{name}: {oddity}"))
        });
        self.notes.say(odd.collect());
        let specs = endpoints(namespace, &known.objects, ports);
        let now = specs.len();
        drop(known);
        let change = self.pool.replace(specs);
        let (added, removed) = (change.added.len(), change.removed.len());
        let first = !self.pool.is_synced();
        if first || added + removed > 0 {
            tracing::info!(endpoints = now, added, removed, "The pool's endpoints");
        }
        for (what, endpoints) in [("added", &change.added), ("removed", &change.removed)] {
            for endpoint in endpoints {
                tracing::debug!(endpoint = %endpoint.id, address = %endpoint.host_port, "{what}");
            }
        }
        self.pool.set_synced(true);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value, metadata: Value) -> WorkerPod {
        let mut whole = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"containers": []}, "status": status,
            "metadata": {"name": "p", "namespace": "ns", "uid": "u1", "labels": {"app": "vllm"}},
        });
        if let (Some(into), Some(more)) = (whole["metadata"].as_object_mut(), metadata.as_object())
        {
            into.extend(more.clone());
        }
        WorkerPod::read(serde_json::from_value(whole).expect("a pod"))
    }

    fn ready(ip: &str) -> Value {
        json!({"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]})
    }

    #[test]
    fn which_pods_serve() {
        let terminating = json!({"deletionTimestamp": "2025-01-01T00:00:00Z"});
        let not_ready = json!({"podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "False"}]});
        let only_initialized = json!({"podIP": "10.0.0.1",
            "conditions": [{"type": "Initialized", "status": "True"}]});
        let no_address = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        for (case, status, metadata, serves) in [
            ("ready", ready("10.0.0.1"), json!({}), true),
            ("ready, IPv6", ready("fd00::1"), json!({}), true),
            ("terminating", ready("10.0.0.1"), terminating, false),
            ("not ready", not_ready, json!({}), false),
            ("no Ready condition", only_initialized, json!({}), false),
            ("no address", no_address, json!({}), false),
            ("no status", json!({}), json!({}), false),
            ("broken address", ready("10.0.0"), json!({}), false),
        ] {
            assert_eq!(pod(status, metadata).ip.is_some(), serves, "{case}");
        }
        assert!(pod(ready("10.0.0"), json!({})).oddity.is_some());
    }

    #[test]
    fn where_pods_run() {
        let placed = |spec: Value, host_ip: Value| {
            let mut status = ready("10.0.0.1");
            status["hostIP"] = host_ip;
            let whole = json!({
                "apiVersion": "v1", "kind": "Pod", "spec": spec, "status": status,
                "metadata": {"name": "p", "namespace": "ns"},
            });
            let pod = WorkerPod::read(serde_json::from_value(whole).expect("a pod"));
            endpoints("ns", &[("p".to_owned(), pod)].into(), &[8000])[0].placement.clone()
        };
        let cases = [
            (json!({"hostname": "p-0"}), json!("192.168.0.7"), Some("p-0"), Some("192.168.0.7")),
            (json!({}), json!("fd00::7"), None, Some("fd00::7")),
            (json!({}), json!(null), None, None),
            (json!({}), json!("node-7"), None, None),
        ];
        for (spec, host_ip, hostname, node_ip) in cases {
            let expected = Placement {
                hostname: hostname.map(str::to_owned),
                node_ip: node_ip.map(|ip| ip.parse().expect("an address")),
            };
            assert_eq!(placed(spec, host_ip.clone()), expected, "{host_ip}");
        }
    }

    #[test]
    fn ranks_of_active_ports() {
        let ranks = |annotations: Value| {
            let pod = pod(ready("10.0.0.1"), json!({"annotations": annotations}));
            let pods = [("p".to_owned(), pod)].into();
            endpoints("ns", &pods, &[8000, 8001, 8002])
                .iter()
                .map(|e| (e.name.clone(), e.rank, e.port))
                .collect::<Vec<_>>()
        };
        let rank = |rank: u16| (format!("p-rank-{rank}"), rank, 8000 + rank);
        let all = vec![rank(0), rank(1), rank(2)];
        let [current, older] = ACTIVE_PORTS;
        for (annotations, expected) in [
            (json!({}), all.clone()),
            (json!({current: "8001, 8002"}), vec![rank(1), rank(2)]),
            (json!({older: "8002"}), vec![rank(2)]),
            (json!({older: "8002", current: "8000"}), vec![rank(0)]),
            (json!({current: ""}), vec![]),
            (json!({current: "9999"}), vec![]),
            (json!({current: "8001,8001,x,-1,0,99999"}), vec![rank(1)]),
        ] {
            assert_eq!(ranks(annotations.clone()), expected, "{annotations}");
        }
        let odd = pod(ready("10.0.0.1"), json!({"annotations": {current: "8001,x, 0"}})).oddity;
        assert_eq!(odd.as_deref(), Some("annotation llm-d.ai/active-ports: not ports: x, 0"));
        // A pod may be told to serve nothing for now; one that misses all ports was told wrong.
        let misses = |annotation: &str| {
            let pod = pod(ready("10.0.0.1"), json!({"annotations": {current: annotation}}));
            pod.odd(&[8000, 8001])
        };
        assert_eq!(misses("8001,9000"), None);
        assert_eq!(misses(""), None);
        assert_eq!(
            misses("9000,9001").as_deref(),
            Some("serves none of the pool's ports: annotation llm-d.ai/active-ports: 9000, 9001")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_annotation_gives_only_ports_that_stand_in_it(list in "[0-9a-z, -]{0,40}") {
            let (ports, wrong) = active_ports(&list);
            let entries: Vec<_> = list.split(',').map(str::trim).collect();
            for port in ports {
                proptest::prop_assert!(entries.iter().any(|e| e.parse() == Ok(port)) && port != 0);
            }
            for entry in wrong {
                proptest::prop_assert!(!entry.parse().is_ok_and(|port: u16| port != 0));
            }
        }
    }
}
