use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::zmtp::{Connection, Role, ZmtpError};
use crate::clock;
use crate::kv_events::{Counter, Line, StreamState, Taken, Topic, numbered};

/// Publishers connected at a time.
const MAX_CONNECTIONS: usize = 4096;

/// Finds the stream of a publisher by what its topic says and where it connects from. `None`:
/// nobody is known there.
pub type Resolve = dyn Fn(Topic<'_>, IpAddr) -> Option<Arc<Mutex<Line>>> + Send + Sync;

/// A socket that publishers connect to, for engines that are told one address for all of them.
/// Which publisher a message is from only its topic says.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    unknown: Arc<Counter>,
    _task: AbortOnDropHandle<()>,
}

impl Listener {
    /// Listens at `address` for publishers whose topics begin with `topic_filter`.
    ///
    /// # Errors
    /// Where the address cannot be listened at.
    pub async fn bind(
        address: SocketAddr,
        topic_filter: Arc<str>,
        max_message: usize,
        resolve: Arc<Resolve>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let unknown = Arc::new(Counter::default());
        let peers = Peers { topic_filter, max_message, resolve, unknown: unknown.clone() };
        let task = tokio::spawn(accept(listener, Arc::new(peers)));
        Ok(Self { address, unknown, _task: AbortOnDropHandle::new(task) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Messages of publishers nobody knows.
    pub fn unknown(&self) -> u64 {
        self.unknown.get()
    }
}

struct Peers {
    topic_filter: Arc<str>,
    max_message: usize,
    resolve: Arc<Resolve>,
    unknown: Arc<Counter>,
}

async fn accept(listener: TcpListener, peers: Arc<Peers>) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let peers = peers.clone();
                connections.spawn(async move {
                    let Err(error) = peers.follow(stream, peer.ip()).await;
                    debug!(%peer, %error, "a publisher of KV events left");
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a publisher of KV events could not connect");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

impl Peers {
    async fn follow(
        &self,
        stream: TcpStream,
        peer: IpAddr,
    ) -> Result<std::convert::Infallible, ZmtpError> {
        let mut connection = Connection::open(stream, Role::Sub, self.max_message).await?;
        connection.subscribe(&self.topic_filter).await?;
        // Nearly always one and the same publisher speaks on a connection.
        let mut known: Option<(bytes::Bytes, Weak<Mutex<Line>>)> = None;
        loop {
            let Some(batch) = numbered(connection.receive().await?) else { continue };
            let same = known.as_ref().filter(|(topic, _)| *topic == batch.topic);
            let line = match same.and_then(|(_, line)| line.upgrade()) {
                Some(line) => line,
                None => {
                    let topic = std::str::from_utf8(&batch.topic).ok().and_then(Topic::parse);
                    let Some(line) = topic.and_then(|topic| (self.resolve)(topic, peer)) else {
                        self.unknown.add(1);
                        continue;
                    };
                    known = Some((batch.topic.clone(), Arc::downgrade(&line)));
                    line
                }
            };
            let mut line = line.lock();
            line.status().set_state(StreamState::Live);
            // There is no replay: publishers that connect to us do not say where theirs is.
            if let Taken::Missing { .. } = line.live(&batch, clock::now()) {
                line.go_on_from(&batch);
            }
        }
    }
}
