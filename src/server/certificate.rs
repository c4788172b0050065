use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{ToSpan, Zoned};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Names of the files in a certificate directory, as Kubernetes secrets have them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Changes within this time are taken up together (the reference's 250 ms).
const DEBOUNCE: Duration = Duration::from_millis(250);
/// The files are read again after this time even if nothing was noticed.
const RECHECK: Duration = Duration::from_secs(60);

/// Organisation and lifetime of the self-signed certificate, as in the reference.
const ORGANISATION: &str = "Inference Ext";
const LIFETIME_YEARS: i64 = 10;

/// Why a listener cannot have TLS.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{file}: {source}", file = file.display())]
    Pem { file: PathBuf, source: pem::Error },
    #[error("{file}: no certificate in it", file = file.display())]
    Empty { file: PathBuf },
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
    let file = directory.join(CERTIFICATE);
    let pem = |source| CertificateError::Pem { file: file.clone(), source };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&file)
        .map_err(pem)?
        .collect::<Result<_, _>>()
        .map_err(pem)?;
    if chain.is_empty() {
        return Err(CertificateError::Empty { file });
    }
    let file = directory.join(KEY);
    let key = PrivateKeyDer::from_pem_file(&file)
        .map_err(|source| CertificateError::Pem { file, source })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map(Arc::new)
        .map_err(|source| CertificateError::Pair { directory: directory.to_owned(), source })
}

/// Brings a [`ServingKey`] up to date when the files of its directory change, until dropped. A
/// pair that cannot be used leaves the earlier one in place and is logged once.
#[derive(Debug)]
pub struct KeyPairFollower {
    _task: AbortOnDropHandle<()>,
}

impl KeyPairFollower {
    /// Follows `directory`; must be called within a tokio runtime.
    pub fn start(directory: PathBuf, key: Arc<ServingKey>) -> Self {
        let (changed, changes) = mpsc::channel(1);
        let watcher = watch(&directory, changed);
        let follow = follow(directory, key, watcher, changes);
        Self { _task: AbortOnDropHandle::new(tokio::spawn(follow)) }
    }
}

/// A watcher of the directory: secrets are swapped by renaming a link in it.
fn watch(directory: &Path, changed: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        let read_only = event.is_ok_and(|e| e.kind.is_access() && !is_written(&e.kind));
        if !read_only {
            // A change that is already being told of need not be told of twice.
            _ = changed.try_send(());
        }
    };
    notify::recommended_watcher(told)
        .and_then(|mut watcher| {
            watcher.watch(directory, RecursiveMode::NonRecursive).map(|()| watcher)
        })
        .inspect_err(|e| {
            let directory = directory.display();
            tracing::warn!(%directory, error = %e, "Cannot watch certificates; looking now and then");
        })
        .ok()
}

fn is_written(kind: &notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    matches!(kind, EventKind::Access(AccessKind::Close(AccessMode::Write)))
}

async fn follow(
    directory: PathBuf,
    key: Arc<ServingKey>,
    watcher: Option<RecommendedWatcher>,
    mut changes: mpsc::Receiver<()>,
) {
    let mut failure = None;
    loop {
        let told = tokio::time::timeout(RECHECK, async {
            match &watcher {
                Some(_) => changes.recv().await,
                None => std::future::pending().await,
            }
        });
        if let Ok(None) = told.await {
            return;
        }
        tokio::time::sleep(DEBOUNCE).await;
        while changes.try_recv().is_ok() {}
        match read_pair(&directory) {
            Ok(pair) => {
                failure = None;
                if pair.cert != key.current().cert {
                    key.0.store(pair);
                    tracing::info!(directory = %directory.display(), "Certificate renewed");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if failure.as_ref() != Some(&text) {
                    tracing::error!(error = text, "New certificate is unusable; the old one stays");
                    failure = Some(text);
                }
            }
        }
    }
}
