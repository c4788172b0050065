//! How scrapers speak TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::StartError;
use crate::scrape_config::ScrapeConfig;
use crate::tls::{AnyCertificate, PemError, certificates, private_key};

impl From<PemError> for StartError {
    fn from(error: PemError) -> Self {
        Self::Tls(error.to_string())
    }
}

/// Settings for connections to workers.
///
/// # Errors
/// A file that cannot be read or holds nothing of use, named with the reason.
pub(crate) fn client_config(config: &ScrapeConfig) -> Result<Arc<ClientConfig>, StartError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| StartError::Tls(e.to_string()))?;
    let builder = if config.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
    } else {
        builder.with_root_certificates(roots(config.ca_cert_path.as_deref())?)
    };
    let client = match (&config.client_cert_path, &config.client_key_path) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key_der = private_key(key)?;
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

fn unusable(path: &Path, reason: impl std::fmt::Display) -> StartError {
    StartError::Tls(format!("{}: {reason}", path.display()))
}
