//! Certificates: the self-signed one, those of a directory, and their renewal.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use epp::server::{Incoming, KeyPairFollower, ServingKey, TlsPolicy, server_config};
use rcgen::{CertificateParams, KeyPair};
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;

use crate::client::{handshake, listen};

/// A listener that shows `key`.
async fn serve(policy: &TlsPolicy, key: Arc<ServingKey>) -> Incoming {
    listen(Some(server_config(policy, key, None, &[b"h2"]).unwrap().into())).await
}

/// The certificate shown at `address`, DER.
async fn shown(address: SocketAddr) -> Vec<u8> {
    let stream = handshake(address, rustls::ALL_VERSIONS).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Writes a fresh pair into a directory and returns its certificate, DER.
fn write_pair(directory: &Path) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["epp.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    certificate.der().to_vec()
}

async fn until_shown(address: SocketAddr, certificate: &[u8]) {
    let start = Instant::now();
    while shown(address).await != certificate {
        assert!(start.elapsed() < Duration::from_secs(30), "the new certificate never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn without_a_directory_a_self_signed_certificate_is_shown() {
    let incoming = serve(&TlsPolicy::default(), Arc::new(ServingKey::self_signed().unwrap())).await;
    for versions in [[&TLS12], [&TLS13]] {
        let stream = handshake(incoming.local_addr(), &versions).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        let certificate = session.peer_certificates().unwrap()[0].to_vec();
        let has = |bytes: &[u8]| certificate.windows(bytes.len()).any(|w| w == bytes);
        assert!(has(b"Inference Ext"), "the reference's organisation");
        // Object identifiers: the curve P-256, and the use as a server.
        assert!(has(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]));
        assert!(has(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01]));
    }
}

#[tokio::test]
async fn the_least_version_is_enforced() {
    let (policy, _) = TlsPolicy::parse(Some("VersionTLS13"), &[]).unwrap();
    let incoming = serve(&policy, Arc::new(ServingKey::self_signed().unwrap())).await;
    assert!(handshake(incoming.local_addr(), &[&TLS12]).await.is_err());
    assert!(handshake(incoming.local_addr(), &[&TLS13]).await.is_ok());
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_up_nobody() {
    let incoming = serve(&TlsPolicy::default(), Arc::new(ServingKey::self_signed().unwrap())).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(incoming.local_addr()).await.unwrap());
    }
    assert!(handshake(incoming.local_addr(), &[&TLS13]).await.is_ok());
}

#[tokio::test]
async fn a_renewed_pair_is_shown_to_new_connections() {
    let directory = tempfile::tempdir().unwrap();
    let first = write_pair(directory.path());
    let key = Arc::new(ServingKey::read(directory.path()).unwrap());
    let _follower = KeyPairFollower::start(directory.path().to_owned(), key.clone()).unwrap();
    let incoming = serve(&TlsPolicy::default(), key).await;
    let address = incoming.local_addr();
    assert_eq!(shown(address).await, first);

    let second = write_pair(directory.path());
    until_shown(address, &second).await;
}

#[tokio::test]
async fn a_broken_pair_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let first = write_pair(directory.path());
    let key = Arc::new(ServingKey::read(directory.path()).unwrap());
    let _follower = KeyPairFollower::start(directory.path().to_owned(), key.clone()).unwrap();
    let incoming = serve(&TlsPolicy::default(), key).await;
    let address = incoming.local_addr();

    // A key of another certificate, then no certificate at all; what comes after them is taken,
    // so both have been looked at or passed over, and never shown.
    let other = tempfile::tempdir().unwrap();
    write_pair(other.path());
    std::fs::copy(other.path().join("tls.key"), directory.path().join("tls.key")).unwrap();
    assert_eq!(shown(address).await, first);
    std::fs::write(directory.path().join("tls.crt"), "garbage").unwrap();
    assert_eq!(shown(address).await, first);
    let last = write_pair(directory.path());
    until_shown(address, &last).await;
}

#[tokio::test]
async fn a_kubernetes_secret_is_swapped_by_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let mount = directory.path();
    let link = |version: &str| {
        std::fs::create_dir(mount.join(version)).unwrap();
        let certificate = write_pair(&mount.join(version));
        std::os::unix::fs::symlink(version, mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        certificate
    };
    link("..v1");
    for file in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(Path::new("..data").join(file), mount.join(file)).unwrap();
    }
    let key = Arc::new(ServingKey::read(mount).unwrap());
    let _follower = KeyPairFollower::start(mount.to_owned(), key.clone()).unwrap();
    let incoming = serve(&TlsPolicy::default(), key).await;

    let renewed = link("..v2");
    until_shown(incoming.local_addr(), &renewed).await;
}

#[test]
fn a_directory_without_a_usable_pair_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let told = || ServingKey::read(directory.path()).unwrap_err().to_string();
    assert!(told().contains("tls.crt"), "{}", told());
    write_pair(directory.path());
    let certificate = std::fs::read(directory.path().join("tls.crt")).unwrap();
    write_pair(directory.path());
    std::fs::write(directory.path().join("tls.crt"), certificate).unwrap();
    assert!(told().contains("certificate and key"), "{}", told());
    std::fs::write(directory.path().join("tls.crt"), "").unwrap();
    assert!(told().contains("no certificate"), "{}", told());
    std::fs::remove_file(directory.path().join("tls.key")).unwrap();
    write_pair(directory.path());
    std::fs::remove_file(directory.path().join("tls.key")).unwrap();
    assert!(told().contains("tls.key"), "{}", told());
}
