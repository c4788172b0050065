//! One HTTP exchange as a picker sees it from Envoy: one gRPC stream.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};

use super::messages::Messages;
use super::reply::{self, Piece, Reply};

/// How an exchange went that ended well.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// From the last byte of the request body to the reply that names the worker, plus what the
    /// first byte was late.
    pub headers_out: Duration,
    /// From the intended start to the end of the stream.
    pub total: Duration,
    /// The worker's address.
    pub destination: Bytes,
}

/// How an exchange went that did not. Shown as the kind of error that reports count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection is gone; the next exchange needs another.
    Connection(String),
    /// The stream was reset or the server answered with something other than gRPC.
    Stream(String),
    /// The stream ended with this gRPC status before the exchange was over.
    Grpc(String),
    /// The picker had the client be told this HTTP status.
    Immediate(u64),
    /// Replies that do not fit the protocol.
    Protocol(&'static str),
    Timeout,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connection(e) => write!(f, "connection: {e}"),
            Failure::Stream(e) => write!(f, "stream: {e}"),
            Failure::Grpc(status) => write!(f, "ended early with gRPC status {status}"),
            Failure::Immediate(status) => write!(f, "immediate response {status}"),
            Failure::Protocol(what) => write!(f, "protocol: {what}"),
            Failure::Timeout => f.write_str("timeout"),
        }
    }
}

impl From<h2::Error> for Failure {
    fn from(e: h2::Error) -> Self {
        if e.is_io() || e.is_go_away() {
            Failure::Connection(e.to_string())
        } else {
            Failure::Stream(e.to_string())
        }
    }
}

/// Runs exchange `number`, which was meant to start at `intended`: what it waited for a place on
/// the connection, or for this process to get to it, counts as latency.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn run(
    connection: SendRequest<Bytes>,
    messages: &Messages,
    number: u64,
    group: usize,
    intended: Instant,
) -> Result<Outcome, Failure> {
    let mut connection =
        connection.ready().await.map_err(|e| Failure::Connection(e.to_string()))?;
    let (response, mut send) = connection.send_request(call(), false)?;
    let late = intended.elapsed();
    let mut sent = Ok(());
    let body_bytes = messages.request(number, group, |frame| {
        if sent.is_ok() {
            sent = send.send_data(frame, false);
        }
    });
    sent?;
    let body_sent = Instant::now();

    let response = response.await?;
    if response.status() != http::StatusCode::OK {
        return Err(Failure::Stream(format!("HTTP status {}", response.status().as_u16())));
    }
    if let Some(status) = response.headers().get("grpc-status") {
        return Err(Failure::Grpc(String::from_utf8_lossy(status.as_bytes()).into_owned()));
    }
    let mut replies = Replies { body: response.into_body(), buffer: BytesMut::new() };

    let (destination, picked_in) = request_phase(&mut replies, body_bytes, body_sent).await?;
    response_phase(&mut replies, &mut send, messages).await?;
    send.send_data(Bytes::new(), true)?;
    replies.end().await?;
    Ok(Outcome { headers_out: picked_in + late, total: intended.elapsed(), destination })
}

fn call() -> http::Request<()> {
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(
        "http://localhost/envoy.service.ext_proc.v3.ExternalProcessor/Process",
    );
    let headers = request.headers_mut();
    headers.insert("te", http::HeaderValue::from_static("trailers"));
    headers.insert("content-type", http::HeaderValue::from_static("application/grpc"));
    request
}

/// Waits for the headers reply and the whole body; returns the worker and the time it took.
async fn request_phase(
    replies: &mut Replies,
    body_bytes: usize,
    body_sent: Instant,
) -> Result<(Bytes, Duration), Failure> {
    let mut picked = None;
    let mut received = 0;
    loop {
        let message = replies.next().await?;
        match read(&message)? {
            Reply::RequestHeaders { destination } => {
                let destination = destination
                    .ok_or(Failure::Protocol("request headers reply without a destination"))?;
                picked = Some((message.slice_ref(destination), body_sent.elapsed()));
            }
            Reply::RequestBody(Piece::Streamed { len, end }) => {
                received += len;
                if end {
                    if received != body_bytes {
                        return Err(Failure::Protocol("request body came back altered"));
                    }
                    return picked.ok_or(Failure::Protocol("body reply before headers reply"));
                }
            }
            Reply::RequestBody(Piece::Missing) => {
                return Err(Failure::Protocol("body reply without a streamed piece"));
            }
            Reply::Immediate { status } => return Err(Failure::Immediate(status)),
            Reply::ResponseHeaders | Reply::ResponseBody(_) | Reply::Trailers => {
                return Err(Failure::Protocol("reply to a message that was not sent"));
            }
            Reply::Other => {}
        }
    }
}

