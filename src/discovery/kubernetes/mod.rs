//! Endpoints and objectives from a Kubernetes API server.
//!
//! [`start`] watches an `InferencePool` (or takes a selector in its place), the pods it selects
//! and the objects that name it, and keeps [`Pool`] and [`Objectives`] as they say. Each kind is
//! followed by one task of [`kind`]; what it knows is read by the tasks of [`pool`], [`pods`] and
//! [`objectives`]. While the API server is away everything stays as it was last known.

mod error;
mod kind;
mod objective_specs;
mod objectives;
mod pods;
mod pool;
mod pool_spec;
mod retry_state;
mod unreadable;
mod warn_once;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::unreadable::Unreadable;
use crate::endpoints::Pool;
use crate::objectives::Objectives;

pub use error::KubernetesError;
pub use pool::PoolState;
pub use pool_spec::{AppProtocol, PoolGroup, PoolSpec};

/// Where the endpoints are described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The `InferencePool` of this name. Without a group, `inference.networking.k8s.io` is taken
    /// where it has the pool, else `inference.networking.x-k8s.io`.
    Pool { name: String, group: Option<PoolGroup> },
    /// No pool object: the pods of this label selector, on these ports, in order of rank.
    Selector { labels: String, target_ports: Vec<u16> },
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct KubernetesOptions {
    pub source: Source,
    /// The namespace of the pool, its pods and its objectives.
    pub namespace: String,
    /// The longest wait between two looks for a kind that the API server does not have, or does
    /// not let us read.
    pub missing_kind_retry: Duration,
}

impl KubernetesOptions {
    pub fn new(source: Source, namespace: impl Into<String>) -> Self {
        let missing_kind_retry = Duration::from_secs(30);
        Self { source, namespace: namespace.into(), missing_kind_retry }
    }
}

/// Running discovery; ends when dropped.
#[derive(Debug)]
pub struct Handle {
    pool: watch::Receiver<PoolState>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Handle {
    /// The pool as it is now, and its changes.
    pub fn pool(&self) -> watch::Receiver<PoolState> {
        self.pool.clone()
    }
}

/// Starts following `options.source`, writing endpoints to `pool` and what is said about models
/// to `objectives`. The pool need not exist yet, nor the API server answer.
///
/// # Errors
///
/// Where the API server says that the label selector is not one.
pub async fn start(
    client: Client,
    options: KubernetesOptions,
    pool: Arc<Pool>,
    objectives: Arc<Objectives>,
) -> Result<Handle, KubernetesError> {
    let (unreadable, task) = Unreadable::start(options.missing_kind_retry);
    let cluster = kind::Cluster {
        client,
        namespace: options.namespace,
        missing_kind_retry: options.missing_kind_retry,
        unreadable,
    };
    let mut tasks = vec![task];
    let pool_state = match options.source {
        Source::Selector { labels, target_ports } => {
            check_selector(&cluster, &labels).await?;
            pool::fixed(PoolSpec::of_selector(labels, target_ports), &mut tasks)
        }
        Source::Pool { name, group } => {
            let state = pool::follow(&cluster, &name, group, &mut tasks);
            objectives::follow(&cluster, name, state.clone(), objectives, &mut tasks);
            state
        }
    };
    pods::follow(cluster, pool_state.clone(), pool, &mut tasks);
    Ok(Handle { pool: pool_state, _tasks: tasks })
}

/// The API server knows the grammar of selectors best. Where it cannot be asked now, the watch
/// will say so later.
async fn check_selector(cluster: &kind::Cluster, labels: &str) -> Result<(), KubernetesError> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match pods.list_metadata(&ListParams::default().labels(labels).limit(1)).await {
        Err(kube::Error::Api(status)) if status.code == 400 => Err(KubernetesError::Selector {
            selector: labels.to_owned(),
            message: status.message.clone(),
        }),
        _ => Ok(()),
    }
}
