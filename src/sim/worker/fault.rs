//! What a worker can be told to do wrong: for tests of routers, and for nothing else.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Worker;
use super::error::ApiError;

/// All that is wrong with a worker. As JSON, an object of what is; `{}` is nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// The process ends at once, with all its workers, as if it was killed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub die: bool,
    /// Requests for an answer are taken and never answered; health and metrics go on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hang: bool,
    /// Requests for an answer fail at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail: Option<Fail>,
    /// The engine takes so many times as long for everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<f64>,
    /// What is wrong with `/metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsFault>,
}

/// Which requests fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fail {
    /// The status they are answered with, 400 to 599.
    pub status: u16,
    /// One in so many fails; 1 is all of them.
    pub one_in: u64,
}

impl Default for Fail {
    fn default() -> Self {
        Self { status: 500, one_in: 1 }
    }
}

/// How `/metrics` misleads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricsFault {
    /// It shows an engine without work, whatever there is.
    Idle,
    /// It shows for ever what it showed when the fault began.
    Frozen,
    /// It is not there: 404.
    Missing,
    /// It never answers.
    Hang,
}

/// A fault that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("not a fault: {0}")]
    Json(String),
    #[error("fail.status must be from 400 to 599")]
    Status,
    #[error("fail.one_in must be at least 1")]
    OneIn,
    #[error("slow must be a number above 0")]
    Slow,
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(json: &str) -> Result<Self, FaultError> {
        // An object, and not a list of the values of its fields.
        let fault: Self = serde_json::from_str(json)
            .and_then(|fields| serde_json::from_value(Value::Object(fields)))
            .map_err(|error| FaultError::Json(error.to_string()))?;
        fault.validate()?;
        Ok(fault)
    }
}

impl Fault {
    /// # Errors
    /// Where a number is out of its bounds.
    pub fn validate(&self) -> Result<(), FaultError> {
        if let Some(fail) = self.fail {
            if !(400..600).contains(&fail.status) {
                return Err(FaultError::Status);
            }
            if fail.one_in == 0 {
                return Err(FaultError::OneIn);
            }
        }
        match self.slow {
            Some(factor) if !factor.is_finite() || factor <= 0.0 => Err(FaultError::Slow),
            _ => Ok(()),
        }
    }
}

/// The fault in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    now: Mutex<Fault>,
    /// Requests for an answer since the fault began.
    requests: AtomicU64,
}

impl Faults {
    pub(super) fn now(&self) -> Fault {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, fault: Fault) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        self.requests.store(0, Ordering::Relaxed);
    }

    /// True for one in so many calls, the last of them.
    fn one_in(&self, n: u64) -> bool {
        (self.requests.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(n.max(1))
    }
}

impl Worker {
    /// Puts a fault in the place of the one in force.
    pub(super) fn set_fault(&self, fault: Fault) {
        if fault.die {
            // Like a kill: nobody gets an answer, no connection is closed in order.
            std::process::exit(1);
        }
        if fault.metrics != self.faults.now().metrics {
            self.metrics.mislead(fault.metrics);
        }
        self.handle.set_pace(fault.slow.unwrap_or(1.0));
        self.faults.set(fault);
    }
}

/// Does to a request for an answer what the fault in force says.
pub(super) async fn strike(
    State(worker): State<Arc<Worker>>,
    request: Request,
    next: Next,
) -> Response {
    let fault = worker.faults.now();
    if fault.hang {
        return std::future::pending().await;
    }
    if let Some(fail) = fault.fail
        && worker.faults.one_in(fail.one_in)
    {
        let status = StatusCode::from_u16(fail.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return ApiError::told_to_fail(status).into_response();
    }
    next.run(request).await
}

/// `GET /sim/fault`: the fault in force.
pub(super) async fn show(State(worker): State<Arc<Worker>>) -> Json<Fault> {
    Json(worker.faults.now())
}

/// `POST /sim/fault`: the fault from now on. No real server has this route.
pub(super) async fn set(
    State(worker): State<Arc<Worker>>,
    body: String,
) -> Result<Json<Fault>, ApiError> {
    let fault: Fault =
        body.parse().map_err(|error: FaultError| ApiError::bad_request(error.to_string(), None))?;
    worker.set_fault(fault.clone());
    Ok(Json(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_json() {
        let none = Fault::default;
        let fail = |status, one_in| Fault { fail: Some(Fail { status, one_in }), ..none() };
        for (json, fault) in [
            ("{}", none()),
            (r#"{"die":true}"#, Fault { die: true, ..none() }),
            (r#"{"fail":{}}"#, fail(500, 1)),
            (r#"{"fail":{"status":503,"one_in":2}}"#, fail(503, 2)),
            (
                r#"{"slow":2.5,"metrics":"idle"}"#,
                Fault { slow: Some(2.5), metrics: Some(MetricsFault::Idle), ..none() },
            ),
        ] {
            assert_eq!(json.parse(), Ok(fault.clone()), "{json}");
            let again = serde_json::to_string(&fault).expect("JSON");
            assert_eq!(again.parse(), Ok(fault), "{json}");
        }
    }

    #[test]
    fn impossible_faults_are_refused() {
        for (json, error) in [
            (r#"{"fail":{"status":200}}"#, FaultError::Status),
            (r#"{"fail":{"status":600}}"#, FaultError::Status),
            (r#"{"fail":{"one_in":0}}"#, FaultError::OneIn),
            (r#"{"slow":0}"#, FaultError::Slow),
            (r#"{"slow":-1}"#, FaultError::Slow),
        ] {
            assert_eq!(json.parse::<Fault>(), Err(error), "{json}");
        }
        for json in
            [r#"{"slow":"very"}"#, r#"{"explode":true}"#, r#"{"metrics":"odd"}"#, "7", "[]", "{"]
        {
            assert!(matches!(json.parse::<Fault>(), Err(FaultError::Json(_))), "{json}");
        }
    }

    #[test]
    fn one_in_n_is_every_nth() {
        let faults = Faults::default();
        assert_eq!([0; 6].map(|_| faults.one_in(3)), [false, false, true, false, false, true]);
        faults.set(Fault::default());
        assert_eq!([0; 2].map(|_| faults.one_in(1)), [true, true]);
    }
}
