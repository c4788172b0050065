//! Scraping over TLS.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use epp::datalayer::{DataLayer, Settings, StartError};
use epp::endpoints::Pool;
use epp::scrape_config::{Scheme, ScrapeConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;

use crate::fake_worker::FakeWorker;
use crate::{Setup, good, spec, wait_for};

/// An authority, and what it signed, in files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

struct Signed {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { issuer, dir }
    }

    fn ca_path(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for 127.0.0.1.
    fn sign(&self) -> Signed {
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        Signed { cert: params.signed_by(&key, &self.issuer).expect("signed"), key }
    }

    /// Paths of a client's certificate and key.
    fn client(&self) -> (PathBuf, PathBuf) {
        let signed = self.sign();
        let (cert, key) = (self.dir.path().join("client.pem"), self.dir.path().join("client.key"));
        std::fs::write(&cert, signed.cert.pem()).expect("written");
        std::fs::write(&key, signed.key.serialize_pem()).expect("written");
        (cert, key)
    }

    /// A worker with a certificate of this authority, which asks for one too if told to.
    fn worker(&self, asks_client: bool) -> FakeWorker {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let signed = self.sign();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if asks_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("an authority");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(signed.key.serialize_der()).expect("a key");
        let config = builder.with_single_cert(vec![signed.cert.der().clone()], key);
        let config = Arc::new(config.expect("a key that fits"));
        FakeWorker::start_at((Ipv4Addr::LOCALHOST, 0).into(), good(5), Some(config))
    }
}

fn https() -> ScrapeConfig {
    ScrapeConfig { scheme: Scheme::Https, ..ScrapeConfig::default() }
}

fn scrape(worker: &FakeWorker, scrape: ScrapeConfig) -> Setup {
    Setup::with(Settings { scrape, ..Settings::default() }, vec![spec(worker)])
}

#[test]
fn workers_are_scraped_as_far_as_they_are_trusted() {
    let ours = Authority::new();
    let theirs = Authority::new();
    let (cert, key) = ours.client();
    let verify = |authority: &Authority| ScrapeConfig {
        insecure_skip_verify: false,
        ca_cert_path: Some(authority.ca_path()),
        ..https()
    };
    let with_client =
        ScrapeConfig { client_cert_path: Some(cert), client_key_path: Some(key), ..verify(&ours) };
    let plain = ours.worker(false);
    let mutual = ours.worker(true);
    let cases = [
        ("any certificate will do", &plain, https(), true),
        ("signed by the authority", &plain, verify(&ours), true),
        ("signed by another one", &plain, verify(&theirs), false),
        ("the worker asks for ours", &mutual, with_client, true),
        ("the worker asks for ours in vain", &mutual, https(), false),
        ("plain HTTP to a TLS port", &plain, ScrapeConfig::default(), false),
    ];
    for (name, worker, config, works) in cases {
        let setup = scrape(worker, config);
        if works {
            let further = worker.requests() + 4;
            wait_for(name, || setup.values().waiting == 5 && worker.requests() > further);
            assert_eq!(setup.values().block_size, 32, "{name}");
            assert_eq!(setup.poll_errors(), 0, "{name}");
        } else {
            wait_for(name, || setup.poll_errors() > 1);
            assert_eq!(setup.values().updated_at, None, "{name}");
        }
    }
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let ours = Authority::new();
    let (cert, key) = ours.client();
    let missing = ours.dir.path().join("missing.pem");
    let empty = ours.dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing here").expect("written");
    let verify = |path: &PathBuf| ScrapeConfig {
        insecure_skip_verify: false,
        ca_cert_path: Some(path.clone()),
        ..https()
    };
    let cases = [
        (verify(&missing), "missing.pem"),
        (verify(&empty), "empty.pem: no certificate in it"),
        (ScrapeConfig { client_cert_path: Some(cert.clone()), ..https() }, "given together"),
        (
            ScrapeConfig {
                client_cert_path: Some(cert.clone()),
                client_key_path: Some(empty.clone()),
                ..https()
            },
            "empty.pem",
        ),
        (
            ScrapeConfig {
                client_cert_path: Some(ours.ca_path()),
                client_key_path: Some(key),
                ..https()
            },
            "client.key",
        ),
    ];
    for (scrape, named) in cases {
        let settings = Settings { scrape, ..Settings::default() };
        match DataLayer::start(&Pool::new(), settings, Arc::default()) {
            Err(StartError::Tls(message)) => assert!(message.contains(named), "{message}"),
            other => panic!("{named}: {other:?}"),
        }
    }
}
