use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::Connection;

/// A client that has not finished its TLS handshake after this time is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a failed accept: mostly there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted and not yet taken up.
const BACKLOG: usize = 64;

/// Listens on `port` of `address`, or of all addresses, IPv6 and IPv4, where it is `None`.
///
/// # Errors
/// The system's, with the address in front.
pub async fn bind(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    let wanted = address.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
    let listener = match TcpListener::bind((wanted, port)).await {
        // A kernel without IPv6.
        Err(e) if address.is_none() && e.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        listener => listener,
    };
    let named = SocketAddr::new(wanted, port);
    listener.map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {named}: {e}")))
}

/// The connections of a listener, after their TLS handshakes. Handshakes run beside each other,
/// so a slow client holds up nobody. Dropping it stops listening.
#[derive(Debug)]
pub struct Incoming {
    connections: mpsc::Receiver<Connection>,
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Incoming {
    /// Begins to accept; must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the listener does not know its own address.
    pub fn start(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, connections) = mpsc::channel(BACKLOG);
        let accepting = tokio::spawn(accept(listener, tls.map(TlsAcceptor::from), sender));
        Ok(Self { connections, address, _accepting: AbortOnDropHandle::new(accepting) })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Never ends while the listener lives.
    pub(super) async fn next_connection(&mut self) -> Option<Connection> {
        self.connections.recv().await
    }
}

/// The form in which tonic takes connections.
impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: mpsc::Sender<Connection>,
) {
    let mut failing = false;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "Cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        // Messages are small and answers are waited for. Fails where the peer is gone already.
        _ = stream.set_nodelay(true);
        match &tls {
            None => {
                if connections.send(Connection::Plain(stream)).await.is_err() {
                    return;
                }
            }
            Some(tls) => {
                tokio::spawn(handshake(tls.clone(), stream, connections.clone()));
            }
        }
    }
}

async fn handshake(tls: TlsAcceptor, stream: TcpStream, connections: mpsc::Sender<Connection>) {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        // Nobody takes it where the server has stopped meanwhile.
        Ok(Ok(stream)) => _ = connections.send(Connection::Tls(Box::new(stream))).await,
        // TCP probes open a connection and close it again: nothing to write home about.
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}
