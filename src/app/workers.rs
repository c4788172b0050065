//! Where the workers come from: a file, a list, or Kubernetes, and what else comes from there.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
#[cfg(feature = "kubernetes")]
use std::sync::atomic::Ordering;

use super::refused;
use crate::api::ParserKind;
use crate::cli::{Exit, Options, WorkerSource};
use crate::discovery::{FileDiscovery, ListDiscovery};
use crate::endpoints::Pool;
use crate::objectives::Objectives;
use crate::plugins::FileDiscoveryConfig;
use crate::server::{MetricsAuth, Readiness};

#[cfg(feature = "kubernetes")]
use crate::discovery::kubernetes as discovery;
#[cfg(feature = "kubernetes")]
use crate::kubernetes;

/// Name of the pool where Kubernetes does not give it one, as in the reference.
const DEFAULT_POOL_NAME: &str = "epp";

/// Running discovery; ends when dropped.
pub(crate) struct Workers {
    pool_name: String,
    /// Keeps following the endpoints file.
    _file: Option<FileDiscovery>,
    /// Keeps looking up the host names of `--endpoints`.
    _list: Option<ListDiscovery>,
    #[cfg(feature = "kubernetes")]
    cluster: Option<Cluster>,
}

#[cfg(feature = "kubernetes")]
struct Cluster {
    client: kube::Client,
    election: Option<kubernetes::LeaderElection>,
    discovery: discovery::Handle,
}

impl Workers {
    /// Fills `pool` from the source that flags or configuration name. A file named by the
    /// configuration wins over the flags' pool, as in the reference: then no Kubernetes is asked.
    pub(crate) async fn start(
        options: &Options,
        file: Option<FileDiscoveryConfig>,
        pool: &Arc<Pool>,
        objectives: &Arc<Objectives>,
    ) -> Result<Self, Exit> {
        let mut workers = Self {
            pool_name: match &options.workers {
                WorkerSource::Pool { name, .. } => name.clone(),
                _ => DEFAULT_POOL_NAME.to_owned(),
            },
            _file: None,
            _list: None,
            #[cfg(feature = "kubernetes")]
            cluster: None,
        };
        match (&options.workers, file) {
            (WorkerSource::List(list), file) => {
                if file.is_some() {
                    tracing::warn!("--endpoints is given: the configuration's file is not used");
                }
                let discovery = ListDiscovery::start(list.clone(), pool.clone());
                workers._list = Some(discovery.map_err(|e| refused(1, e))?);
            }
            (source, Some(file)) => {
                if !matches!(source, WorkerSource::Configured) {
                    tracing::warn!(
                        "The configuration names an endpoints file: --pool-name and \
                         --endpoint-selector do nothing"
                    );
                }
                if options.leader_election {
                    tracing::warn!(
                        "--ha-enable-leader-election does nothing: the endpoints come from a file, \
                         so there is no Kubernetes"
                    );
                }
                let discovery = FileDiscovery::start(&file, pool.clone())
                    .map_err(|found| Exit { text: found.to_string(), code: 2 })?;
                workers._file = Some(discovery);
            }
            (WorkerSource::Configured, None) => {
                return Err(refused(
                    2,
                    "no workers: give --pool-name, --endpoint-selector or --endpoints, or \
                     configure file-discovery",
                ));
            }
            (WorkerSource::Pool { .. } | WorkerSource::Selector { .. }, None) => {
                workers.start_cluster(options, pool, objectives).await?;
            }
        }
        Ok(workers)
    }

    #[cfg(not(feature = "kubernetes"))]
    async fn start_cluster(
        &mut self,
        _: &Options,
        _: &Arc<Pool>,
        _: &Arc<Objectives>,
    ) -> Result<(), Exit> {
        Err(refused(2, "this build has no Kubernetes: use --endpoints or file-discovery"))
    }

    #[cfg(feature = "kubernetes")]
    async fn start_cluster(
        &mut self,
        options: &Options,
        pool: &Arc<Pool>,
        objectives: &Arc<Objectives>,
    ) -> Result<(), Exit> {
        let source = match &options.workers {
            WorkerSource::Selector { selector, ports } => {
                let deployment = pod_name().as_deref().and_then(deployment_of);
                self.pool_name = deployment.unwrap_or_else(|| {
                    tracing::warn!(
                        "POD_NAME names no pod of a Deployment: in metrics and in the name of the \
                         lease the pool is called '{DEFAULT_POOL_NAME}'"
                    );
                    DEFAULT_POOL_NAME.to_owned()
                });
                discovery::Source::Selector {
                    labels: selector.clone(),
                    target_ports: ports.clone(),
                }
            }
            _ => {
                discovery::Source::Pool { name: self.pool_name.clone(), group: pool_group(options) }
            }
        };
        let client = kubernetes::connect(options.kubeconfig.as_deref())
            .await
            .map_err(|e| refused(1, format_args!("Kubernetes: {e}")))?;
        let settings = discovery::KubernetesOptions::new(source, options.namespace.clone());
        let discovery =
            discovery::start(client.clone(), settings, pool.clone(), objectives.clone())
                .await
                .map_err(|e| refused(2, format_args!("Kubernetes: {e}")))?;
        let election = options.leader_election.then(|| {
            let candidate = pod_name().unwrap_or_else(|| "epp".to_owned());
            let settings =
                kubernetes::LeaderOptions::new(&options.namespace, &self.pool_name, &candidate);
            kubernetes::LeaderElection::start(client.clone(), settings)
        });
        self.cluster = Some(Cluster { client, election, discovery });
        Ok(())
    }

