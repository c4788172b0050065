//! The client for the API server.

use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::error::ConnectError;
use crate::files;

/// A larger kubeconfig is refused, bytes.
const MAX_KUBECONFIG_BYTES: u64 = 1024 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for the API server: that of `kubeconfig`, else of the environment (`KUBECONFIG`,
/// `~/.kube/config`, the service account of the pod we run in).
///
/// # Errors
///
/// Where no configuration is found or it cannot be used. The API server need not answer yet.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => {
            let unusable = |source| ConnectError::Kubeconfig { path: path.to_owned(), source };
            // The library would wait for whatever the path leads to.
            files::read(path, MAX_KUBECONFIG_BYTES)
                .map_err(|source| ConnectError::File { path: path.to_owned(), source })?;
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options).await.map_err(unusable)?
        }
        None => Config::infer().await.map_err(|e| ConnectError::NoConfiguration(Box::new(e)))?,
    };
    if config.proxy_url.is_some() {
        return Err(ConnectError::Proxy);
    }
    client(config).map_err(ConnectError::Client)
}

/// Put together by hand, for what the library's own client does besides: it repeats refused
/// requests for minutes, or for as long as the server's `Retry-After` says, before we hear of it,
/// and it logs every failed attempt as an error. When to ask again and what to say is ours to
/// decide, as are timeouts: a watch may be silent for longer than a list.
fn client(config: Config) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: legacy::Client<_, Body> =
        legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http)
        .map_response(|response| response.map(|body| body.map_err(|_| ConnectionLost)));
    Ok(Client::new(service, config.default_namespace))
}

/// The connection ended in the middle of an answer. How, the library would log by itself, and
/// take for the end of a watch.
#[derive(Debug, thiserror::Error)]
#[error("the connection was lost")]
struct ConnectionLost;
