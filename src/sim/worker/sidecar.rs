//! What llm-d's routing sidecar does in front of a decode worker: it has another worker compute
//! the prompt, and lets this one go on from there.
//!
//! The connector is `nixlv2`, one leg after the other (llm-d-router main at ebab6879): the
//! prefill worker gets the request for one token, not streamed, with `kv_transfer_params` that
//! ask it to keep the KV; what it answers in that field goes into the request for this worker.
//! An error of the prefill worker is the client's answer, unless the worker was told to compute
//! the prompt itself then.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, json};

use super::Worker;
use super::error::ApiError;

/// The header by which a router says where the prompt is to be computed.
pub const PREFILLER_HEADER: HeaderName = HeaderName::from_static("x-prefiller-host-port");
/// The header by which a response says where its prompt was computed, if not here.
pub const PREFILL_HEADER: HeaderName = HeaderName::from_static("x-sim-prefill");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a worker does in a pool where prompts and answers are computed by different ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It computes prompts for others: without a sidecar, the header means nothing to it.
    Prefill,
    /// It has its prompts computed elsewhere where the header says so.
    Decode,
    /// It does what is asked of it; as `Decode`, and a router sends it prompts as well.
    #[default]
    Both,
}

/// The way to prefill workers.
#[derive(Debug)]
pub(super) struct Sidecar {
    pub(super) role: Role,
    /// Compute the prompt here where the prefill worker fails.
    pub(super) fallback: bool,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Goes with a request whose prompt another worker has computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefilled {
    /// Tokens of the prompt that the other worker found in its cache.
    pub(super) cached_tokens: u32,
}

/// Why a prefill worker did not do its part.
#[derive(Debug)]
enum LegError {
    /// It answered with an error, which is handed on.
    Status(StatusCode, Option<HeaderValue>, Bytes),
    Unreachable(String),
}

impl LegError {
    fn label(&self) -> &'static str {
        match self {
            LegError::Status(..) => "error",
            LegError::Unreachable(_) => "unreachable",
        }
    }

    fn into_response(self) -> Response {
        match self {
            LegError::Status(status, kind, body) => {
                let mut response = (status, body).into_response();
                if let Some(kind) = kind {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                }
                response
            }
            LegError::Unreachable(reason) => {
                ApiError::bad_gateway(format!("prefill worker: {reason}")).into_response()
            }
        }
    }
}

impl Sidecar {
    pub(super) fn new(role: Role, fallback: bool) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { role, fallback, client }
    }

    /// Has `prefiller` compute the prompt of a request; its answer as JSON.
    async fn ask(&self, prefiller: &str, parts: &Parts, body: Vec<u8>) -> Result<Value, LegError> {
        let unreachable = |error: &dyn std::error::Error| {
            let cause = error.source().map(|s| format!(": {s}")).unwrap_or_default();
            LegError::Unreachable(format!("{error}{cause}"))
        };
        let mut request =
            axum::http::Request::post(format!("http://{prefiller}{}", parts.uri.path()))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body)))
                .map_err(|error| unreachable(&error))?;
        if let Some(id) = parts.headers.get(REQUEST_ID) {
            request.headers_mut().insert(REQUEST_ID, id.clone());
        }
        let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| unreachable(&error))?.to_bytes();
        if !head.status.is_success() {
            let kind = head.headers.get(header::CONTENT_TYPE).cloned();
            return Err(LegError::Status(head.status, kind, body));
        }
        serde_json::from_slice(&body).map_err(|error| unreachable(&error))
    }
}

