//! HTTP/2 frame by frame, for what no well-behaved client sends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const DATA: u8 = 0;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// What begins every HTTP/2 connection, and SETTINGS without any.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

pub const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A frame as read.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// Of a GOAWAY: the error code, and what the peer adds in words.
    pub fn goaway(&self) -> (u32, String) {
        let code = self.payload.get(4..8).map_or([0; 4], |code| code.try_into().unwrap());
        let words = self.payload.get(8..).unwrap_or_default();
        (u32::from_be_bytes(code), String::from_utf8_lossy(words).into_owned())
    }
}

/// A connection whose preface has been sent.
pub struct Client {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
}

impl Client {
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the port is open");
        let (read, mut write) = stream.into_split();
        write.write_all(PREFACE).await.expect("the preface is taken");
        Self { read, write }
    }

    pub fn split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (self.read, self.write)
    }

    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write.write_all(bytes).await
    }

    /// The next frame; `None` where the connection ended or nothing came for `limit`.
    pub async fn next(&mut self, limit: Duration) -> Option<Frame> {
        timeout(limit, async {
            let mut head = [0; 9];
            self.read.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.read.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        })
        .await
        .ok()
        .flatten()
    }

    /// Reads up to a frame of `kind` on `stream`; panics on GOAWAY or the end.
    pub async fn until(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next(super::support::PATIENCE).await;
            let frame = frame.unwrap_or_else(|| panic!("the connection ended before {kind}"));
            assert!(kind == GOAWAY || frame.kind != GOAWAY, "sent away: {:?}", frame.goaway());
            if frame.kind == kind && frame.stream == stream {
                return frame;
            }
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                let ack = frame_bytes(SETTINGS, ACK, 0, &[]);
                self.send(&ack).await.expect("settings can be acknowledged");
            }
        }
    }

    /// Waits until everything sent so far has been read.
    pub async fn ping(&mut self) {
        self.send(&frame_bytes(PING, 0, 0, b"12345678")).await.expect("a ping can be sent");
        self.until(PING, 0).await;
    }

    /// A health check on `stream` of this connection; panics unless it is answered.
    pub async fn check_health(&mut self, stream: u32) {
        let mut bytes = open(stream, HEALTH, &[]);
        bytes.extend(frame_bytes(DATA, END_STREAM, stream, &[0, 0, 0, 0, 0]));
        self.send(&bytes).await.expect("a request can be sent");
        self.until(HEADERS, stream).await;
    }
}

fn frame_bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HEADERS that open a gRPC call, without the dynamic table: literals, not indexed.
pub fn open(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // :method POST, :scheme http, :path.
    let mut block = vec![0x83, 0x86, 0x04];
    block.extend(text(path));
    for (name, value) in
        [(":authority", "epp"), ("content-type", "application/grpc"), ("te", "trailers")]
            .iter()
            .chain(more)
    {
        block.push(0);
        block.extend(text(name));
        block.extend(text(value));
    }
    frame_bytes(HEADERS, END_HEADERS, stream, &block)
}

/// HEADERS as short as a request can be: three names and values of the static table.
pub fn open_shortest(stream: u32) -> Vec<u8> {
    frame_bytes(HEADERS, END_HEADERS, stream, &[0x83, 0x86, 0x84])
}

/// RST_STREAM with CANCEL.
pub fn reset(stream: u32) -> Vec<u8> {
    frame_bytes(RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

/// A string as HPACK writes it, without Huffman coding.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 4);
    let mut left = text.len();
    if left < 127 {
        bytes.push(left as u8);
    } else {
        bytes.push(127);
        left -= 127;
        while left >= 128 {
            bytes.push((left % 128 + 128) as u8);
            left /= 128;
        }
        bytes.push(left as u8);
    }
    bytes.extend(text.as_bytes());
    bytes
}