/// Sends the worker's answer and waits until all of it came back.
async fn response_phase(
    replies: &mut Replies,
    send: &mut SendStream<Bytes>,
    messages: &Messages,
) -> Result<(), Failure> {
    let mut frames = messages.response.iter();
    // Headers and the first piece go together, and the end goes with the last piece.
    let paced = !messages.interval.is_zero();
    let at_once = if paced { 2 } else { messages.response.len() };
    for frame in frames.by_ref().take(at_once) {
        send.send_data(frame.clone(), false)?;
    }
    let mut next = tokio::time::Instant::now() + messages.interval;
    let mut headers = false;
    let mut received = 0;
    loop {
        let message = tokio::select! {
            () = tokio::time::sleep_until(next), if frames.len() > 0 => {
                next += messages.interval;
                let left = frames.len();
                for frame in frames.by_ref().take(if left == 2 { 2 } else { 1 }) {
                    send.send_data(frame.clone(), false)?;
                }
                continue;
            }
            message = replies.next() => message?,
        };
        match read(&message)? {
            Reply::ResponseHeaders => headers = true,
            Reply::ResponseBody(Piece::Streamed { len, end }) => {
                received += len;
                if end {
                    return match (headers, received == messages.response_bytes) {
                        (true, true) => Ok(()),
                        (false, _) => Err(Failure::Protocol("body reply before headers reply")),
                        (_, false) => Err(Failure::Protocol("response body came back altered")),
                    };
                }
            }
            Reply::ResponseBody(Piece::Missing) => {
                return Err(Failure::Protocol("body reply without a streamed piece"));
            }
            Reply::Immediate { status } => return Err(Failure::Immediate(status)),
            Reply::RequestHeaders { .. } | Reply::RequestBody(_) | Reply::Trailers => {
                return Err(Failure::Protocol("reply to a message that was not sent"));
            }
            Reply::Other => {}
        }
    }
}

fn read(message: &Bytes) -> Result<Reply<'_>, Failure> {
    reply::read(message).map_err(|_| Failure::Protocol("reply is not protobuf"))
}

/// gRPC messages out of HTTP/2 data.
struct Replies {
    body: RecvStream,
    /// Data that does not yet make a whole message.
    buffer: BytesMut,
}

impl Replies {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            if let Some(message) = take_message(&mut self.buffer)? {
                return Ok(message);
            }
            match self.data().await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None => return Err(self.status().await),
            }
        }
    }

    async fn data(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(data) = self.body.data().await else { return Ok(None) };
        let data = data?;
        self.body.flow_control().release_capacity(data.len())?;
        Ok(Some(data))
    }

    /// Reads to the end of the stream, which must be an orderly one.
    async fn end(mut self) -> Result<(), Failure> {
        while self.data().await?.is_some() {}
        match self.status().await {
            Failure::Grpc(status) if status == "0" => Ok(()),
            failure => Err(failure),
        }
    }

    async fn status(&mut self) -> Failure {
        match self.body.trailers().await {
            Ok(trailers) => {
                let status = trailers.as_ref().and_then(|t| t.get("grpc-status"));
                Failure::Grpc(status.map_or_else(
                    || "missing".to_owned(),
                    |s| String::from_utf8_lossy(s.as_bytes()).into_owned(),
                ))
            }
            Err(e) => e.into(),
        }
    }
}

/// Splits the next whole message off `buffer`.
fn take_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, Failure> {
    let Some((head, rest)) = buffer.split_first_chunk::<5>() else { return Ok(None) };
    let [compressed, length @ ..] = *head;
    if compressed != 0 {
        return Err(Failure::Protocol("compressed reply, though none was accepted"));
    }
    let length = u32::from_be_bytes(length) as usize;
    if rest.len() < length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_out_whole_however_data_is_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            cut in 1usize..40,
        ) {
            let mut wire = Vec::new();
            for m in &messages {
                wire.push(0);
                wire.extend_from_slice(&(m.len() as u32).to_be_bytes());
                wire.extend_from_slice(m);
            }
            let mut buffer = BytesMut::new();
            let mut got = Vec::new();
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(m) = take_message(&mut buffer).unwrap() {
                    got.push(m.to_vec());
                }
            }
            prop_assert_eq!(got, messages);
            prop_assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let mut buffer = BytesMut::from(&[1, 0, 0, 0, 0][..]);
        assert!(take_message(&mut buffer).is_err());
    }
}