/// Has the prompt computed where the header says, then lets the request go on.
pub(super) async fn prefill_elsewhere(
    State(worker): State<Arc<Worker>>,
    mut request: Request,
    next: Next,
) -> Response {
    let prefiller = request.headers_mut().remove(PREFILLER_HEADER);
    let prefiller = prefiller.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Of several the first; an empty value is none (llm-d v0.2 blanks a client's header).
    let prefiller = prefiller.split(',').next().unwrap_or_default().trim();
    if prefiller.is_empty() || worker.sidecar.role == Role::Prefill {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    parts.headers.entry(REQUEST_ID).or_insert_with(|| {
        let id = uuid::Uuid::new_v4().to_string();
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("sim"))
    });
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return ApiError::bad_request("the body did not arrive", None).into_response(),
    };
    let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        // The API says what is wrong with it.
        return next.run(Request::from_parts(parts, Body::from(body))).await;
    };
    let leg = prefill_leg(&fields, parts.uri.path());
    let answer = worker.sidecar.ask(prefiller, &parts, leg.to_string().into_bytes()).await;
    let mark = match answer {
        Ok(answer) => {
            worker.metrics.remote_prefill("ok");
            if let Some(params) = answer.get("kv_transfer_params") {
                fields.insert("kv_transfer_params".into(), params.clone());
            }
            let cached_tokens = cached_tokens(&answer);
            parts.extensions.insert(Prefilled { cached_tokens });
            prefiller.to_owned()
        }
        Err(error) => {
            worker.metrics.remote_prefill(error.label());
            if !worker.sidecar.fallback {
                return error.into_response();
            }
            format!("failed {prefiller}")
        }
    };
    // The length is another one now.
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = Value::Object(fields).to_string();
    let mut response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if let Ok(mark) = HeaderValue::from_str(&mark) {
        response.headers_mut().insert(PREFILL_HEADER, mark);
    }
    response
}

/// The request for the prefill worker: the same, for one token.
fn prefill_leg(fields: &Map<String, Value>, path: &str) -> Value {
    let mut leg = fields.clone();
    leg.remove("stream_options");
    leg.insert("stream".into(), false.into());
    let limits: &[&str] = match path {
        "/v1/responses" => &["max_output_tokens"],
        "/v1/messages" => &["max_tokens"],
        _ => &["max_tokens", "max_completion_tokens", "min_tokens"],
    };
    for &limit in limits {
        leg.insert(limit.into(), 1.into());
    }
    let params = json!({
        "do_remote_decode": true,
        "do_remote_prefill": false,
        "remote_engine_id": null,
        "remote_block_ids": null,
        "remote_host": null,
        "remote_port": null,
    });
    leg.insert("kv_transfer_params".into(), params);
    Value::Object(leg)
}

/// The cached tokens in an answer of any of the APIs.
fn cached_tokens(answer: &Value) -> u32 {
    let places = [
        "/usage/prompt_tokens_details/cached_tokens",
        "/usage/input_tokens_details/cached_tokens",
        "/usage/cache_read_input_tokens",
    ];
    let found = places.iter().find_map(|place| answer.pointer(place)?.as_u64());
    u32::try_from(found.unwrap_or_default()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefill_leg_is_the_request_for_one_token() {
        let body = json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true},
            "max_tokens": 100, "prompt": "p",
        });
        let fields = body.as_object().expect("an object");
        for (path, limits) in [
            ("/v1/completions", vec!["max_tokens", "max_completion_tokens", "min_tokens"]),
            ("/v1/messages", vec!["max_tokens"]),
            ("/v1/responses", vec!["max_output_tokens"]),
        ] {
            let leg = prefill_leg(fields, path);
            for limit in limits {
                assert_eq!(leg[limit], 1, "{path} {limit}");
            }
            assert_eq!((&leg["stream"], &leg["prompt"]), (&json!(false), &json!("p")));
            assert_eq!(leg.get("stream_options"), None);
            assert_eq!(leg["kv_transfer_params"]["do_remote_decode"], true);
            assert_eq!(leg["kv_transfer_params"]["remote_block_ids"], Value::Null);
        }
    }

    #[test]
    fn cached_tokens_stand_where_each_api_puts_them() {
        for (answer, cached) in [
            (json!({"usage": {"prompt_tokens_details": {"cached_tokens": 3}}}), 3),
            (json!({"usage": {"input_tokens_details": {"cached_tokens": 4}}}), 4),
            (json!({"usage": {"cache_read_input_tokens": 5}}), 5),
            (json!({"usage": {"prompt_tokens_details": null}}), 0),
            (json!({}), 0),
        ] {
            assert_eq!(cached_tokens(&answer), cached, "{answer}");
        }
    }
}
