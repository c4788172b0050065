//! The messages of exchanges, encoded ahead of time; an exchange patches its number into them.

use std::io::Write;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, ProcessingRequest, ProtocolConfiguration,
};
use prost::Message;

use super::workload::{NONCE_DIGITS, Workload};

/// `x-request-id` before its last digits: a UUID whose node is the exchange's number.
const REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";
const REQUEST_ID_DIGITS: usize = 12;

/// A framed message and where in it a number goes, if one does.
#[derive(Clone, Debug)]
struct Template {
    frame: Bytes,
    /// `(offset in the frame, first digit, one past the last digit)` of the nonce.
    patch: Option<(usize, usize, usize)>,
}

impl Template {
    fn with(&self, digits: &[u8]) -> Bytes {
        let Some((at, from, to)) = self.patch else { return self.frame.clone() };
        let mut copy = BytesMut::from(&self.frame[..]);
        copy[at..at + to - from].copy_from_slice(&digits[from..to]);
        copy.freeze()
    }
}

/// All messages of one kind of exchange.
#[derive(Clone, Debug)]
pub(super) struct Messages {
    headers: Template,
    groups: Vec<Group>,
    end_of_body: Bytes,
    /// Response headers, then body, then its end.
    pub response: Vec<Bytes>,
    /// Bytes of response body that must come back.
    pub response_bytes: usize,
    /// Time between the pieces of the response's body.
    pub interval: Duration,
}

#[derive(Clone, Debug)]
struct Group {
    chunks: Vec<Template>,
    body_bytes: usize,
}

impl Messages {
    pub(super) fn new(workload: &Workload) -> Self {
        let headers = request_headers();
        let at = find(&headers, REQUEST_ID.as_bytes()) + REQUEST_ID.len() - REQUEST_ID_DIGITS;
        let from = NONCE_DIGITS - REQUEST_ID_DIGITS;
        let (response, response_bytes) = response(workload);
        Self {
            headers: Template { frame: headers, patch: Some((at, from, NONCE_DIGITS)) },
            groups: (0..workload.groups).map(|g| group(workload, g)).collect(),
            end_of_body: request_body(&[], true),
            response,
            response_bytes,
            interval: workload.event_interval,
        }
    }

    /// How many groups of requests share a prefix.
    pub(super) fn groups(&self) -> u64 {
        self.groups.len() as u64
    }

