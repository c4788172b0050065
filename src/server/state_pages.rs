//! What the page for people and `epp top` are made of: the state of the pool, how it went lately,
//! and the configuration in force.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde_json::{Value, json};

use super::Admin;
use super::cached::Cached;
use crate::clock;
use crate::telemetry::BuildInfo;

/// The pages that all readers share.
#[derive(Debug)]
pub(super) struct StatePages {
    state: Cached,
    history: Cached,
}

impl Default for StatePages {
    fn default() -> Self {
        let (state, history) = (Duration::from_millis(500), Duration::from_secs(1));
        Self { state: Cached::new(state), history: Cached::new(history) }
    }
}

pub(super) async fn state(
    State(admin): State<Arc<Admin>>,
    Extension(pages): Extension<Arc<StatePages>>,
) -> Response {
    answer(pages.state.get(move || bytes(&state_of(&admin))).await)
}

fn state_of(admin: &Admin) -> Value {
    let build = BuildInfo::of_this_build();
    let not_ready = admin.readiness.reason_not_ready().map(|reason| reason.to_string());
    let mut state = admin.view.state(clock::now(), not_ready, admin.config.findings());
    state["version"] = format!("{} ({})", build.build_ref, build.commit).into();
    state["flowControl"] = admin.waiting();
    state["configHash"] = admin.config.shown().hash.clone().into();
    state["keepsDecisions"] = json!(admin.decisions.is_on());
    state
}

pub(super) async fn history(
    State(admin): State<Arc<Admin>>,
    Extension(pages): Extension<Arc<StatePages>>,
) -> Response {
    answer(pages.history.get(move || bytes(&admin.view.history())).await)
}

pub(super) async fn config(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(admin.config.to_json())
}

/// A value in JSON, whose keys are texts.
fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn answer(page: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], page).into_response()
}
