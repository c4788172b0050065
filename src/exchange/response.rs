use super::outcome::{BodySight, Response, Times};
use crate::api::{Api, ResponseReader};
use crate::clock::Timestamp;
use crate::scheduling::TokenUsage;

/// What a response's headers say.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseHead {
    /// The HTTP status, where the gateway tells.
    pub status: Option<u16>,
    /// The content type is `text/event-stream`.
    pub events: bool,
    /// The body is passed on piece by piece, so the times between its pieces mean something.
    pub streaming: bool,
    /// There is no body.
    pub end: bool,
    /// There is one, and the gateway does not send it, or was told not to.
    pub unseen: bool,
}

/// A response as far as it has come in.
#[derive(Debug, Default)]
pub(super) struct IncomingResponse {
    pub seen: Response,
    reader: Option<ResponseReader>,
    counting: bool,
    /// It is a stream of events.
    pub events: bool,
    /// When the last piece came that times are taken of.
    last_chunk: Option<Timestamp>,
}

impl IncomingResponse {
    /// `counting`: its tokens are to be counted.
    pub(super) fn begin(&mut self, api: Api, head: ResponseHead, counting: bool) {
        self.seen.status = head.status;
        self.seen.streaming = head.streaming;
        self.seen.body = if head.unseen { BodySight::Unseen } else { BodySight::Seen };
        let reader = ResponseReader::new(api, head.events);
        self.reader = Some(if counting { reader.counting() } else { reader });
        self.counting = counting;
        self.events = head.events;
    }

    /// Takes a piece of the body; true where it is the first one. `now` is asked for where it is
    /// needed, which is not for every piece.
    pub(super) fn chunk(
        &mut self,
        piece: &[u8],
        times: &mut Times,
        now: impl FnOnce() -> Timestamp,
    ) -> bool {
        let first = times.first_byte.is_none();
        let counts = !piece.is_empty() && (first || self.seen.streaming);
        let now = counts.then(now);
        if let Some(reader) = &mut self.reader {
            reader.chunk(piece);
        }
        if self.counting {
            self.read_usage();
        }
        self.seen.bytes += piece.len() as u64;
        let Some(now) = now else { return false };
        if first {
            times.first_byte = Some(now);
        } else if let Some(last) = self.last_chunk {
            self.seen.intervals.observe(now.since(last));
        }
        self.last_chunk = Some(now);
        first
    }

    /// When the piece came that is being read, where it is one of a stream.
    pub(super) fn reading_since(&self) -> Option<Timestamp> {
        self.last_chunk.filter(|_| self.seen.streaming)
    }

    /// The body is complete.
    pub(super) fn finish(&mut self) {
        if let Some(reader) = &mut self.reader {
            reader.finish();
        }
        self.read_usage();
    }

    /// Takes over what the endpoint has reported so far.
    pub(super) fn read_usage(&mut self) {
        self.seen.counted = self.reader.as_ref().map_or(0, ResponseReader::counted);
        let usage = self.reader.as_ref().and_then(ResponseReader::usage);
        self.seen.usage = usage.map(|usage| TokenUsage {
            prompt: usage.prompt_tokens,
            completion: usage.completion_tokens,
            cached: usage.cached_tokens,
        });
    }
}
