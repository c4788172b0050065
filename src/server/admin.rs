//! Metrics and debug pages, over HTTP.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::decisions_page::decisions;
use super::page::page;
use super::state_pages::{StatePages, config, history, state};
use super::{Incoming, Readiness, http1};
use crate::clock;
use crate::endpoints::{Endpoint, Pool};
use crate::exchange::HealthWatch;
use crate::flow_control::{BandSnapshot, FlowController, FlowSnapshot};
use crate::inspect::{ConfigInForce, PoolView};
use crate::telemetry::{DecisionLog, Metrics};

/// Says who may read this port.
#[tonic::async_trait]
pub trait MetricsAuth: std::fmt::Debug + Send + Sync {
    /// Whether the holder of `token`, the bearer token of the request if it has one, may do
    /// `method` on `path`; otherwise the HTTP status that says why not.
    async fn check(&self, token: Option<&str>, path: &str, method: &str) -> Result<(), StatusCode>;
}

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub decisions: Arc<DecisionLog>,
    pub pool: Arc<Pool>,
    /// Where requests wait, if they do.
    pub queue: Option<Arc<FlowController>>,
    pub readiness: Arc<Readiness>,
    /// Age at which an endpoint's metrics are shown as stale.
    pub staleness: Duration,
    /// `None`: nobody watches the endpoints' health.
    pub health: Option<Arc<HealthWatch>>,
    /// What came of requests, and what is wrong.
    pub view: PoolView,
    /// The configuration in force, with what its plugins show of their state.
    pub config: Arc<ConfigInForce>,
    /// Show the page for people at `/`.
    pub page: bool,
    /// Who may read; `None`: everybody.
    pub auth: Option<Arc<dyn MetricsAuth>>,
}

impl Admin {
    /// Serves the pages until `stop` is ready.
    pub async fn serve(self, incoming: Incoming, stop: impl Future<Output = ()>) {
        http1::serve(incoming, self.router(), stop).await;
    }

    /// What waits; nothing of any request's content.
    pub(super) fn waiting(&self) -> Value {
        waiting(self.queue.as_deref())
    }

    fn router(self) -> Router {
        let pages = StatePages::default();
        let guarded = Router::new()
            .route("/", if self.page { get(page) } else { get(|| async { Html(INDEX) }) })
            .route("/metrics", get(metrics))
            .route("/debug/decisions", get(decisions))
            .route("/debug/endpoints", get(endpoints))
            .route("/debug/flow-control", get(flow_control))
            .route("/debug/plugins", get(plugins))
            .route("/debug/plugins/state", get(plugin_states))
            .route("/debug/config", get(config))
            .route("/debug/history", get(history))
            .route("/debug/state", get(state))
            .route("/debug/pprof/{*profile}", get(no_profiles))
            .route("/debug/pprof", get(no_profiles))
            .route("/debug/pprof/", get(no_profiles))
            .layer(Extension(Arc::new(pages)))
            .layer(middleware::from_fn_with_state(self.auth.clone(), authorise));
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .merge(guarded)
            .with_state(Arc::new(self))
    }
}

async fn authorise(
    State(auth): State<Option<Arc<dyn MetricsAuth>>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(auth) = auth {
        let token = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(token);
        let token = token.as_deref();
        let (path, method) = (request.uri().path(), request.method().as_str());
        if let Err(status) = auth.check(token, path, method).await {
            let mut response = (status, format!("{status}\n")).into_response();
            if status == StatusCode::UNAUTHORIZED {
                // A browser asks for a password where it is told so: that may be the token.
                for scheme in ["Bearer", "Basic realm=\"epp\", charset=\"UTF-8\""] {
                    let scheme = HeaderValue::from_static(scheme);
                    response.headers_mut().append(WWW_AUTHENTICATE, scheme);
                }
            }
            return response;
        }
    }
    next.run(request).await
}

/// The token of a request: a bearer's, or the password of a browser, whatever its user is called.
fn token(authorization: &str) -> Option<Cow<'_, str>> {
    let (scheme, value) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().into());
    }
    let basic = Some(value.trim()).filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let pair = String::from_utf8(BASE64_STANDARD.decode(basic).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned().into())
}

const INDEX: &str = "<!DOCTYPE html>
<html lang=\"en\"><title>epp</title>
<h1>epp</h1>
<ul>
<li><a href=\"/metrics\">/metrics</a>: for Prometheus
<li><a href=\"/debug/endpoints\">/debug/endpoints</a>: the workers, what each last told, what is \
in flight there
<li><a href=\"/debug/flow-control\">/debug/flow-control</a>: what waits, by priority and \
fairness id
<li><a href=\"/debug/plugins\">/debug/plugins</a>: what plugins know, where they tell
<li><a href=\"/debug/decisions\">/debug/decisions</a>: the last decisions step by step
<li><a href=\"/debug/state\">/debug/state</a>: all of it in numbers, and what is wrong
<li><a href=\"/debug/config\">/debug/config</a>: the configuration in force
<li><a href=\"/healthz\">/healthz</a>: the process runs
<li><a href=\"/readyz\">/readyz</a>: requests can be served
</ul>
";

