//! Clients as gateways and probes are: gRPC over plain TCP or TLS without verification.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use epp::endpoints::Pool;
use epp::server::{Incoming, ListenerOptions, Readiness, bind};
use epp::tls::AnyCertificate;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A listener on a free port of this machine.
pub async fn listen(tls: Option<Arc<ServerConfig>>) -> Incoming {
    let listener = bind(Some(LOCALHOST), 0).await.unwrap();
    Incoming::start(listener, tls, ListenerOptions::EXT_PROC).unwrap()
}

/// The readiness of a pool that has been listed or not.
pub fn readiness(synced: bool) -> Arc<Readiness> {
    let pool = Arc::new(Pool::new());
    pool.set_synced(synced);
    Arc::new(Readiness::new(pool, None))
}

/// A gRPC channel over plain TCP.
pub async fn plain(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// A gRPC channel over TLS.
pub async fn secure(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let connect = tower::service_fn(move |_| async move {
        Ok::<_, std::io::Error>(TokioIo::new(handshake(address, rustls::ALL_VERSIONS).await?))
    });
    endpoint.connect_with_connector(connect).await.unwrap()
}

/// A TLS connection offering `h2` in the given versions, whatever certificate is shown.
pub async fn handshake(
    address: SocketAddr,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(
            ring::default_provider().into(),
        )))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(LOCALHOST), stream).await
}
