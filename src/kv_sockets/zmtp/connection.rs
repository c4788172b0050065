use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ZmtpError;
use super::frame::{self, Frame};
use crate::kv_events::Parts;

/// How long a peer may take to introduce itself.
const HANDSHAKE: Duration = Duration::from_secs(5);
const GREETING: usize = 64;
/// Longest introduction of a peer.
const MAX_COMMAND: usize = 4096;
/// Parts of a message; what is expected has at most five.
const MAX_PARTS: usize = 8;
/// Bytes asked of the kernel at a time.
const READ: usize = 16 * 1024;
/// Engines that have nothing to say send nothing, so a peer that vanished is only found so.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// What we are to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Subscribes to what a publisher sends.
    Sub,
    /// Asks a router.
    Dealer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Sub => "SUB",
            Self::Dealer => "DEALER",
        }
    }

    fn fits(self, peer: &[u8]) -> bool {
        match self {
            Self::Sub => peer == b"PUB" || peer == b"XPUB",
            Self::Dealer => peer == b"ROUTER" || peer == b"REP" || peer == b"DEALER",
        }
    }
}

/// One connection to a ZeroMQ socket.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    /// Parts of the message that is on its way.
    parts: Parts,
    /// Bytes in `parts`.
    size: usize,
    max_message: usize,
}

impl Connection {
    /// Greets the peer at the other end of `stream`, which either side may have opened.
    /// Messages of more than `max_message` bytes end the connection.
    ///
    /// # Errors
    /// Where the peer is no ZeroMQ socket of a fitting type, or takes too long to say so.
    pub async fn open(
        stream: TcpStream,
        role: Role,
        max_message: usize,
    ) -> Result<Self, ZmtpError> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
        let (buffer, parts) = (BytesMut::new(), Parts::new());
        let mut connection = Self { stream, buffer, parts, size: 0, max_message };
        timeout(HANDSHAKE, connection.handshake(role)).await.map_err(|_| ZmtpError::TimedOut)??;
        Ok(connection)
    }

    async fn handshake(&mut self, role: Role) -> Result<(), ZmtpError> {
        let mut greeting = [0; GREETING];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        // Version 3.0, where subscriptions are messages.
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        self.stream.write_all(&greeting).await?;
        while self.buffer.len() < GREETING {
            self.fill().await?;
        }
        let theirs = self.buffer.split_to(GREETING);
        let is_zmtp = theirs[0] == 0xff && theirs[9] & 1 == 1 && theirs[10] >= 3;
        if !is_zmtp || theirs[12..32] != greeting[12..32] {
            return Err(ZmtpError::NotZmtp);
        }
        let mut ready = BytesMut::new();
        let name = role.name();
        let mut properties = Vec::new();
        property(&mut properties, "Socket-Type", name.as_bytes());
        property(&mut properties, "Identity", b"");
        frame::put_command(&mut ready, "READY", &properties);
        self.stream.write_all(&ready).await?;
        let Frame::Command(command) = self.frame(MAX_COMMAND).await? else {
            return Err(ZmtpError::NotZmtp);
        };
        match frame::split_command(&command) {
            Some((b"READY", properties)) if role.fits(socket_type(properties)) => Ok(()),
            Some((b"READY" | b"ERROR", _)) => Err(ZmtpError::WrongSocket),
            _ => Err(ZmtpError::NotZmtp),
        }
    }

    /// Asks a publisher for the messages whose topic begins with `prefix`.
    ///
    /// # Errors
    /// Where the connection failed.
    pub async fn subscribe(&mut self, prefix: &str) -> Result<(), ZmtpError> {
        self.send(&[&[b"\x01", prefix.as_bytes()].concat()]).await
    }

    /// # Errors
    /// Where the connection failed.
    pub async fn send(&mut self, parts: &[&[u8]]) -> Result<(), ZmtpError> {
        let mut out = BytesMut::new();
        frame::put_message(&mut out, parts);
        self.stream.write_all(&out).await?;
        Ok(())
    }

    /// The next message. Nothing is lost where the call is given up before it ends.
    ///
    /// # Errors
    /// Where the connection ended, or the message is too long or has too many parts.
    pub async fn receive(&mut self) -> Result<Parts, ZmtpError> {
        loop {
            let max = self.max_message.saturating_sub(self.size);
            match self.frame(max).await? {
                Frame::Command(command) => self.command(&command).await?,
                Frame::Part(part, more) => {
                    self.size += part.len();
                    self.parts.push(part);
                    if !more {
                        self.size = 0;
                        return Ok(std::mem::take(&mut self.parts));
                    }
                    if self.parts.len() == MAX_PARTS {
                        return Err(ZmtpError::TooLong);
                    }
                }
            }
        }
    }

    async fn command(&mut self, command: &[u8]) -> Result<(), ZmtpError> {
        // A ping has a time to live of two bytes before what is to be sent back.
        if let Some((b"PING", body)) = frame::split_command(command) {
            let mut pong = BytesMut::new();
            frame::put_command(&mut pong, "PONG", body.get(2..).unwrap_or_default());
            self.stream.write_all(&pong).await?;
        }
        Ok(())
    }

    async fn frame(&mut self, max: usize) -> Result<Frame, ZmtpError> {
        loop {
            if let Some(frame) = frame::take(&mut self.buffer, max)? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Reads what there is. The buffer grows with what came, not with what was announced.
    async fn fill(&mut self) -> Result<(), ZmtpError> {
        self.buffer.reserve(READ);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ZmtpError::Closed),
            _ => Ok(()),
        }
    }
}

fn property(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// The type of socket that a peer says it is.
fn socket_type(mut properties: &[u8]) -> &[u8] {
    while let Some((name, rest)) = frame::split_command(properties) {
        let Some((len, rest)) = rest.split_first_chunk() else { break };
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        let Some((value, rest)) = rest.split_at_checked(len) else { break };
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return value;
        }
        properties = rest;
    }
    b""
}
