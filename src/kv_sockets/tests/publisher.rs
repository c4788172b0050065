use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

const END: &[u8] = &[0xff; 8];

/// How a release lays out its answers to requests for replay.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// vLLM up to 0.24: no topic.
    Old,
    /// vLLM from 0.29.
    New,
}

type Buffer = Arc<Mutex<VecDeque<(u64, Bytes)>>>;

/// Publishes as vLLM does, over sockets of another implementation.
pub(super) struct Publisher {
    socket: PubSocket,
    topic: Bytes,
    next: u64,
    buffer: Buffer,
    pub live: String,
    pub replay: String,
    _router: AbortOnDropHandle<()>,
}

impl Publisher {
    /// Publishes at `live` and replays at `replay` (port 0: any).
    pub(super) async fn start(
        topic: &'static str,
        layout: Layout,
        live: &str,
        replay: &str,
    ) -> Self {
        let address = |bound: zeromq::Endpoint| bound.to_string().replace("tcp://", "");
        let mut socket = PubSocket::new();
        let live = address(socket.bind(&format!("tcp://{live}")).await.unwrap());
        let mut router = RouterSocket::new();
        let replay = address(router.bind(&format!("tcp://{replay}")).await.unwrap());
        let buffer = Buffer::default();
        let topic = Bytes::from_static(topic.as_bytes());
        let answers = answer(router, topic.clone(), layout, buffer.clone());
        let router = AbortOnDropHandle::new(tokio::spawn(answers));
        Self { socket, topic, next: 0, buffer, live, replay, _router: router }
    }

    /// Connects to a subscriber that is bound, as engines with a fixed address do.
    pub(super) async fn connect(topic: &'static str, address: &str) -> Self {
        let mut publisher = Self::start(topic, Layout::New, "127.0.0.1:0", "127.0.0.1:0").await;
        publisher.socket.connect(&format!("tcp://{address}")).await.unwrap();
        publisher
    }

    pub(super) async fn publish(&mut self, payload: Vec<u8>) {
        let payload = self.keep(payload);
        let number = Bytes::copy_from_slice(&(self.next - 1).to_be_bytes());
        self.send(vec![self.topic.clone(), number, payload]).await;
    }

    /// As when the queue to the subscriber is full: only a replay brings it.
    pub(super) fn lose(&mut self, payload: Vec<u8>) {
        self.keep(payload);
    }

    pub(super) async fn send(&mut self, parts: Vec<Bytes>) {
        self.socket.send(ZmqMessage::try_from(parts).unwrap()).await.unwrap();
    }

    /// Drops all but the newest batches, as a buffer that is full does.
    pub(super) fn forget_all_but(&self, newest: usize) {
        let mut buffer = self.buffer.lock();
        let old = buffer.len().saturating_sub(newest);
        buffer.drain(..old);
    }

    fn keep(&mut self, payload: Vec<u8>) -> Bytes {
        let payload = Bytes::from(payload);
        self.buffer.lock().push_back((self.next, payload.clone()));
        self.next += 1;
        payload
    }
}

async fn answer(mut router: RouterSocket, topic: Bytes, layout: Layout, buffer: Buffer) {
    while let Ok(request) = router.recv().await {
        let [identity, empty, from] = &request.into_vec()[..] else { continue };
        assert!(empty.is_empty());
        let from = u64::from_be_bytes(from.as_ref().try_into().unwrap());
        let batches: Vec<(u64, Bytes)> =
            buffer.lock().iter().filter(|(number, _)| *number >= from).cloned().collect();
        let batches = batches.into_iter().map(|(number, payload)| {
            (topic.clone(), Bytes::copy_from_slice(&number.to_be_bytes()), payload)
        });
        let end = (Bytes::new(), Bytes::from_static(END), Bytes::new());
        for (topic, number, payload) in batches.chain([end]) {
            let mut parts = vec![identity.clone(), Bytes::new()];
            match layout {
                Layout::Old => parts.extend([number, payload]),
                Layout::New => parts.extend([topic, number, payload]),
            }
            if router.send(ZmqMessage::try_from(parts).unwrap()).await.is_err() {
                break;
            }
        }
    }
}