/// What plugins show of their state, by name.
async fn plugins(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let shown = admin.config.shown();
    let states = shown.plugins.iter().map(|(name, plugin)| (name.clone(), plugin.debug_state()));
    Json(Value::Object(states.collect()))
}

/// The same as the reference shows it (llm-d-router main at ebab6879).
async fn plugin_states(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let config = admin.config.shown();
    let of = |(name, plugin_type): &(String, &'static str)| {
        let shown = config.plugins.iter().find(|(shown, _)| shown == name);
        let mut plugin = json!({ "name": name, "type": plugin_type });
        match shown {
            Some((_, plugin_state)) => plugin["state"] = plugin_state.debug_state(),
            None => plugin["message"] = "plugin does not support state collection".into(),
        }
        (name.clone(), plugin)
    };
    let plugins: serde_json::Map<String, Value> = config.plugin_types.iter().map(of).collect();
    Json(json!({ "timestamp": jiff::Timestamp::now().to_string(), "plugins": plugins }))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    // With thousands of series this takes a while, which exchanges should not wait for.
    let rendered = tokio::task::spawn_blocking(move || admin.metrics.render()).await;
    match rendered {
        Ok(Ok(text)) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    match admin.readiness.reason_not_ready() {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn no_profiles() -> Response {
    let text = "There is no Go runtime to profile. Use perf on the process, or the process_* and \
                *_processing_duration_seconds metrics.\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn flow_control(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(admin.waiting())
}

fn waiting(queue: Option<&FlowController>) -> Value {
    let now = clock::now();
    let Some(queue) = queue else {
        return json!({ "on": false, "note": "the feature gate flowControl is off" });
    };
    let snapshot = queue.snapshot(now);
    let load = snapshot.load.unwrap_or_default();
    let flow = |flow: &FlowSnapshot| {
        json!({
            "fairnessId": *flow.fairness_id,
            "requests": flow.requests,
            "bytes": flow.bytes,
            "headWaitMs": now.since(flow.head_since).as_secs_f64() * 1e3,
        })
    };
    let band = |band: &BandSnapshot| {
        json!({
            "priority": band.priority,
            "requests": band.requests,
            "maxRequests": band.max_requests,
            "bytes": band.bytes,
            "maxBytes": band.max_bytes,
            "flows": band.flows.iter().map(flow).collect::<Vec<_>>(),
        })
    };
    json!({
        "on": true,
        "requests": snapshot.requests,
        "maxRequests": snapshot.max_requests,
        "bytes": snapshot.bytes,
        "maxBytes": snapshot.max_bytes,
        "saturation": {
            "effective": load.effective,
            "prefill": load.prefill,
            "decode": load.decode,
            "poolIsEmpty": load.is_empty,
        },
        "evictable": snapshot.evictable,
        "pendingReclaim": snapshot.pending_reclaim,
        "bands": snapshot.bands.iter().map(band).collect::<Vec<_>>(),
    })
}

async fn endpoints(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let snapshot = admin.pool.snapshot();
    let endpoints: Vec<Value> = snapshot.endpoints.iter().map(|e| endpoint(e, &admin)).collect();
    Json(json!({
        "synced": admin.pool.is_synced(),
        "notReady": admin.readiness.reason_not_ready(),
        "endpoints": endpoints,
    }))
}

fn endpoint(endpoint: &Endpoint, admin: &Admin) -> Value {
    let now = clock::now();
    let signals = endpoint.signals.load();
    let age_ms = signals.updated_at.map(|at| now.since(at).as_secs_f64() * 1e3);
    let lora = endpoint.signals.lora();
    json!({
        "id": *endpoint.id,
        "address": *endpoint.host_port,
        "pod": endpoint.spec.pod_name,
        "labels": **endpoint.labels(),
        "inFlight": {
            "requests": endpoint.in_flight.requests(),
            "tokens": endpoint.in_flight.tokens(),
        },
        "health": admin.health.as_ref().map(|watch| health(watch, endpoint)),
        "metrics": {
            "ageMs": age_ms,
            "stale": signals.is_stale(now, admin.staleness),
            "waiting": signals.waiting,
            "running": signals.running,
            "kvCacheUsage": signals.kv_usage,
            "blockSize": signals.block_size,
            "numBlocks": signals.num_blocks,
            "lora": lora.as_ref().map(|l| json!({
                "running": l.running,
                "waiting": l.waiting,
                "max": l.max,
            })),
        },
    })
}

fn health(watch: &HealthWatch, endpoint: &Endpoint) -> Value {
    let now = clock::now();
    let health = watch.of(endpoint);
    let last = health.last_change();
    json!({
        "standing": health.standing().as_str(),
        "reason": last.map(|(change, _)| change.reason.to_string()),
        "changedMsAgo": last.map(|(_, at)| now.since(at).as_secs_f64() * 1e3),
        "ejections": health.ejections(),
        "returns": health.returns(),
        "speed": watch.speed(endpoint, now),
        "metricsLie": health.metrics_lie(),
    })
}
