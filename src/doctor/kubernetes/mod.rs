//! Objects in Kubernetes: the pool, the pods that it selects, the Service by which gateways find the
//! picker, and what the picker may read.

mod pods;
mod pool;
mod rights;
mod service;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::{DoctorOptions, Finding, Report, Subject};
use crate::cli::WorkerSource;
use crate::kubernetes::{connect, reason};
use pool::FoundPool;

const SUBJECT: Subject = Subject::Kubernetes;

/// A namespace of a cluster.
#[derive(Clone)]
struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }
}

pub(super) async fn look(options: &DoctorOptions, report: &Report) {
    let serve = &options.serve;
    let of_pool = match &serve.workers {
        WorkerSource::Pool { .. } | WorkerSource::Selector { .. } => options.wants(SUBJECT),
        WorkerSource::Configured | WorkerSource::List(_) => false,
    };
    if !of_pool {
        return;
    }
    let client = match connect(serve.kubeconfig.as_deref()).await {
        Ok(client) => client,
        Err(e) => {
            report.add(
                Finding::problem(SUBJECT, "api-server", e.to_string())
                    .why("neither pool nor pods can be read")
                    .change("--kubeconfig"),
            );
            return;
        }
    };
    let cluster = Cluster { client, namespace: serve.namespace.clone() };
    let account = match &serve.workers {
        WorkerSource::Selector { selector, ports } => {
            pods::look(&cluster, selector, ports, report).await;
            None
        }
        WorkerSource::Pool { name, group } => {
            match pool::look(&cluster, name, group.as_deref(), report).await {
                Some(found) => behind(&cluster, &found, report).await,
                None => None,
            }
        }
        WorkerSource::Configured | WorkerSource::List(_) => None,
    };
    rights::look(&cluster, serve, account, report).await;
}

/// Looks at the pods and the Service of a pool. Returns the picker's ServiceAccount.
async fn behind(cluster: &Cluster, found: &FoundPool, report: &Report) -> Option<String> {
    let pods = async {
        if let Some(selector) = &found.selector {
            pods::look(cluster, selector, &found.ports, report).await;
        }
    };
    tokio::join!(pods, service::look(cluster, found, report)).1
}

/// Something that could not be read.
fn unread(check: &'static str, what: &str, error: &kube::Error) -> Finding {
    let (why, change) = match error {
        kube::Error::Api(status) if status.code == 403 => (
            "what is there is not known",
            "the Role of whoever asks; of epp itself it is in its deployment",
        ),
        kube::Error::Api(_) => ("what is there is not known", ""),
        _ => ("the API server cannot be reached", "--kubeconfig, and the network to it"),
    };
    Finding::problem(SUBJECT, check, format!("{what}: {}", reason(error))).why(why).change(change)
}

/// The texts of an object of texts.
fn texts(value: &Value) -> Vec<(String, String)> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
