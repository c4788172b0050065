//! The certificate a listener shows: self-signed, or from files that may change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{ToSpan, Zoned};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::files::{Follower, Timing};
use crate::tls::{PemError, certificates, private_key};

/// Names of the files in a certificate directory, as Kubernetes secrets have them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Organisation and lifetime of the self-signed certificate, as in the reference.
const ORGANISATION: &str = "Inference Ext";
const LIFETIME_YEARS: i64 = 10;

/// Why a listener cannot have TLS.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("{directory}: certificate and key: {source}", directory = directory.display())]
    Pair { directory: PathBuf, source: rustls::Error },
    #[error("{file}: {source}", file = file.display())]
    ClientCa { file: PathBuf, source: rustls::server::VerifierBuilderError },
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    #[error("cannot make a self-signed certificate: {0}")]
    Date(#[from] jiff::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate and key a listener shows now; another pair may take their place while it runs.
#[derive(Debug)]
pub struct ServingKey(ArcSwap<CertifiedKey>);

impl ServingKey {
    /// The pair in `tls.crt` and `tls.key` of a directory.
    ///
    /// # Errors
    /// Files that cannot be read, or do not belong together.
    pub fn read(directory: &Path) -> Result<Self, CertificateError> {
        Ok(Self(ArcSwap::new(read_pair(directory)?)))
    }

    /// A fresh self-signed pair without a name in it: clients cannot verify it, and gateways do
    /// not. ECDSA P-256, where the reference has RSA-4096: a handshake costs a fraction.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn self_signed() -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // From yesterday on, so that a clock that is a little late does not matter.
        let from = Zoned::now().checked_sub(1.day())?.date();
        let to = from.checked_add(LIFETIME_YEARS.years())?;
        let date = |d: jiff::civil::Date| {
            rcgen::date_time_ymd(d.year().into(), d.month() as u8, d.day() as u8)
        };
        params.not_before = date(from);
        params.not_after = date(to);
        let certificate = params.self_signed(&key)?;
        let der = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|e| rustls::Error::General(e.into()))?;
        let pair = CertifiedKey::from_der(
            vec![certificate.der().clone()],
            der,
            &ring::default_provider(),
        )?;
        Ok(Self(ArcSwap::from_pointee(pair)))
    }

    /// The pair in use.
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for ServingKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn read_pair(directory: &Path) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain = certificates(&directory.join(CERTIFICATE))?;
    let key = private_key(&directory.join(KEY))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map(Arc::new)
        .map_err(|source| CertificateError::Pair { directory: directory.to_owned(), source })
}

/// Brings a [`ServingKey`] up to date when the files of its directory change, until dropped. A
/// pair that cannot be used leaves the earlier one in place and is logged once.
#[derive(Debug)]
pub struct KeyPairFollower {
    _follower: Follower,
}

impl KeyPairFollower {
    /// Follows `directory`.
    ///
    /// # Errors
    /// Where the system gives no thread for it.
    pub fn start(directory: PathBuf, key: Arc<ServingKey>) -> std::io::Result<Self> {
        // The key stands in the same directory, and is written before or after.
        let noted = Follower::note(&directory.join(CERTIFICATE));
        let mut failure = None;
        let look = move || renew(&directory, &key, &mut failure);
        Ok(Self { _follower: noted.follow("certificates", Timing::default(), look)? })
    }
}

/// Takes up the pair as it is now; `failure` is what was last said about it.
fn renew(directory: &Path, key: &ServingKey, failure: &mut Option<String>) {
    match read_pair(directory) {
        Ok(pair) => {
            *failure = None;
            if pair.cert != key.current().cert {
                key.0.store(pair);
                tracing::info!(directory = %directory.display(), "Certificate renewed");
            }
        }
        Err(error) => {
            let text = error.to_string();
            if failure.as_ref() != Some(&text) {
                tracing::error!(error = text, "New certificate is unusable; the old one stays");
                *failure = Some(text);
            }
        }
    }
}
