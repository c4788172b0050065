//! The replies of a stream as the body of its HTTP response.
//!
//! tonic's own encoder copies every message into its buffer, bodies too. Here a piece of a body
//! leaves as the slice of the received message that it is, behind a few bytes that frame it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderMap;
use http_body::{Body, Frame};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::Status;

use super::wire::{
    BodyMutation, CommonReply, CommonResponse, Mutation, Outgoing, ProcessingResponse,
    StreamedBodyResponse,
};

/// Body pieces from this size on are not copied. Below, one more frame costs more than a copy.
const NOT_COPIED: usize = 4096;
/// Replies that are ready are sent together, up to about this many bytes.
const TOGETHER: usize = 32 << 10;
/// A flag and a length go before every gRPC message.
const GRPC_PREFIX: usize = 5;

pub(super) struct GrpcEncoder<S> {
    replies: S,
    /// Largest message, bytes.
    max_message_size: usize,
    frames: VecDeque<Bytes>,
    /// What is encoded and not yet a frame.
    buffer: BytesMut,
    end: Option<Status>,
    ended: bool,
}

impl<S> GrpcEncoder<S> {
    pub(super) fn new(replies: S, max_message_size: Option<usize>) -> Self {
        Self {
            replies,
            max_message_size: max_message_size.unwrap_or(usize::MAX),
            frames: VecDeque::new(),
            buffer: BytesMut::new(),
            end: None,
            ended: false,
        }
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.frames.push_back(self.buffer.split().freeze());
        }
    }

    /// Encodes a reply, and answers its size in bytes.
    fn encode(&mut self, reply: ProcessingResponse) -> Result<usize, Status> {
        let piece = piece_of(&reply);
        let length = piece.map_or_else(|| reply.encoded_len(), |piece| piece.message_len());
        let limit = self.max_message_size.min(u32::MAX as usize);
        if length > limit {
            return Err(Status::out_of_range(format!(
                "a reply of {length} bytes is larger than the limit of {limit} bytes"
            )));
        }
        let body = piece.map_or(0, |piece| piece.streamed.body.len());
        self.buffer.reserve(GRPC_PREFIX + length - body);
        // Not compressed.
        self.buffer.put_u8(0);
        self.buffer.put_u32(length as u32);
        match piece {
            Some(piece) => {
                piece.encode_before_body(&mut self.buffer);
                let body = piece.streamed.body.clone();
                self.flush();
                self.frames.push_back(body);
            }
            // Only a buffer without room fails, and this one grows.
            None => reply.encode_raw(&mut self.buffer),
        }
        Ok(GRPC_PREFIX + length)
    }
}

impl<S> Body for GrpcEncoder<S>
where
    S: Stream<Item = Result<ProcessingResponse, Status>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let mut encoded = 0;
        while this.frames.is_empty() && this.end.is_none() && !this.ended {
            let end = match Pin::new(&mut this.replies).poll_next(cx) {
                Poll::Ready(Some(Ok(reply))) => match this.encode(reply) {
                    Ok(size) => {
                        encoded += size;
                        None
                    }
                    Err(status) => Some(status),
                },
                Poll::Ready(Some(Err(status))) => Some(status),
                Poll::Ready(None) => Some(Status::ok("")),
                Poll::Pending if this.buffer.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    this.flush();
                    break;
                }
            };
            if end.is_some() || encoded >= TOGETHER {
                this.flush();
            }
            this.end = end;
        }
        if let Some(frame) = this.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        let Some(status) = this.end.take() else { return Poll::Ready(None) };
        this.ended = true;
        let mut trailers = HeaderMap::new();
        let told = status.add_header(&mut trailers);
        Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// A reply that is nothing but a piece of a body, large enough not to be copied.
#[derive(Clone, Copy)]
struct Piece<'a> {
    /// Field of the reply: which body it is of.
    field: u32,
    streamed: &'a StreamedBodyResponse,
}

fn piece_of(reply: &ProcessingResponse) -> Option<Piece<'_>> {
    let (field, common) = match reply.response.as_ref()? {
        Outgoing::RequestBody(common) => (3, common),
        Outgoing::ResponseBody(common) => (4, common),
        _ => return None,
    };
    let CommonReply {
        response:
            Some(CommonResponse {
                header_mutation: None,
                body_mutation:
                    Some(BodyMutation { mutation: Some(Mutation::StreamedResponse(streamed)) }),
                clear_route_cache: false,
            }),
    } = common
    else {
        return None;
    };
    let large = streamed.body.len() >= NOT_COPIED && reply.dynamic_metadata.is_none();
    large.then_some(Piece { field, streamed })
}

