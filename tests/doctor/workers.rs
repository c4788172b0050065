//! Real `epp-sim` workers, and endpoints that are none.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::process::Process;

/// Some workers with the same flags; they end with the value.
pub struct Workers {
    pub at: Vec<SocketAddr>,
    _process: Process,
}

impl Workers {
    pub fn start(count: usize, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epp-sim"));
        command.args(["--port=0", "--instant", &format!("--workers={count}")]).args(flags);
        let process = Process::start("epp-sim", &mut command);
        let mut at: Vec<SocketAddr> = Vec::new();
        process.wait_for("its addresses", |line| {
            let address = line.strip_prefix("listening on http://");
            at.extend(address.and_then(|a| a.parse::<SocketAddr>().ok()));
            (at.len() == count).then_some(())
        });
        Self { at, _process: process }
    }
}

/// `--endpoints` of all these.
pub fn endpoints(lists: &[&[SocketAddr]]) -> String {
    let all: Vec<String> = lists.concat().iter().map(ToString::to_string).collect();
    format!("--endpoints={}", all.join(","))
}

/// An address at which nobody listens.
pub fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

/// Takes connections and hands each to `serve`, until the test's runtime ends.
pub async fn serve<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// An endpoint that takes connections and never says a word.
pub async fn silent() -> SocketAddr {
    serve(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await
}

/// An endpoint that answers with no HTTP.
pub async fn not_http() -> SocketAddr {
    serve(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await
}

/// An endpoint that speaks TLS and nothing within it.
pub async fn tls() -> SocketAddr {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a key that fits");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let _ = acceptor.accept(stream).await;
        }
    })
    .await
}
