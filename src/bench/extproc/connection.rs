//! HTTP/2 connections to a picker, plain or TLS.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::tls::AnyCertificate;

/// What Envoy allows a picker to have in flight towards it, in the same order of size.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// A picker's address and how to speak to it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `host:port`.
    pub addr: String,
    pub tls: bool,
}

/// Opens a connection; a task drives it until the last handle is gone.
///
/// # Errors
/// With a text for the user where there is no connection to be had.
pub(super) async fn open(target: &Target) -> Result<SendRequest<Bytes>, String> {
    let stream =
        TcpStream::connect(&target.addr).await.map_err(|e| format!("connect failed: {e}"))?;
    stream.set_nodelay(true).map_err(|e| format!("connect failed: {e}"))?;
    if !target.tls {
        return handshake(stream).await;
    }
    let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(tls_config()?);
    let stream =
        connector.connect(name, stream).await.map_err(|e| format!("TLS handshake failed: {e}"))?;
    handshake(stream).await
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Bytes>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream)
        .await
        .map_err(|e| format!("HTTP/2 handshake failed: {e}"))?;
    // A failing connection fails its exchanges, which report it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(send)
}

/// Takes whatever certificate the picker shows: pickers sign their own, and Envoy's usual
/// configuration does not verify it either.
fn tls_config() -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
