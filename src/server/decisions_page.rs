//! `/debug/decisions`: the last decisions, all or some, as JSON or as text.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Admin;
use crate::telemetry::{DecisionLog, DecisionQuery, DecisionRecord, as_text};

/// Longest page, bytes; with many endpoints a thousand decisions would be hundreds of megabytes.
const MAX_PAGE: usize = 4 << 20;
const OFF: &str = "nothing is kept: start epp with --explain-decisions=N";

/// The parameters of a page's address.
pub(super) type Parameters = Query<Vec<(String, String)>>;

pub(super) async fn decisions(
    State(admin): State<Arc<Admin>>,
    Query(parameters): Parameters,
) -> Response {
    let pairs = parameters.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let query = match DecisionQuery::read(pairs) {
        Ok(query) => query,
        Err(wrong) => return (StatusCode::BAD_REQUEST, format!("{wrong}\n")).into_response(),
    };
    // Many endpoints make many numbers, which exchanges should not wait for.
    let page = tokio::task::spawn_blocking(move || page(&admin.decisions, &query)).await;
    match page {
        Ok((content_type, text)) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn page(log: &DecisionLog, query: &DecisionQuery) -> (&'static str, String) {
    let records = query.of(log);
    match query.text {
        true => ("text/plain; charset=utf-8", text(log, &records, !query.brief)),
        false => ("application/json", json(log, &records, !query.brief)),
    }
}

fn text(log: &DecisionLog, records: &[Arc<DecisionRecord>], explained: bool) -> String {
    let mut page = String::new();
    for record in records {
        if page.len() > MAX_PAGE {
            page.push_str("and more than fit on a page\n");
            break;
        }
        page.push_str(&as_text(&record.view(explained)));
    }
    match (records.is_empty(), log.is_on()) {
        (true, true) => "no such decision is kept\n".to_owned(),
        (true, false) => format!("{OFF}\n"),
        (false, _) => page,
    }
}

fn json(log: &DecisionLog, records: &[Arc<DecisionRecord>], explained: bool) -> String {
    let mut page = String::from("{\"decisions\":[");
    let mut is_cut = false;
    for (at, record) in records.iter().enumerate() {
        if page.len() > MAX_PAGE {
            is_cut = true;
            break;
        }
        if at > 0 {
            page.push(',');
        }
        // Text keys and numbers: it cannot fail.
        page.push_str(&serde_json::to_string(&record.view(explained)).unwrap_or_default());
    }
    page.push(']');
    if is_cut {
        page.push_str(",\"truncated\":true");
    }
    if !log.is_on() {
        page.push_str(&format!(",\"note\":\"{OFF}\""));
    }
    page.push('}');
    page
}
