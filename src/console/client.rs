use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::files;
use crate::tls::AnyCertificate;

/// How long an answer may take, and how long it may be.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 32 << 20;
/// A larger token is refused, bytes.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// Where a running `epp` has its metrics port, and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAccess {
    /// `http://host:port` or `https://host:port`.
    pub address: String,
    /// File with the bearer token, where one is asked for.
    pub token_file: Option<PathBuf>,
    /// Take any certificate.
    pub insecure: bool,
}

/// Why a running `epp` does not say.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("'{0}' is no address such as http://127.0.0.1:9090")]
    Address(String),
    #[error("{file}: {reason}", file = file.display())]
    Token { file: PathBuf, reason: String },
    #[error("{address} does not answer: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("{address} answers {status}: {text}")]
    Refused { address: String, status: StatusCode, text: String },
    #[error("{0}")]
    NotKept(String),
    #[error("{address} does not answer as an epp of this version does")]
    Unknown { address: String },
}

/// Asks the metrics port of a running `epp`.
#[derive(Clone, Debug)]
pub struct AdminClient {
    base: Uri,
    address: String,
    token: Option<String>,
    tls: Option<Arc<ClientConfig>>,
}

impl AdminClient {
    /// # Errors
    /// An address or a token that is of no use.
    pub fn new(access: &AdminAccess) -> Result<Self, AskError> {
        let AdminAccess { address, token_file, insecure } = access;
        let with_scheme = match address.contains("://") {
            true => address.clone(),
            false => format!("http://{address}"),
        };
        let base: Uri = with_scheme.parse().map_err(|_| AskError::Address(address.clone()))?;
        let known = matches!(base.scheme_str(), Some("http" | "https"));
        if !known || base.host().is_none_or(str::is_empty) {
            return Err(AskError::Address(address.clone()));
        }
        let token = token_file.as_ref().map(|file| {
            let text = files::read_text(file, MAX_TOKEN_BYTES);
            let text =
                text.map_err(|e| AskError::Token { file: file.clone(), reason: e.to_string() })?;
            Ok(text.trim().to_owned())
        });
        let tls = (base.scheme_str() == Some("https")).then(|| client_config(*insecure));
        let unusable = |reason| AskError::Unreachable { address: address.clone(), reason };
        Ok(Self {
            token: token.transpose()?,
            tls: tls.transpose().map_err(unusable)?,
            base,
            address: address.clone(),
        })
    }

    /// What a page says.
    ///
    /// # Errors
    /// Where nobody answers in time, or with an error.
    pub async fn text(&self, path: &str) -> Result<String, AskError> {
        let answer = timeout(PATIENCE, self.ask(path)).await;
        let (status, body) = answer
            .unwrap_or_else(|_| Err(format!("nothing came within {} s", PATIENCE.as_secs())))
            .map_err(|reason| AskError::Unreachable { address: self.address.clone(), reason })?;
        let text = String::from_utf8_lossy(&body).into_owned();
        match status.is_success() {
            true => Ok(text),
            false => {
                let text = text.lines().next().unwrap_or_default().chars().take(200).collect();
                Err(AskError::Refused { address: self.address.clone(), status, text })
            }
        }
    }

    /// What a page says in JSON.
    ///
    /// # Errors
    /// As [`AdminClient::text`], and where it is no JSON.
    pub async fn json(&self, path: &str) -> Result<Value, AskError> {
        let text = self.text(path).await?;
        serde_json::from_str(&text).map_err(|_| AskError::Unknown { address: self.address.clone() })
    }

    async fn ask(&self, path: &str) -> Result<(StatusCode, Bytes), String> {
        let host = self.base.host().unwrap_or_default();
        let port = self.base.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let bare = host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((bare, port)).await.map_err(|e| e.to_string())?;
        match &self.tls {
            None => self.exchange(stream, path).await,
            Some(config) => {
                let name = ServerName::try_from(bare.to_owned()).map_err(|e| e.to_string())?;
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
                self.exchange(stream, path).await
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        path: &str,
    ) -> Result<(StatusCode, Bytes), String> {
        let text = |e: hyper::Error| e.to_string();
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
        let connection = tokio::spawn(connection);
        let authority = self.base.authority().map_or("", |a| a.as_str());
        let mut request = Request::get(path).header(HOST, authority);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        connection.abort();
        Ok((status, body.map_err(|e| e.to_string())?.to_bytes()))
    }
}

fn client_config(insecure: bool) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = if insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        builder.with_root_certificates(roots)
    };
    Ok(Arc::new(builder.with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (address, is_good) in [
            ("http://127.0.0.1:9090", true),
            ("127.0.0.1:9090", true),
            ("https://epp.example:9090", true),
            ("http://[::1]:9090", true),
            ("ftp://epp:9090", false),
            ("http://", false),
            ("not an address", false),
            ("", false),
        ] {
            let access = AdminAccess { address: address.into(), token_file: None, insecure: true };
            assert_eq!(AdminClient::new(&access).is_ok(), is_good, "{address}");
        }
    }
}