    /// Calls `send` with the messages of the request phase of exchange `number`, in order, and
    /// returns the size of the body in them.
    pub(super) fn request(&self, number: u64, group: usize, mut send: impl FnMut(Bytes)) -> usize {
        let mut digits = [0; NONCE_DIGITS];
        // Sixteen hexadecimal digits hold any u64.
        let _ = write!(&mut digits[..], "{number:016x}");
        let group = &self.groups[group % self.groups.len()];
        send(self.headers.with(&digits));
        for chunk in &group.chunks {
            send(chunk.with(&digits));
        }
        send(self.end_of_body.clone());
        group.body_bytes
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    memchr::memmem::find(haystack, needle).unwrap_or_default()
}

fn group(workload: &Workload, group: u32) -> Group {
    let body = workload.body(group);
    let nonce = body.nonce_at..body.nonce_at + NONCE_DIGITS;
    let mut chunks = Vec::new();
    let mut start = 0;
    for chunk in body.bytes.chunks(workload.chunk_bytes) {
        let frame = request_body(chunk, false);
        let end = start + chunk.len();
        let (from, to) = (nonce.start.max(start), nonce.end.min(end));
        // The body is the last field of the message.
        let body_at = frame.len() - chunk.len();
        let patch =
            (from < to).then(|| (body_at + from - start, from - nonce.start, to - nonce.start));
        chunks.push(Template { frame, patch });
        start = end;
    }
    Group { chunks, body_bytes: body.bytes.len() }
}

/// A gRPC message: a flag for compression, the length, the bytes.
fn frame(request: Request, first: bool) -> Bytes {
    let mode = BodySendMode::FullDuplexStreamed as i32;
    let message = ProcessingRequest {
        request: Some(request),
        protocol_config: first.then(|| ProtocolConfiguration {
            request_body_mode: mode,
            response_body_mode: mode,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut out = BytesMut::with_capacity(5 + message.encoded_len());
    out.put_u8(0);
    out.put_u32(message.encoded_len() as u32);
    out.extend_from_slice(&message.encode_to_vec());
    out.freeze()
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let headers = headers
        .iter()
        .map(|(key, value)| HeaderValue {
            key: (*key).to_owned(),
            raw_value: value.as_bytes().to_vec(),
            ..Default::default()
        })
        .collect();
    HeaderMap { headers }
}

fn http_headers(headers: &[(&str, &str)]) -> HttpHeaders {
    HttpHeaders { headers: Some(header_map(headers)), ..Default::default() }
}

fn request_headers() -> Bytes {
    let headers = http_headers(&[
        (":authority", "models.example.com"),
        (":path", "/v1/chat/completions"),
        (":method", "POST"),
        (":scheme", "http"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("user-agent", "epp-bench"),
        ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", REQUEST_ID),
    ]);
    frame(Request::RequestHeaders(headers), true)
}

fn http_body(body: &[u8], end_of_stream: bool) -> HttpBody {
    HttpBody { body: body.to_vec(), end_of_stream, ..Default::default() }
}

fn request_body(body: &[u8], end: bool) -> Bytes {
    frame(Request::RequestBody(http_body(body, end)), false)
}

/// A worker's answer: its content type, and its body in the pieces it comes in.
pub(super) fn answer(workload: &Workload) -> (&'static str, Vec<String>) {
    let model = serde_json::Value::from(workload.model.as_str());
    let usage = "{\"prompt_tokens\":256,\"completion_tokens\":16,\"total_tokens\":272}";
    if workload.sse_events == 0 {
        let answer = format!(
            "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":{model},\
             \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"A short \
             answer of sixteen tokens or thereabouts, as a chat gives.\"}},\
             \"finish_reason\":\"stop\"}}],\"usage\":{usage}}}"
        );
        ("application/json", vec![answer])
    } else {
        let event = |choices: &str, usage: &str| {
            format!(
                "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
                 \"model\":{model},\"choices\":{choices},\"usage\":{usage}}}\n\n"
            )
        };
        let delta = "[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]";
        let mut events = vec![event(delta, "null"); workload.sse_events as usize - 1];
        events.push(format!("{}data: [DONE]\n\n", event("[]", usage)));
        ("text/event-stream", events)
    }
}

fn response(workload: &Workload) -> (Vec<Bytes>, usize) {
    let (content_type, bodies) = answer(workload);
    let total = bodies.iter().map(String::len).sum();
    let headers = http_headers(&[(":status", "200"), ("content-type", content_type)]);
    let mut messages = vec![frame(Request::ResponseHeaders(headers), false)];
    messages.extend(
        bodies.iter().map(|b| frame(Request::ResponseBody(http_body(b.as_bytes(), false)), false)),
    );
    messages.push(frame(Request::ResponseBody(http_body(b"", true)), false));
    (messages, total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(frame: &[u8]) -> ProcessingRequest {
        let len = u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize;
        assert_eq!((frame[0], len), (0, frame.len() - 5));
        ProcessingRequest::decode(&frame[5..]).unwrap()
    }

    fn workload(chunk_bytes: usize, sse_events: u32) -> Workload {
        Workload {
            prompt_bytes: 300,
            shared_prefix_bytes: 100,
            groups: 3,
            chunk_bytes,
            sse_events,
            event_interval: Duration::ZERO,
            model: "m".into(),
        }
    }

    proptest! {
        #[test]
        fn numbers_land_in_header_and_prompt_however_it_is_cut(
            number: u64, group in 0usize..3, chunk in 1usize..400,
        ) {
            let messages = Messages::new(&workload(chunk, 0));
            let mut sent = Vec::new();
            let size = messages.request(number, group, |frame| sent.push(decode(&frame)));
            let Some(Request::RequestHeaders(headers)) = &sent[0].request else { panic!() };
            let headers = &headers.headers.as_ref().unwrap().headers;
            let id = headers.iter().find(|h| h.key == "x-request-id").unwrap();
            let node = format!("{number:016x}")[4..].to_owned();
            prop_assert_eq!(&id.raw_value[24..], node.as_bytes());
            prop_assert!(sent[0].protocol_config.is_some());

            let mut body = Vec::new();
            for (i, message) in sent[1..].iter().enumerate() {
                let Some(Request::RequestBody(piece)) = &message.request else { panic!() };
                prop_assert_eq!(piece.end_of_stream, i + 2 == sent.len());
                prop_assert!(piece.body.len() <= chunk);
                body.extend_from_slice(&piece.body);
            }
            prop_assert_eq!(body.len(), size);
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let user = json["messages"][1]["content"].as_str().unwrap();
            prop_assert_eq!(&user[..16], format!("{number:016x}"));
        }
    }

    #[test]
    fn responses_are_one_json_body_or_as_many_events_as_asked() {
        for (events, messages) in [(0, 3), (1, 3), (5, 7)] {
            let all = Messages::new(&workload(1000, events));
            assert_eq!(all.response.len(), messages, "{events} events");
            let pieces: Vec<HttpBody> = all.response[1..]
                .iter()
                .map(|frame| match decode(frame).request {
                    Some(Request::ResponseBody(piece)) => piece,
                    other => panic!("{other:?}"),
                })
                .collect();
            let total: usize = pieces.iter().map(|p| p.body.len()).sum();
            assert_eq!(total, all.response_bytes);
            assert!(pieces.last().unwrap().end_of_stream);
        }
    }
}
