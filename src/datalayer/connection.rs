//! One connection to a worker, plain or encrypted; nothing on it ever waits.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

/// A connection in non-blocking mode, perhaps not established yet: until it is, reading and
/// writing say `WouldBlock`.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Where bytes go that nobody wants.
pub(super) struct DiscardBuffer {
    /// Never written to, so it takes address space and no memory.
    #[cfg(target_os = "linux")]
    unwritten: Box<[std::mem::MaybeUninit<u8>]>,
    scratch: Box<[u8]>,
}

impl DiscardBuffer {
    pub(super) fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            unwritten: Box::new_uninit_slice(1 << 20),
            scratch: vec![0; 16 << 10].into(),
        }
    }
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(e) if is_in_progress(&e) => {}
            Err(e) => return Err(e),
        }
        let stream = TcpStream::from(socket);
        let Some(tls) = tls else { return Ok(Self::Plain(stream)) };
        let session = ClientConnection::new(tls.clone(), address.ip().into());
        Ok(Self::Tls(Box::new(StreamOwned::new(session.map_err(io::Error::other)?, stream))))
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => retry(|| stream.read(into)),
            Self::Tls(stream) => retry(|| stream.read(into)),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => retry(|| stream.write(bytes)),
            Self::Tls(stream) => retry(|| stream.write(bytes)),
        }
    }

    /// Reads up to `n` bytes and forgets them; in the kernel, without copying, where it can.
    pub(super) fn drop_bytes(&mut self, n: u64, discard: &mut DiscardBuffer) -> io::Result<usize> {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        match self {
            // On TCP, Linux takes this flag to mean just that; see tcp(7).
            #[cfg(target_os = "linux")]
            Self::Plain(stream) => {
                let n = n.min(discard.unwritten.len());
                let socket = socket2::SockRef::from(&*stream);
                retry(|| socket.recv_with_flags(&mut discard.unwritten[..n], libc::MSG_TRUNC))
            }
            other => {
                let n = n.min(discard.scratch.len());
                other.read(&mut discard.scratch[..n])
            }
        }
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Some systems say so of a socket that is still connecting.
            Err(e) if e.kind() == io::ErrorKind::NotConnected => {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            result => return result,
        }
    }
}

fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EINPROGRESS)
}
