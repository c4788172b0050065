//! How headers are changed on the wire: what is set, what is removed, what is never sent through.

use bytes::Bytes;

use super::wire::{HeaderMutation, HeaderValue, HeaderValueOption};
use crate::headers::{
    DESTINATION, DESTINATION_SERVED, DESTINATION_SUBSET, DROPPED_REASON, FAIRNESS_ID, Headers,
    MODEL_REWRITE, OBJECTIVE, REQUEST_ID, SLO_TPOT, SLO_TTFT, STEERING, TRACE_PARENT, VIDEO,
    is_named,
};
use crate::scheduling::Directions;

pub(super) const CONTENT_LENGTH: &str = "Content-Length";
/// Set on every response, so that one can see the picker saw it.
const WENT_INTO_RESPONSE: &str = "x-went-into-resp-headers";

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

/// Headers that Envoy lets no one set unless its `mutation_rules` say otherwise: what routes are
/// chosen by, and its own. It skips and counts each (`rejected_header_mutations`, and more where
/// the rules have `disallow_is_error`), so they are not sent. The reference sends them.
fn is_refused(key: &[u8]) -> bool {
    const ROUTING: [&str; 4] = [":authority", ":method", ":scheme", "host"];
    const OF_ENVOY: &[u8] = b"x-envoy-";
    ROUTING.iter().any(|name| is_named(key, name))
        || key.get(..OF_ENVOY.len()).is_some_and(|start| start.eq_ignore_ascii_case(OF_ENVOY))
}

fn is_steering(key: &[u8]) -> bool {
    STEERING.iter().any(|k| is_named(key, k))
}

/// A header's value: `raw_value` where there is one, else `value`.
pub(super) fn value_of(header: &HeaderValue) -> &Bytes {
    if header.raw_value.is_empty() { &header.value } else { &header.raw_value }
}

/// One header to set.
pub(super) fn set(key: impl Into<Bytes>, value: impl Into<Bytes>) -> HeaderValueOption {
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
/// header of the request that is not system-owned, as the reference echoes them, and what plugins
/// set.
pub(super) fn request_mutation(
    destination: Bytes,
    content_length: Option<usize>,
    (headers, generated_request_id): (&Headers, bool),
    directions: &Directions,
) -> HeaderMutation {
    let ours = directions.headers();
    let mut set_headers = Vec::with_capacity(headers.len() + ours.len() + 2);
    set_headers.push(set(DESTINATION, destination));
    if let Some(length) = content_length {
        set_headers.push(set(CONTENT_LENGTH, length.to_string()));
    }
    let is_set = |key: &Bytes| ours.iter().any(|(k, _)| k == key);
    let echo_all = headers.len() <= MAX_ECHOED;
    let mut remove_headers = Vec::new();
    for (key, value) in headers.iter() {
        if is_set(key) {
            continue;
        }
        if is_steering(key) {
            remove_headers.push(key.clone());
        } else if (echo_all && !is_system_owned(key) && !is_refused(key))
            || (generated_request_id && &key[..] == REQUEST_ID.as_bytes())
        {
            set_headers.push(set(key.clone(), value.clone()));
        }
    }
    set_headers.extend(ours.iter().map(|(key, value)| set(key.clone(), value.clone())));
    HeaderMutation { set_headers, remove_headers }
}

/// The mutation of a request that has no body: the reference echoes nothing here.
pub(super) fn bodyless_mutation(
    destination: Bytes,
    (headers, generated_request_id): (&Headers, bool),
    trace_parent: Option<&Bytes>,
) -> HeaderMutation {
    let mut set_headers = vec![set(DESTINATION, destination)];
    if let (true, Some(id)) = (generated_request_id, headers.get_raw(REQUEST_ID)) {
        set_headers.push(set(REQUEST_ID, id.clone()));
    }
    set_headers.extend(trace_parent.map(|parent| set(TRACE_PARENT, parent.clone())));
    let remove_headers =
        headers.iter().filter(|(key, _)| is_steering(key)).map(|(key, _)| key.clone()).collect();
    HeaderMutation { set_headers, remove_headers }
}

/// The mutation of a response: our mark first, then what the worker sent. A header that stands
/// twice (`set-cookie`) is left as it is: setting it would leave the client one of its values.
pub(super) fn response_mutation(list: &[HeaderValue], directions: &Directions) -> HeaderMutation {
    let ours = directions.headers();
    let mut set_headers = Vec::with_capacity(list.len() + ours.len() + 1);
    set_headers.push(set(WENT_INTO_RESPONSE, "true"));
    if list.len() <= MAX_ECHOED {
        let repeats = |at: usize, key: &Bytes| {
            list.iter().enumerate().any(|(i, h)| {
                i != at && h.key.len() == key.len() && h.key.eq_ignore_ascii_case(key)
            })
        };
        for (i, header) in list.iter().enumerate() {
            let is_set = ours.iter().any(|(k, _)| k.eq_ignore_ascii_case(&header.key));
            let is_sent = !is_system_owned(&header.key) && !is_refused(&header.key);
            if !is_set && is_sent && !repeats(i, &header.key) {
                set_headers.push(set(header.key.clone(), value_of(header).clone()));
            }
        }
    }
    set_headers.extend(ours.iter().map(|(key, value)| set(key.clone(), value.clone())));
    HeaderMutation { set_headers, remove_headers: Vec::new() }
}
