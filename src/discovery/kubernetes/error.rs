use std::path::PathBuf;

use kube::config::{InferConfigError, KubeconfigError};

/// Why discovery could not start. What goes wrong later is logged and tried again.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    #[error("kubeconfig {}: {source}", path.display())]
    Kubeconfig { path: PathBuf, source: KubeconfigError },
    #[error(
        "no Kubernetes API server to talk to: {0}; give --kubeconfig, run inside a cluster, or \
         list the endpoints without Kubernetes"
    )]
    NoConfiguration(Box<InferConfigError>),
    #[error("the kubeconfig asks for a proxy to the API server, which epp does not go through")]
    Proxy,
    #[error("cannot make a client for the Kubernetes API server: {0}")]
    Client(kube::Error),
    #[error("endpoint selector '{selector}': {message}")]
    Selector { selector: String, message: String },
}
