//! A worker whose `/metrics` does what a test tells it to.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a worker does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes and waits for the next request.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Sends these bytes and then nothing, for ever.
    SendAndHang(Vec<u8>),
    /// Sends these bytes in parts of this size, with pauses.
    Drip(Vec<u8>, usize),
}

pub struct Shared {
    act: Mutex<Act>,
    stopped: AtomicBool,
    pub connections: AtomicUsize,
    pub requests: AtomicUsize,
    pub last_request: Mutex<String>,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

pub struct FakeWorker {
    pub address: SocketAddr,
    pub shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl FakeWorker {
    pub fn start(act: Act) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), act, None)
    }

    pub fn start_at(address: SocketAddr, act: Act, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let shared = Arc::new(Shared {
            act: Mutex::new(act),
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            last_request: Mutex::default(),
            tls,
        });
        let address = listener.local_addr().expect("bound");
        let for_thread = shared.clone();
        let thread = std::thread::spawn(move || accept(&listener, &for_thread));
        Self { address, shared, thread: Some(thread) }
    }

    pub fn now(&self, act: Act) {
        *self.shared.act.lock().expect("not poisoned") = act;
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn last_request(&self) -> String {
        self.shared.last_request.lock().expect("not poisoned").clone()
    }

    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }
}

impl Drop for FakeWorker {
    /// Closes the listener and all connections, and waits until that is done.
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut conversations = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopped.load(Ordering::SeqCst) {
            break;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = shared.clone();
        conversations.push(std::thread::spawn(move || {
            // The other end may go away at any moment.
            let _ = converse(stream, &shared);
        }));
    }
    for conversation in conversations {
        let _ = conversation.join();
    }
}

fn converse(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    // Looks up from time to time, to see whether it is over.
    stream.set_read_timeout(Some(Duration::from_millis(10)))?;
    stream.set_nodelay(true)?;
    match &shared.tls {
        None => answer_all(stream, shared),
        Some(config) => {
            let session =
                rustls::ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            answer_all(rustls::StreamOwned::new(session, stream), shared)
        }
    }
}

fn answer_all(mut stream: impl Read + Write, shared: &Shared) -> io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !shared.stopped.load(Ordering::SeqCst) {
        match read(&mut stream, &mut part)? {
            Some(0) => return Ok(()),
            n => request.extend_from_slice(&part[..n.unwrap_or(0)]),
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        *shared.last_request.lock().expect("not poisoned") =
            String::from_utf8_lossy(&request).into_owned();
        request.clear();
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let act = shared.act.lock().expect("not poisoned").clone();
        match act {
            Act::Send(bytes) => stream.write_all(&bytes)?,
            Act::SendAndClose(bytes) => return stream.write_all(&bytes),
            Act::SendAndHang(bytes) => {
                stream.write_all(&bytes)?;
                while !shared.stopped.load(Ordering::SeqCst) {
                    if read(&mut stream, &mut part)? == Some(0) {
                        break;
                    }
                }
                return Ok(());
            }
            Act::Drip(bytes, size) => {
                for part in bytes.chunks(size) {
                    stream.write_all(part)?;
                    stream.flush()?;
                    std::thread::sleep(Duration::from_millis(3));
                }
            }
        }
        stream.flush()?;
    }
    Ok(())
}

/// Reads some bytes; `None` where none came for a moment.
fn read(stream: &mut impl Read, into: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(into) {
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Ok(None)
        }
        result => result.map(Some),
    }
}
