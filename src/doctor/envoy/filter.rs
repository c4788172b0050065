//! The ext_proc filter: what it sends, how long it waits, what it lets the picker change.

use std::time::Duration;

use serde_json::Value;

use super::document::{Connection, Picker};
use super::path::{duration, get, list, text, truth};
use super::{Finding, Needs, SUBJECT};

/// Envoy's defaults.
const DEFAULT_MESSAGE_TIMEOUT: Duration = Duration::from_millis(200);
const DEFAULT_BUFFER: u64 = 1 << 20;
const DEFAULT_STREAM_IDLE: Duration = Duration::from_secs(300);
/// What a picker may take that lets nobody wait: the body has to come first.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The modes of both directions, with Envoy's defaults.
struct Modes<'a> {
    headers: &'a str,
    body: &'a str,
    trailers: &'a str,
}

fn modes_of<'a>(picker: &Picker<'a>, direction: &str) -> Modes<'a> {
    let mode = |what: &str, default: &'static str| {
        let name = format!("{direction}_{what}_mode");
        match text(picker.config, &["processing_mode", &name]) {
            None | Some("DEFAULT") => default,
            Some(mode) => mode,
        }
    };
    Modes {
        headers: mode("header", "SEND"),
        body: mode("body", "NONE"),
        trailers: mode("trailer", "SKIP"),
    }
}

/// One line of what it does.
pub(super) fn modes(picker: &Picker<'_>) -> String {
    let (request, response) = (modes_of(picker, "request"), modes_of(picker, "response"));
    let timeout = message_timeout(picker);
    format!("request body {}, response body {}, {timeout:?} a message", request.body, response.body)
}

fn message_timeout(picker: &Picker<'_>) -> Duration {
    duration(picker.config, &["message_timeout"]).unwrap_or(DEFAULT_MESSAGE_TIMEOUT)
}

pub(super) fn check(
    picker: &Picker<'_>,
    connection: &Connection<'_>,
    needs: &Needs,
) -> Vec<Finding> {
    let mut found = Vec::new();
    request(picker, connection, needs, &mut found);
    response(picker, &mut found);
    timeouts(picker, connection, needs, &mut found);
    mutations(picker.config, &mut found);
    forwarding(picker.config, &mut found);
    if truth(picker.config, &["failure_mode_allow"]) {
        found.push(
            Finding::note(SUBJECT, "failure-mode", "failure_mode_allow: true")
                .why(
                    "where the picker cannot be asked requests go on without a pick: to any worker, \
                     or nowhere with ORIGINAL_DST; full-duplex bodies end with an error anyway",
                )
                .change("failure_mode_allow: false, unless that is meant"),
        );
    }
    if truth(picker.config, &["observability_mode"]) {
        found.push(
            Finding::problem(SUBJECT, "observability", "observability_mode: true")
                .why("Envoy sends requests on without waiting for the pick")
                .change("observability_mode: false"),
        );
    }
    found
}

fn request(
    picker: &Picker<'_>,
    connection: &Connection<'_>,
    needs: &Needs,
    found: &mut Vec<Finding>,
) {
    let modes = modes_of(picker, "request");
    if modes.headers != "SEND" {
        found.push(
            Finding::problem(
                SUBJECT,
                "request-headers",
                format!("request_header_mode: {}", modes.headers),
            )
            .why("the picker answers headers with the endpoint: it is never asked")
            .change("processing_mode: {request_header_mode: SEND}"),
        );
    }
    let body = |what: String, why: &str| {
        Finding::problem(SUBJECT, "request-body", what)
            .why(why)
            .change("processing_mode: {request_body_mode: FULL_DUPLEX_STREAMED, request_trailer_mode: SEND}")
    };
    match modes.body {
        "FULL_DUPLEX_STREAMED" if modes.trailers != "SEND" => found.push(
            Finding::problem(
                SUBJECT,
                "request-trailers",
                "request_body_mode: FULL_DUPLEX_STREAMED without request_trailer_mode: SEND",
            )
            .why("Envoy refuses the configuration, and a request with trailers would never end")
            .change("processing_mode: {request_trailer_mode: SEND}"),
        ),
        "FULL_DUPLEX_STREAMED" => {}
        "BUFFERED" => {
            let limit = connection.buffer.unwrap_or(DEFAULT_BUFFER);
            if limit < needs.body {
                let what = format!(
                    "request_body_mode: BUFFERED, and the listener buffers {limit} bytes of {} that \
                     the picker takes",
                    needs.body
                );
                let finding = match limit < DEFAULT_BUFFER {
                    true => Finding::problem(SUBJECT, "buffer", what),
                    false => Finding::note(SUBJECT, "buffer", what),
                };
                found.push(finding.why("longer prompts are answered with 413 by Envoy").change(
                    format!(
                        "listener: per_connection_buffer_limit_bytes: {}, or \
                         FULL_DUPLEX_STREAMED, which buffers nothing; or --max-request-body-bytes",
                        needs.body
                    ),
                ));
            }
        }
        "BUFFERED_PARTIAL" => found.push(body(
            "request_body_mode: BUFFERED_PARTIAL".to_owned(),
            "a longer prompt is cut where the buffer ends, and cannot be read",
        )),
        mode => found.push(body(
            format!("request_body_mode: {mode}"),
            "the endpoint is picked before the body is known: no model, no prompt, no prefix",
        )),
    }
}

