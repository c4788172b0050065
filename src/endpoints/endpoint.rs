use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;

use super::ids::{DenseIndex, PoolIds};
use super::shares::InFlightShares;
use super::signals::Signals;
use super::state::StateSlots;

/// What discovery knows of one endpoint: one port of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    pub namespace: String,
    /// Unique in its namespace. From Kubernetes it is `<pod>-rank-<index of the port>`.
    pub name: String,
    /// The pod behind the endpoint; equals `name` where there are no pods.
    pub pod_name: String,
    pub ip: IpAddr,
    pub port: u16,
    /// Index of the port among the pool's target ports.
    pub rank: u16,
    /// What tells this worker from another one under the same name (a pod's UID); may be empty.
    pub uid: String,
    pub labels: Labels,
    pub placement: Placement,
}

/// Where a worker runs, as far as discovery tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Address of the node (a pod's `status.hostIP`).
    pub node_ip: Option<IpAddr>,
    /// A pod's `spec.hostname`.
    pub hostname: Option<String>,
}

/// Labels of a worker, by key.
pub type Labels = BTreeMap<String, String>;

impl EndpointSpec {
    /// `ip:port`, with brackets around an IPv6 address: the form gateways expect.
    pub fn host_port(&self) -> String {
        std::net::SocketAddr::new(self.ip, self.port).to_string()
    }

    /// True where `other` is the same worker, whatever its labels are now.
    pub fn is_same_worker(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.ip == other.ip
            && self.port == other.port
            && self.rank == other.rank
            && self.name == other.name
            && self.namespace == other.namespace
    }
}

/// Work that was sent to an endpoint and has not ended, kept by [`super::Reservation`]s alone.
#[derive(Debug, Default)]
pub struct InFlight {
    requests: AtomicI64,
    unanswered: AtomicI64,
    tokens: AtomicI64,
    prompt_tokens: AtomicI64,
    /// Whose it is.
    pub shares: InFlightShares,
}

impl InFlight {
    /// Requests picked for the endpoint whose exchange has not ended.
    pub fn requests(&self) -> i64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Those of them whose answer has not begun: their prompts wait or are being worked on.
    pub fn unanswered(&self) -> i64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Prompt tokens (uncached ones, plus estimated output where configured) still to be worked on.
    pub fn tokens(&self) -> i64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Prompt tokens of all requests in flight, cached or not: what the worker's KV cache holds
    /// for them, and what every step of theirs has to read.
    pub fn prompt_tokens(&self) -> i64 {
        self.prompt_tokens.load(Ordering::Relaxed)
    }

    /// A request begins; it holds `tokens` until they are released. What waited before it comes
    /// back: requests unanswered, and tokens.
    pub(super) fn begin(&self, tokens: i64, prompt_tokens: i64) -> (i64, i64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.prompt_tokens.fetch_add(prompt_tokens, Ordering::Relaxed);
        let unanswered = self.unanswered.fetch_add(1, Ordering::Relaxed);
        (unanswered, self.tokens.fetch_add(tokens, Ordering::Relaxed))
    }

    /// The answer to a request begins.
    pub(super) fn answer(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
    }

    /// These tokens of a request have been worked on, or never will be.
    pub(super) fn release(&self, tokens: i64) {
        self.tokens.fetch_sub(tokens, Ordering::Relaxed);
    }

    /// A request ends.
    pub(super) fn end(&self, prompt_tokens: i64) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.prompt_tokens.fetch_sub(prompt_tokens, Ordering::Relaxed);
    }
}

/// One instance of an endpoint. A worker that leaves the pool and comes back, or a pod replaced
/// under the same name, is a new instance and starts with nothing in flight and no history.
#[derive(Debug)]
pub struct Endpoint {
    /// As discovered first; [`Endpoint::labels`] has the labels of now.
    pub spec: EndpointSpec,
    /// `namespace/name`.
    pub id: Arc<str>,
    /// `ip:port`, the value of the destination header.
    pub host_port: Arc<str>,
    /// Distinguishes instances that share a name; never reused within a pool.
    pub instance: u64,
    /// What the worker last told.
    pub signals: Signals,
    /// What we sent there and has not ended.
    pub in_flight: InFlight,
    /// What plugins remember of this instance, freed with it.
    pub state: StateSlots,
    /// This instance's place in tables of all endpoints. Given back after `state` is dropped,
    /// which may have something at that place.
    pub index: DenseIndex,
    labels: ArcSwap<Labels>,
    description: ArcSwap<String>,
}

impl Endpoint {
    /// A new instance in the pool that `ids` belong to.
    pub fn new(spec: EndpointSpec, ids: &PoolIds) -> Self {
        Self {
            id: format!("{}/{}", spec.namespace, spec.name).into(),
            host_port: spec.host_port().into(),
            instance: ids.instance(),
            signals: Signals::default(),
            in_flight: InFlight::default(),
            state: StateSlots::default(),
            index: ids.dense_index(),
            labels: ArcSwap::from_pointee(spec.labels.clone()),
            description: ArcSwap::from_pointee(describe(&spec, &spec.labels)),
            spec,
        }
    }

    /// The worker's labels as they are now; they may change while the worker stays.
    pub fn labels(&self) -> arc_swap::Guard<Arc<Labels>> {
        self.labels.load()
    }

    pub(super) fn set_labels(&self, labels: Labels) {
        self.description.store(Arc::new(describe(&self.spec, &labels)));
        self.labels.store(Arc::new(labels));
    }

    /// The endpoint as the `endpoint` field of log lines has it since v0.2.0:
    /// `{NamespacedName:ns/name Address:ip Labels:map[k:v ...]}`. Made once, not per request.
    pub fn description(&self) -> arc_swap::Guard<Arc<String>> {
        self.description.load()
    }
}

fn describe(spec: &EndpointSpec, labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}:{v}")).collect();
    format!(
        "{{NamespacedName:{}/{} Address:{} Port:{} Labels:map[{}]}}",
        spec.namespace,
        spec.pod_name,
        spec.ip,
        spec.port,
        labels.join(" ")
    )
}
