//! Which headers mean what, which are ours alone, and which a client must not send through.

use bytes::Bytes;

use super::wire::{HeaderMap, HeaderMutation, HeaderValue, HeaderValueOption};
use crate::scheduling::Headers;

/// Where the request goes: `ip:port`, or a comma list in order of preference.
pub const DESTINATION: &str = "x-gateway-destination-endpoint";
pub const DESTINATION_SUBSET: &str = "x-gateway-destination-endpoint-subset";
pub const DESTINATION_SERVED: &str = "x-gateway-destination-endpoint-served";
pub const DESTINATION_SCORES: &str = "x-gateway-destination-endpoint-scores";
pub const DROPPED_REASON: &str = "x-llm-d-request-dropped-reason";
pub const REQUEST_ID: &str = "x-request-id";
pub const CONTENT_LENGTH: &str = "Content-Length";
/// Set on every response, so that one can see the picker saw it.
pub const WENT_INTO_RESPONSE: &str = "x-went-into-resp-headers";

/// A control header: its name since llm-d v0.9, and the older alias that still counts.
pub type Named = [&'static str; 2];
pub const OBJECTIVE: Named = ["x-llm-d-inference-objective", "x-gateway-inference-objective"];
pub const FAIRNESS_ID: Named = ["x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"];
pub const MODEL_REWRITE: Named = ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"];
const SLO_TTFT: Named = ["x-llm-d-slo-ttft-ms", "x-slo-ttft-ms"];
const SLO_TPOT: Named = ["x-llm-d-slo-tpot-ms", "x-slo-tpot-ms"];
/// What a client says of its videos; it has one name each.
const VIDEO: [&str; 3] =
    ["x-llm-d-video-fps", "x-llm-d-video-duration-seconds", "x-llm-d-video-resolution"];

/// Headers that steer a worker's sidecar. The reference leaves a client's copy on the request
/// when it writes none itself; we remove it, since it would let a client choose the host that a
/// sidecar connects to.
const STEERING: [&str; 4] = [
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
];

/// The value of a control header by either name; the new name wins.
pub fn named(headers: &Headers, names: Named) -> Option<&str> {
    names.iter().find_map(|name| headers.get(name)).filter(|v| !v.is_empty())
}

/// The request prefers an error to an answer that is not `if-available`: computed from nothing in
/// the worker's cache. `prefer` is a list whose elements may have parameters (RFC 7240).
pub fn prefers_if_available(headers: &Headers) -> bool {
    headers.get("prefer").is_some_and(|preferences| {
        preferences.split(',').any(|preference| {
            let name = preference.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("if-available")
        })
    })
}

/// Headers that are never echoed (llm-d-router main at ebab6879: destination keys, the drop
/// reason, `content-length` and every input-control header under both names).
fn is_system_owned(key: &[u8]) -> bool {
    const KEYS: [&str; 5] =
        [DESTINATION, DESTINATION_SUBSET, DESTINATION_SERVED, DROPPED_REASON, "content-length"];
    KEYS.iter().chain(&VIDEO).any(|k| is_named(key, k))
        || [OBJECTIVE, FAIRNESS_ID, MODEL_REWRITE, SLO_TTFT, SLO_TPOT]
            .iter()
            .flatten()
            .any(|k| is_named(key, k))
}

fn is_steering(key: &[u8]) -> bool {
    STEERING.iter().any(|k| is_named(key, k))
}

/// Compares lengths first, which tells nearly every pair of names apart.
fn is_named(key: &[u8], name: &str) -> bool {
    key.len() == name.len() && key.eq_ignore_ascii_case(name.as_bytes())
}

/// A header's value: `raw_value` where there is one, else `value`.
pub fn value_of(header: &HeaderValue) -> &Bytes {
    if header.raw_value.is_empty() { &header.value } else { &header.raw_value }
}

/// Adds a message's headers to those of earlier ones; a message without a header map has none.
pub fn add(headers: &mut Headers, map: Option<HeaderMap>) {
    let list = map.map(|m| m.headers).unwrap_or_default();
    if headers.is_empty() {
        *headers = Headers::with_capacity(list.len() + 1);
    }
    for header in list {
        let value = value_of(&header).clone();
        headers.set(header.key, value);
    }
}

/// One header to set.
pub fn set(key: impl Into<Bytes>, value: impl Into<Bytes>) -> HeaderValueOption {
    let raw_value = value.into();
    HeaderValueOption {
        keep_empty_value: raw_value.is_empty(),
        header: Some(HeaderValue { key: key.into(), value: Bytes::new(), raw_value }),
    }
}

/// Envoy refuses a mutation of more headers than its limit, 100 by default, and with it the
/// request. Beyond this many only what changes is sent; the rest stays on the request anyway.
const MAX_ECHOED: usize = 90;

/// The mutation of a routed request: the destination first, then `Content-Length`, then every
/// header of the request that is not system-owned, as the reference echoes them.
pub fn request_mutation(
    destination: Bytes,
    content_length: Option<usize>,
    headers: &Headers,
    generated_request_id: bool,
) -> HeaderMutation {
    let mut set_headers = Vec::with_capacity(headers.len() + 2);
    set_headers.push(set(DESTINATION, destination));
    if let Some(length) = content_length {
        set_headers.push(set(CONTENT_LENGTH, length.to_string()));
    }
    let echo_all = headers.len() <= MAX_ECHOED;
    let mut remove_headers = Vec::new();
    for (key, value) in headers.iter() {
        if is_steering(key) {
            remove_headers.push(key.clone());
        } else if (echo_all && !is_system_owned(key))
            || (generated_request_id && &key[..] == REQUEST_ID.as_bytes())
        {
            set_headers.push(set(key.clone(), value.clone()));
        }
    }
    HeaderMutation { set_headers, remove_headers }
}

/// The mutation of a request that has no body: the reference echoes nothing here.
pub fn bodyless_mutation(
    destination: Bytes,
    headers: &Headers,
    generated_request_id: bool,
) -> HeaderMutation {
    let mut set_headers = vec![set(DESTINATION, destination)];
    if let (true, Some(id)) = (generated_request_id, headers.get_raw(REQUEST_ID)) {
        set_headers.push(set(REQUEST_ID, id.clone()));
    }
    let remove_headers =
        headers.iter().filter(|(key, _)| is_steering(key)).map(|(key, _)| key.clone()).collect();
    HeaderMutation { set_headers, remove_headers }
}

/// The mutation of a response: our mark first, then what the worker sent. A header that stands
/// twice (`set-cookie`) is left as it is: setting it would leave the client one of its values.
pub fn response_mutation(list: Vec<HeaderValue>) -> HeaderMutation {
    let mut set_headers = Vec::with_capacity(list.len() + 1);
    set_headers.push(set(WENT_INTO_RESPONSE, "true"));
    if list.len() <= MAX_ECHOED {
        let repeats = |at: usize, key: &Bytes| {
            list.iter().enumerate().any(|(i, h)| {
                i != at && h.key.len() == key.len() && h.key.eq_ignore_ascii_case(key)
            })
        };
        for (i, header) in list.iter().enumerate() {
            if !is_system_owned(&header.key) && !repeats(i, &header.key) {
                set_headers.push(set(header.key.clone(), value_of(header).clone()));
            }
        }
    }
    HeaderMutation { set_headers, remove_headers: Vec::new() }
}
