//! Why there is no client.

use std::path::PathBuf;

use kube::config::{InferConfigError, KubeconfigError};

use crate::files::FileError;

/// Why there is no client for the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("kubeconfig {}: {source}", path.display())]
    Kubeconfig { path: PathBuf, source: KubeconfigError },
    #[error("kubeconfig {}: {source}", path.display())]
    File { path: PathBuf, source: FileError },
    #[error(
        "no Kubernetes API server to talk to: {0}; give --kubeconfig, run inside a cluster, or \
         list the endpoints without Kubernetes"
    )]
    NoConfiguration(Box<InferConfigError>),
    #[error("the kubeconfig asks for a proxy to the API server, which epp does not go through")]
    Proxy,
    #[error("cannot make a client for the Kubernetes API server: {0}")]
    Client(kube::Error),
}
