//! The response half of an exchange: bytes go on as they come, and the usage is read off them.

use bytes::{Bytes, BytesMut};

use super::common::{BodyMode, Common, Next};
use super::headers;
use super::reply::{self, Direction};
use super::routed::Routed;
use super::wire::{HeaderMap, HttpBody, HttpHeaders, Outgoing};
use crate::api::{ModelRenamer, ResponseReader};

/// A response that is not a stream is held until it is complete, as the reference does; beyond
/// this many bytes it is passed on as it comes, so that memory stays bounded.
const MAX_HELD: usize = 8 << 20;

#[derive(Default)]
enum Phase {
    /// No response yet.
    #[default]
    Start,
    Body(Box<Body>),
    /// The end of the body was seen.
    Ended,
}

struct Body {
    /// Pieces are answered one by one.
    streaming: bool,
    /// The headers ended the response: what comes all the same is answered, and not counted.
    counted: bool,
    held: BytesMut,
    reader: Option<ResponseReader>,
    renamer: Option<ModelRenamer>,
}

#[derive(Default)]
pub(super) struct ResponseSide {
    phase: Phase,
}

impl ResponseSide {
    pub fn on_headers(
        &mut self,
        common: &mut Common,
        mut routed: Option<&mut Routed>,
        message: HttpHeaders,
    ) -> Next {
        let list = message.headers.unwrap_or(HeaderMap { headers: Vec::new() }).headers;
        let of = |name: &str| {
            let found = list.iter().find(|h| h.key.eq_ignore_ascii_case(name.as_bytes()));
            found.and_then(|h| std::str::from_utf8(headers::value_of(h)).ok()).unwrap_or_default()
        };
        // The reference looks for `status`, which no gateway sends.
        if let (Some(routed), Ok(status)) = (routed.as_deref_mut(), of(":status").parse()) {
            routed.on_status(status);
        }
        let sse = of("content-type").contains("text/event-stream");
        let streaming = sse
            || routed.as_ref().is_some_and(|r| r.stream)
            || common.modes.response == BodyMode::PassThrough;
        let counted = message.end_of_stream;
        self.phase = Phase::Body(Box::new(Body {
            streaming,
            counted,
            held: BytesMut::new(),
            reader: routed.as_ref().map(|r| r.response_reader(sse)),
            renamer: routed.as_ref().and_then(|r| r.renamer()),
        }));
        if let (true, Some(routed)) = (counted, routed) {
            routed.on_complete(None, false);
        }
        let mut mutation = headers::response_mutation(list);
        let renaming = matches!(&self.phase, Phase::Body(body) if body.renamer.is_some());
        if renaming && common.modes.response == BodyMode::PassThrough {
            // The length of what is still to come is not known any more.
            mutation.remove_headers.push(Bytes::from_static(b"content-length"));
        }
        let reply = reply::common(Some(mutation), None, false);
        common.send(reply::message(Outgoing::ResponseHeaders(reply)));
        Next::Read
    }

    pub fn on_body(
        &mut self,
        common: &mut Common,
        mut routed: Option<&mut Routed>,
        message: HttpBody,
    ) -> Next {
        let duplex = common.modes.response == BodyMode::FullDuplex;
        let Phase::Body(body) = &mut self.phase else {
            // A second end of stream, or a body without headers.
            if !duplex {
                common.send(reply::whole_body(Direction::Response, None, false));
            }
            return Next::Read;
        };
        let end = message.end_of_stream || common.modes.response == BodyMode::Buffered;
        if let (false, Some(routed)) = (body.counted, routed.as_deref_mut()) {
            routed.on_chunk(message.body.len(), body.streaming);
        }
        if let (false, Some(reader)) = (body.counted, &mut body.reader) {
            reader.chunk(&message.body);
        }
        if duplex && !body.streaming {
            body.held.extend_from_slice(&message.body);
            if body.held.len() > MAX_HELD {
                body.streaming = true;
            } else if !end {
                return Next::Read;
            }
            let held = body.held.split().freeze();
            let whole = body.rename(held, end);
            reply::streamed_body(Direction::Response, whole, end, |m| common.send(m));
        } else if duplex {
            let piece = body.rename(message.body, end);
            reply::streamed_body(Direction::Response, piece, end, |m| common.send(m));
        } else {
            let before = message.body.clone();
            let piece = body.rename(message.body, end);
            let changed = piece != before;
            let whole = common.modes.response == BodyMode::Buffered;
            common.send(reply::whole_body(Direction::Response, changed.then_some(piece), whole));
        }
        if end {
            self.end(routed);
        }
        Next::Read
    }

    pub fn on_trailers(&mut self, common: &mut Common, routed: Option<&mut Routed>) -> Next {
        if let Phase::Body(body) = &mut self.phase {
            let held = body.held.split().freeze();
            let rest = body.rename(held, true);
            if common.modes.response == BodyMode::FullDuplex
                && (!body.streaming || !rest.is_empty())
            {
                reply::streamed_body(Direction::Response, rest, false, |m| common.send(m));
            }
            self.end(routed);
        }
        let headers_came = !matches!(self.phase, Phase::Start);
        if headers_came || common.modes.response != BodyMode::FullDuplex {
            common.send(reply::trailers(Direction::Response));
        }
        Next::Read
    }

    fn end(&mut self, routed: Option<&mut Routed>) {
        let Phase::Body(mut body) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        if let (false, Some(routed), Some(reader)) = (body.counted, routed, &mut body.reader) {
            reader.finish();
            routed.on_complete(reader.usage(), body.streaming);
        }
    }
}

impl Body {
    fn rename(&mut self, piece: Bytes, end: bool) -> Bytes {
        match &mut self.renamer {
            Some(renamer) => renamer.rename(piece, end),
            None => piece,
        }
    }
}
