//! What a response says of its token counts, read as it streams by.

use memchr::memmem::Finder;

use super::grpc::Frames;
use super::request::Api;
use super::sse::SseLines;
use super::tally::Tally;
use super::usage::{self, Usage};
use super::{vertex, vllm_grpc};

/// A JSON response that comes in pieces is kept up to this size, bytes; of a larger one the counts
/// are not read.
const MAX_JSON: usize = 16 << 20;

/// Reads the token counts off one response.
///
/// An event stream is read line by line and only lines that may hold counts are decoded; gRPC is
/// read message by message; a JSON response is read when it is whole. What is malformed is passed over: the counts of a response
/// are never worth its failure.
#[derive(Debug)]
pub struct ResponseReader {
    api: Api,
    /// Finds the text that stands wherever counts do; `None` for an API that never reports any.
    mark: Option<Finder<'static>>,
    seen: Seen,
    form: Form,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Seen {
    usage: Option<Usage>,
    /// Counts tokens, where somebody wants that.
    tally: Option<Tally>,
}

#[derive(Debug)]
enum Form {
    Events(SseLines),
    Messages(Frames),
    Json(Json),
}

#[derive(Debug)]
enum Json {
    /// The pieces so far.
    Begun(Vec<u8>),
    /// The first piece was a response, and has been read.
    Whole,
    /// It is too large, or goes on after its end.
    GivenUp,
}

impl ResponseReader {
    /// `sse`: the response's content type is `text/event-stream`.
    pub fn new(api: Api, sse: bool) -> Self {
        let form = match api {
            _ if api.is_grpc() => Form::Messages(Frames::default()),
            _ if sse => Form::Events(SseLines::default()),
            _ => Form::Json(Json::Begun(Vec::new())),
        };
        Self { api, mark: usage::mark(api).map(Finder::new), seen: Seen::default(), form }
    }

    /// Counts the answer's tokens too, whatever is reported of them.
    pub fn counting(mut self) -> Self {
        self.seen.tally = Some(Tally::new(self.api));
        self
    }

    /// Takes the next piece of the body, cut anywhere.
    pub fn chunk(&mut self, chunk: &[u8]) {
        let Some(mark) = &self.mark else { return };
        match &mut self.form {
            Form::Events(lines) => {
                let (api, seen) = (self.api, &mut self.seen);
                lines.chunk(chunk, |data| event(api, mark, data, seen));
            }
            Form::Messages(frames) => {
                let (api, seen) = (self.api, &mut self.seen);
                frames.chunk(chunk, |data| message(api, mark, data, seen));
            }
            Form::Json(json) => {
                let Json::Begun(kept) = json else {
                    if !chunk.iter().all(|byte| b" \n\r\t".contains(byte)) {
                        *json = Json::GivenUp;
                        self.seen.usage = None;
                    }
                    return;
                };
                if kept.is_empty() && ends_object(chunk) {
                    // Most responses come whole: no copy is needed then.
                    self.seen.usage = whole(self.api, mark, chunk);
                    if self.seen.usage.is_some() {
                        self.seen.tally_whole(chunk);
                        *json = Json::Whole;
                        return;
                    }
                }
                kept.extend_from_slice(chunk);
                if kept.len() > MAX_JSON {
                    *json = Json::GivenUp;
                }
            }
        }
    }

    /// The body is complete.
    pub fn finish(&mut self) {
        let Some(mark) = &self.mark else { return };
        match &mut self.form {
            Form::Events(lines) => {
                let (api, seen) = (self.api, &mut self.seen);
                lines.finish(|data| event(api, mark, data, seen));
            }
            Form::Json(Json::Begun(kept)) => {
                self.seen.usage = whole(self.api, mark, kept);
                self.seen.tally_whole(kept);
            }
            Form::Messages(_) | Form::Json(_) => {}
        }
    }

    /// The counts so far.
    pub fn usage(&self) -> Option<Usage> {
        self.seen.usage
    }

    /// The answer's tokens that came so far, by our own count; 0 where nobody counts.
    pub fn counted(&self) -> u64 {
        self.seen.tally.as_ref().map_or(0, Tally::tokens)
    }
}

impl Seen {
    fn report(&mut self, report: Usage) {
        self.usage.get_or_insert_default().merge(report);
    }

    fn tally_whole(&mut self, json: &[u8]) {
        if let Some(tally) = &mut self.tally {
            tally.whole(json);
        }
    }
}

fn ends_object(chunk: &[u8]) -> bool {
    chunk.trim_ascii_end().ends_with(b"}")
}

fn whole(api: Api, mark: &Finder<'_>, json: &[u8]) -> Option<Usage> {
    // What marks the last event of a stream need not stand in a response.
    if api != Api::SglangGenerate {
        mark.find(json)?;
    }
    let mut merged = Usage::default();
    merged.merge(usage::of_response(api, json)?);
    Some(merged)
}

fn event(api: Api, mark: &Finder<'_>, data: &[u8], seen: &mut Seen) {
    if let Some(tally) = &mut seen.tally {
        tally.event(api, data);
    }
    if reports(mark, data)
        && let Some(report) = usage::of_event(api, data)
    {
        seen.report(report);
    }
}

/// Reads one gRPC message of a response.
fn message(api: Api, mark: &Finder<'_>, data: &[u8], seen: &mut Seen) {
    let report = match api {
        Api::VllmGrpcGenerate => {
            if let Some(tally) = &mut seen.tally {
                tally.message(data);
            }
            vllm_grpc::usage_of_generate(data)
        }
        Api::VllmGrpcEmbed => vllm_grpc::usage_of_embed(data),
        _ => {
            let Some(json) = vertex::data(data) else { return };
            let whole = whole(api, mark, &json);
            if json.trim_ascii_start().starts_with(b"{") {
                seen.tally_whole(&json);
            }
            if whole.is_none() {
                // A stream is events, cut into messages between two of them.
                let mut lines = SseLines::default();
                lines.chunk(&json, |data| event(api, mark, data, seen));
                lines.finish(|data| event(api, mark, data, seen));
            }
            whole
        }
    };
    if let Some(report) = report {
        seen.report(report);
    }
}

/// True where the mark stands with a value other than null: engines that were asked for usage
/// send `"usage":null` with every event but the last.
fn reports(mark: &Finder<'_>, data: &[u8]) -> bool {
    mark.find_iter(data).any(|at| {
        let rest = &data[at + mark.needle().len()..];
        let value = rest.trim_ascii_start().strip_prefix(b":");
        value.is_some_and(|value| !value.trim_ascii_start().starts_with(b"null"))
    })
}
