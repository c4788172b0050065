//! How scrapers speak TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::StartError;
use super::config::ScrapeConfig;
use crate::files;

/// A larger file of certificates or keys is refused, bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Settings for connections to workers.
///
/// # Errors
/// A file that cannot be read or holds nothing of use, named with the reason.
pub(super) fn client_config(config: &ScrapeConfig) -> Result<Arc<ClientConfig>, StartError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| StartError::Tls(e.to_string()))?;
    let builder = if config.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(config.ca_cert_path.as_deref())?)
    };
    let client = match (&config.client_cert_path, &config.client_key_path) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key_der =
                PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| unusable(key, e))?;
            builder.with_client_auth_cert(chain, key_der).map_err(|e| unusable(key, e))?
        }
        _ => {
            let message = "a client certificate and its key must be given together";
            return Err(StartError::Tls(message.into()));
        }
    };
    Ok(Arc::new(client))
}

/// The authorities in `path`, or those the system trusts.
fn roots(path: Option<&Path>) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    match path {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| unusable(path, e))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let message = "the system trusts no certificate authority; give one";
                return Err(StartError::Tls(message.into()));
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let bytes = read(path)?;
    let found = CertificateDer::pem_slice_iter(&bytes);
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|e| unusable(path, e))?;
    if found.is_empty() {
        return Err(unusable(path, "no certificate in it"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    files::read(path, MAX_FILE_BYTES).map_err(|e| unusable(path, e))
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> StartError {
    StartError::Tls(format!("{}: {reason}", path.display()))
}

/// Accepts any certificate, as the reference does by default: workers have self-signed ones. The
/// handshake must still prove that the worker holds the certificate's key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
