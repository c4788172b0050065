//! Accepting connections: how many, how long a client may say nothing, and what is said about
//! those that speak the wrong protocol.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::Connection;
use super::connection::{CountedConnection, OpenConnections, Transport};
use super::notice::Notice;

/// A client that has sent nothing, or has not finished its TLS handshake, after this time is let
/// go. Counted for each of the two by itself.
const OPENING_TIME: Duration = Duration::from_secs(10);
/// The preface of an HTTP/2 connection and the head of its first frame, bytes.
const HTTP2_OPENING: usize = 24 + 9;
/// Wait after a failed accept: mostly there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted and not yet taken up.
const BACKLOG: usize = 64;
/// What a TLS connection begins with: a handshake record.
const TLS_HANDSHAKE: u8 = 22;

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

/// What a listener is for, and what it lets its clients take together.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// What the log calls it.
    pub name: &'static str,
    /// The flag that says whether there is TLS, for clients that have it wrong; empty where none
    /// does.
    pub tls_flag: &'static str,
    /// Connections open at one time; more are closed as soon as they are accepted.
    pub max_connections: usize,
    /// A client must have begun to speak HTTP/2 in time. HTTP/1 servers look after that by
    /// themselves.
    pub http2: bool,
}

impl ListenerOptions {
    /// Exchanges: every thread of every gateway has connections of its own.
    pub const EXT_PROC: Self = Self {
        name: "ext_proc",
        tls_flag: "--secure-serving",
        max_connections: 16_384,
        http2: true,
    };
    /// Health checks alone.
    pub const HEALTH: Self =
        Self { name: "health", tls_flag: "", max_connections: 1_024, http2: true };
    /// Metrics and debug pages.
    pub const METRICS: Self = Self {
        name: "metrics",
        tls_flag: "--metrics-cert-dir",
        max_connections: 256,
        http2: false,
    };
}

/// The connections of a listener, after their TLS handshakes. Handshakes run beside each other,
/// so a slow client holds up nobody. Dropping it stops listening.
#[derive(Debug)]
pub struct Incoming {
    connections: mpsc::Receiver<Connection>,
    address: SocketAddr,
    open: OpenConnections,
    _accepting: AbortOnDropHandle<()>,
}

impl Incoming {
    /// Begins to accept; must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the listener does not know its own address.
    pub fn start(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        options: ListenerOptions,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, connections) = mpsc::channel(BACKLOG);
        let open = OpenConnections::default();
        let acceptor = Acceptor {
            tls: tls.map(TlsAcceptor::from),
            options,
            open: open.clone(),
            connections: sender,
            full: Notice::new(),
            wrong_protocol: Notice::new(),
        };
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, acceptor)));
        Ok(Self { connections, address, open, _accepting: accepting })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many of its connections are open, from now on and also when `self` is gone.
    pub fn open_connections(&self) -> OpenConnections {
        self.open.clone()
    }

    /// The next connection. Never ends while the listener lives.
    pub(super) async fn next_connection(&mut self) -> Option<Connection> {
        self.connections.recv().await
    }
}

/// What the tasks of one listener share.
struct Acceptor {
    tls: Option<TlsAcceptor>,
    options: ListenerOptions,
    open: OpenConnections,
    connections: mpsc::Sender<Connection>,
    full: Notice,
    wrong_protocol: Notice,
}

async fn accept(listener: TcpListener, acceptor: Acceptor) {
    let acceptor = Arc::new(acceptor);
    let mut failing = false;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    let listener = acceptor.options.name;
                    tracing::warn!(listener, %error, "Cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let Some(counted) = acceptor.open.take(acceptor.options.max_connections) else {
            acceptor.say_full();
            continue;
        };
        // Messages are small and answers are waited for. Fails where the peer is gone already.
        _ = stream.set_nodelay(true);
        tokio::spawn(open(acceptor.clone(), stream, counted));
    }
}

/// Takes a connection up to where its protocol begins.
async fn open(acceptor: Arc<Acceptor>, stream: TcpStream, counted: CountedConnection) {
    let Some(first) = first_byte(&stream).await else { return };
    let is_tls = first == TLS_HANDSHAKE;
    if is_tls != acceptor.tls.is_some() {
        return acceptor.say_wrong_protocol(is_tls);
    }
    let transport = match &acceptor.tls {
        None => Transport::Plain(stream),
        Some(tls) => match tokio::time::timeout(OPENING_TIME, tls.accept(stream)).await {
            Ok(Ok(stream)) => Transport::Tls(Box::new(stream)),
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        },
    };
    let opening = if acceptor.options.http2 { HTTP2_OPENING } else { 0 };
    let connection = Connection::new(transport, opening, OPENING_TIME, counted);
    // Nobody takes it where the server has stopped meanwhile.
    _ = acceptor.connections.send(connection).await;
}

/// What the client begins with, left to be read; `None` where it goes, or says nothing in time:
/// TCP probes open a connection and close it again, which is nothing to write home about.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut byte = [0];
    match tokio::time::timeout(OPENING_TIME, stream.peek(&mut byte)).await {
        Ok(Ok(1)) => Some(byte[0]),
        _ => None,
    }
}

impl Acceptor {
    fn say_full(&self) {
        let ListenerOptions { name: listener, max_connections, .. } = self.options;
        if let Some(times) = self.full.due() {
            tracing::warn!(
                listener,
                max_connections,
                times,
                "Too many connections: more are closed until some end"
            );
        }
    }

    fn say_wrong_protocol(&self, client_has_tls: bool) {
        let ListenerOptions { name: listener, tls_flag: flag, .. } = self.options;
        let Some(times) = self.wrong_protocol.due() else { return };
        match (client_has_tls, flag) {
            (true, "") => tracing::warn!(
                listener,
                times,
                "A client speaks TLS to a port that never has it: let it speak plaintext"
            ),
            (true, _) => tracing::warn!(
                listener,
                times,
                flag,
                "A client speaks TLS, and this port has none: turn TLS on with the flag, or off at \
                 the client"
            ),
            (false, _) => tracing::warn!(
                listener,
                times,
                flag,
                "A client speaks plaintext, and this port wants TLS: turn TLS off with the flag, \
                 or on at the client"
            ),
        }
    }
}