    pub(super) fn pool_name(&self) -> String {
        self.pool_name.clone()
    }

    /// When this replica may serve; `reads_grpc` is of the configuration in force.
    pub(super) fn readiness(&self, pool: &Arc<Pool>, reads_grpc: &Arc<AtomicBool>) -> Readiness {
        #[cfg(feature = "kubernetes")]
        if let Some(cluster) = &self.cluster {
            let leader = cluster.election.as_ref().map(kubernetes::LeaderElection::leader);
            let state = cluster.discovery.pool();
            let reads_grpc = reads_grpc.clone();
            return Readiness::new(pool.clone(), leader).with_protocol(move || {
                let protocol = state.borrow().spec().and_then(|spec| spec.app_protocol);
                reads_grpc.load(Ordering::Relaxed) || protocol != Some(discovery::AppProtocol::H2c)
            });
        }
        #[cfg(not(feature = "kubernetes"))]
        let _ = reads_grpc;
        Readiness::new(pool.clone(), None)
    }

    /// Who may read the metrics port; everybody where there is no Kubernetes to ask, as in the
    /// reference.
    pub(super) fn metrics_auth(&self, options: &Options) -> Option<Arc<dyn MetricsAuth>> {
        #[cfg(feature = "kubernetes")]
        if let (None | Some(true), Some(cluster)) = (options.admin.auth, &self.cluster) {
            return Some(Arc::new(ClusterAuth(kubernetes::ApiServerAuth::new(
                cluster.client.clone(),
            ))));
        }
        #[cfg(not(feature = "kubernetes"))]
        let _ = options;
        None
    }

    /// Whether the endpoints come from Kubernetes.
    pub(super) fn are_in_kubernetes(&self) -> bool {
        #[cfg(feature = "kubernetes")]
        return self.cluster.is_some();
        #[cfg(not(feature = "kubernetes"))]
        false
    }

    /// Gives the lease back, so that another replica can lead at once. The workers are followed
    /// on: requests are still routed while we drain.
    pub(super) async fn stand_down(&mut self) {
        #[cfg(feature = "kubernetes")]
        if let Some(election) = self.cluster.as_mut().and_then(|c| c.election.take()) {
            election.release().await;
        }
    }
}

/// Whether some parser reads gRPC, or does not look into bodies.
pub(super) fn reads_grpc(parsers: &[ParserKind]) -> bool {
    use ParserKind::{Passthrough, VertexAi, VllmGrpc};
    parsers.iter().any(|kind| matches!(kind, Passthrough | VertexAi | VllmGrpc))
}

#[cfg(feature = "kubernetes")]
#[derive(Debug)]
struct ClusterAuth(kubernetes::ApiServerAuth);

#[cfg(feature = "kubernetes")]
#[tonic::async_trait]
impl MetricsAuth for ClusterAuth {
    async fn check(
        &self,
        token: Option<&str>,
        path: &str,
        method: &str,
    ) -> Result<(), http::StatusCode> {
        let answer = self.0.check(token, path, method).await;
        answer.map_err(|s| {
            http::StatusCode::from_u16(s).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR)
        })
    }
}

#[cfg(feature = "kubernetes")]
fn pool_group(options: &Options) -> Option<discovery::PoolGroup> {
    let WorkerSource::Pool { group: Some(group), .. } = &options.workers else { return None };
    group.parse().ok()
}

/// Who we are, where the deployment tells us.
#[cfg(feature = "kubernetes")]
fn pod_name() -> Option<String> {
    std::env::var("POD_NAME").ok().filter(|name| !name.is_empty())
}

/// The Deployment's name out of the pod's: `<deployment>-<replica set>-<pod>`, as the reference
/// names the pool where a selector stands in its place.
#[cfg(feature = "kubernetes")]
fn deployment_of(pod: &str) -> Option<String> {
    let mut parts = pod.rsplitn(3, '-');
    let (_, _, deployment) = (parts.next()?, parts.next()?, parts.next()?);
    (!deployment.is_empty()).then(|| deployment.to_owned())
}
