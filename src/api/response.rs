//! What a response says of its token counts, read as it streams by.

use memchr::memmem::Finder;

use super::grpc::Frames;
use super::request::Api;
use super::sse::SseLines;
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
    usage: Option<Usage>,
    form: Form,
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
        Self { api, mark: usage::mark(api).map(Finder::new), usage: None, form }
    }

    /// Takes the next piece of the body, cut anywhere.
    pub fn chunk(&mut self, chunk: &[u8]) {
        let Some(mark) = &self.mark else { return };
        match &mut self.form {
            Form::Events(lines) => {
                let (api, usage) = (self.api, &mut self.usage);
                lines.chunk(chunk, |data| event(api, mark, data, usage));
            }
            Form::Messages(frames) => {
                let (api, usage) = (self.api, &mut self.usage);
                frames.chunk(chunk, |data| message(api, mark, data, usage));
            }
            Form::Json(json) => {
                let Json::Begun(kept) = json else {
                    if !chunk.iter().all(|byte| b" \n\r\t".contains(byte)) {
                        *json = Json::GivenUp;
                        self.usage = None;
                    }
                    return;
                };
                if kept.is_empty() && ends_object(chunk) {
                    // Most responses come whole: no copy is needed then.
                    self.usage = whole(self.api, mark, chunk);
                    if self.usage.is_some() {
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
                let (api, usage) = (self.api, &mut self.usage);
                lines.finish(|data| event(api, mark, data, usage));
            }
            Form::Json(Json::Begun(kept)) => self.usage = whole(self.api, mark, kept),
            Form::Messages(_) | Form::Json(_) => {}
        }
    }

    /// The counts so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
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

fn event(api: Api, mark: &Finder<'_>, data: &[u8], usage: &mut Option<Usage>) {
    if !reports(mark, data) {
        return;
    }
    if let Some(report) = usage::of_event(api, data) {
        usage.get_or_insert_default().merge(report);
    }
}

/// Reads one gRPC message of a response.
fn message(api: Api, mark: &Finder<'_>, data: &[u8], usage: &mut Option<Usage>) {
    let report = match api {
        Api::VllmGrpcGenerate => vllm_grpc::usage_of_generate(data),
        Api::VllmGrpcEmbed => vllm_grpc::usage_of_embed(data),
        _ => {
            let Some(json) = vertex::data(data) else { return };
            let whole = whole(api, mark, &json);
            if whole.is_none() {
                // A stream is events, cut into messages between two of them.
                let mut lines = SseLines::default();
                lines.chunk(&json, |data| event(api, mark, data, usage));
                lines.finish(|data| event(api, mark, data, usage));
            }
            whole
        }
    };
    if let Some(report) = report {
        usage.get_or_insert_default().merge(report);
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