fn response(picker: &Picker<'_>, found: &mut Vec<Finding>) {
    let modes = modes_of(picker, "response");
    if modes.headers != "SEND" {
        found.push(
            Finding::note(
                SUBJECT,
                "response-headers",
                format!("response_header_mode: {}", modes.headers),
            )
            .why("failures of workers and times to first byte are not seen: no ejection")
            .change("processing_mode: {response_header_mode: SEND}"),
        );
    }
    match modes.body {
        "FULL_DUPLEX_STREAMED" if modes.trailers != "SEND" => found.push(
            Finding::problem(
                SUBJECT,
                "response-trailers",
                "response_body_mode: FULL_DUPLEX_STREAMED without response_trailer_mode: SEND",
            )
            .why("Envoy refuses the configuration, and an answer with trailers would never end")
            .change("processing_mode: {response_trailer_mode: SEND}"),
        ),
        "BUFFERED" | "BUFFERED_PARTIAL" => found.push(
            Finding::problem(
                SUBJECT,
                "response-body",
                format!("response_body_mode: {}", modes.body),
            )
            .why("streamed answers are held back until they are complete")
            .change("processing_mode: {response_body_mode: FULL_DUPLEX_STREAMED, response_trailer_mode: SEND}"),
        ),
        "NONE" => found.push(
            Finding::note(SUBJECT, "response-body", "response_body_mode: NONE")
                .why("usage is not seen: delivered hits, token quotas and latencies are unknown")
                .change("processing_mode: {response_body_mode: FULL_DUPLEX_STREAMED, response_trailer_mode: SEND}"),
        ),
        _ => {}
    }
}

fn timeouts(
    picker: &Picker<'_>,
    connection: &Connection<'_>,
    needs: &Needs,
    found: &mut Vec<Finding>,
) {
    let timeout = message_timeout(picker);
    let ceiling = duration(picker.config, &["max_message_timeout"]);
    let why_waiting = "requests that wait in the queue longer than that fail with 504";
    match needs.waits {
        Some(ttl) if ttl.is_zero() => found.push(
            Finding::note(
                SUBJECT,
                "message-timeout",
                format!("message_timeout: {timeout:?}, and requests may wait for ever"),
            )
            .why(why_waiting)
            .change("flowControl: {defaultRequestTTL: ...} below message_timeout"),
        ),
        Some(ttl) if timeout <= ttl => found.push(
            Finding::problem(
                SUBJECT,
                "message-timeout",
                format!("message_timeout: {timeout:?}, and requests may wait {ttl:?}"),
            )
            .why(why_waiting)
            .change(format!(
                "message_timeout: {}s, or a shorter defaultRequestTTL",
                ttl.as_secs_f64().ceil() + 10.0
            )),
        ),
        _ if timeout < SHORTEST_TIMEOUT => found.push(
            Finding::problem(SUBJECT, "message-timeout", format!("message_timeout: {timeout:?}"))
                .why("the pick waits for the body: slow clients and long prompts get 504")
                .change("message_timeout: 30s"),
        ),
        _ => {}
    }
    if let Some(ceiling) = ceiling.filter(|ceiling| *ceiling < timeout && !ceiling.is_zero()) {
        found.push(Finding::note(
            SUBJECT,
            "message-timeout",
            format!("max_message_timeout: {ceiling:?} is below message_timeout"),
        ));
    }
    let idle = duration(connection.manager, &["stream_idle_timeout"]);
    let idle = idle.unwrap_or(DEFAULT_STREAM_IDLE);
    if let Some(ttl) = needs.waits.filter(|ttl| !idle.is_zero() && *ttl >= idle) {
        found.push(
            Finding::problem(
                SUBJECT,
                "stream-idle-timeout",
                format!("stream_idle_timeout: {idle:?}, and requests may wait {ttl:?}"),
            )
            .why("Envoy gives up requests that still wait in the queue")
            .change("stream_idle_timeout above defaultRequestTTL"),
        );
    }
}

/// What the picker may change in a request.
fn mutations(config: &Value, found: &mut Vec<Finding>) {
    let Some(rules) = get(config, &["mutation_rules"]) else { return };
    let refuses = truth(rules, &["disallow_all"])
        || text(rules, &["disallow_expression", "regex"]).is_some_and(|r| r.contains("gateway"));
    if refuses {
        found.push(
            Finding::problem(
                SUBJECT,
                "mutation-rules",
                "mutation_rules refuse the picker's header",
            )
            .why("x-gateway-destination-endpoint is dropped: Envoy goes elsewhere, or nowhere")
            .change("mutation_rules: no disallow_all, nothing that fits x-gateway-"),
        );
    }
}

/// Headers that the picker is not shown.
fn forwarding(config: &Value, found: &mut Vec<Finding>) {
    let Some(rules) = get(config, &["forward_rules"]) else { return };
    let patterns = |name: &str| -> Vec<&str> {
        list(rules, &[name, "patterns"])
            .iter()
            .filter_map(|p| ["exact", "prefix"].iter().find_map(|kind| text(p, &[*kind])))
            .collect()
    };
    let allowed = get(rules, &["allowed_headers"]).map(|_| patterns("allowed_headers"));
    let needed = [":path", ":method", "content-type", "x-request-id"];
    let missing: Vec<&str> = match &allowed {
        Some(allowed) => needed
            .into_iter()
            .filter(|name| !allowed.iter().any(|pattern| name.starts_with(pattern)))
            .collect(),
        None => {
            let refused = patterns("disallowed_headers");
            needed.into_iter().filter(|name| refused.contains(name)).collect()
        }
    };
    if !missing.is_empty() {
        found.push(
            Finding::problem(
                SUBJECT,
                "forward-rules",
                format!("forward_rules keep {} from the picker", missing.join(", ")),
            )
            .why("which API is asked, and whose request it is, cannot be told")
            .change("forward_rules: none, or allowed_headers with these"),
        );
    }
}