impl Piece<'_> {
    /// The fields that the body lies in, from the outermost to its own, by their numbers:
    /// `ProcessingResponse.{request,response}_body` `.response` `.body_mutation`
    /// `.streamed_response` `.body`.
    fn path(self) -> [u32; 5] {
        [self.field, 1, 3, 3, 1]
    }

    /// Length of everything from each field of the path on, its own key and length included. The
    /// flag for the end of the stream goes before the body, so that the body is last in each.
    fn lengths(self) -> [usize; 5] {
        let path = self.path();
        let mut lengths = [0; 5];
        let mut inner = self.streamed.body.len();
        for (i, &field) in path.iter().enumerate().rev() {
            lengths[i] = inner;
            inner += key_len(field) + encoded_len_varint(inner as u64);
            if i == 4 && self.streamed.end_of_stream {
                inner += 2;
            }
        }
        lengths
    }

    fn message_len(self) -> usize {
        let outermost = self.lengths()[0];
        key_len(self.field) + encoded_len_varint(outermost as u64) + outermost
    }

    fn encode_before_body(self, out: &mut BytesMut) {
        let lengths = self.lengths();
        for (i, (field, length)) in self.path().into_iter().zip(lengths).enumerate() {
            if i == 4 && self.streamed.end_of_stream {
                encode_key(2, WireType::Varint, out);
                encode_varint(1, out);
            }
            encode_key(field, WireType::LengthDelimited, out);
            encode_varint(length as u64, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::BodyExt;

    use super::super::reply_messages::{self as reply, Direction};
    use super::*;

    /// The messages, the data frames they came in, and the trailers.
    async fn sent(
        replies: Vec<Result<ProcessingResponse, Status>>,
        limit: Option<usize>,
    ) -> (Vec<ProcessingResponse>, usize, HeaderMap) {
        let mut body = GrpcEncoder::new(stream::iter(replies), limit);
        let (mut bytes, mut frames) = (BytesMut::new(), 0);
        loop {
            let frame = body.frame().await.expect("trailers").expect("a frame");
            match frame.into_data() {
                Ok(data) => {
                    frames += 1;
                    bytes.extend_from_slice(&data);
                }
                Err(frame) => {
                    assert!(body.frame().await.is_none() && body.is_end_stream());
                    let trailers = frame.into_trailers().expect("trailers");
                    let mut messages = Vec::new();
                    while !bytes.is_empty() {
                        assert_eq!(bytes[0], 0);
                        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
                        let message = bytes.split_to(GRPC_PREFIX + length).freeze();
                        messages.push(ProcessingResponse::decode(message.slice(5..)).unwrap());
                    }
                    return (messages, frames, trailers);
                }
            }
        }
    }

    fn body(direction: Direction, len: usize, end: bool) -> Vec<ProcessingResponse> {
        let mut out = Vec::new();
        reply::streamed_body(direction, vec![b'x'; len].into(), end, |m| out.push(m));
        out
    }

    #[tokio::test]
    async fn what_is_sent_is_what_was_meant() {
        let mut replies =
            vec![reply::message(Outgoing::RequestHeaders(reply::common(None, None, true)))];
        for len in [0, 1, 4095, 4096, 16_384, 62_000, 200_000] {
            for direction in [Direction::Request, Direction::Response] {
                for end in [true, false] {
                    replies.extend(body(direction, len, end));
                }
            }
        }
        replies.push(reply::trailers(Direction::Request));
        let (messages, _, trailers) = sent(replies.iter().cloned().map(Ok).collect(), None).await;
        assert_eq!(messages, replies);
        assert_eq!(trailers["grpc-status"], "0");
    }

    #[tokio::test]
    async fn small_replies_leave_together_and_large_ones_are_not_copied() {
        let small: Vec<_> = (0..50).flat_map(|_| body(Direction::Response, 100, false)).collect();
        assert_eq!(sent(small.into_iter().map(Ok).collect(), None).await.1, 1);

        let whole = Bytes::from(vec![b'x'; 10_000]);
        let mut replies = Vec::new();
        reply::streamed_body(Direction::Request, whole.clone(), true, |m| replies.push(Ok(m)));
        let mut body = GrpcEncoder::new(stream::iter(replies), None);
        let framing = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(framing.len() < 40, "{}", framing.len());
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece.as_ptr(), whole.as_ptr());
    }

    #[tokio::test]
    async fn an_error_comes_after_what_was_said_before_it() {
        let first = body(Direction::Request, 10, true);
        let replies = vec![Ok(first[0].clone()), Err(Status::internal("why"))];
        let (messages, _, trailers) = sent(replies, None).await;
        assert_eq!(messages, first);
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"13".parse().unwrap(), &"why".parse().unwrap())
        );

        let (messages, _, trailers) =
            sent(body(Direction::Request, 5000, true).into_iter().map(Ok).collect(), Some(5000))
                .await;
        assert_eq!((messages.len(), &trailers["grpc-status"]), (0, &"11".parse().unwrap()));
    }
}
