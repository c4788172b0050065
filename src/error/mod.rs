//! Why a request was not routed, and what the client is told about it.
//!
//! The codes, texts and drop reasons are the reference's (llm-d-router main at ebab6879):
//! 429 means capacity exists but is contended, 503 that none exists now, 500 that the fault is
//! ours, 400 that it is the client's. A message never quotes what the user sent.
//!
//! [`ErrorBody`] is what the client reads of it: JSON as its API has errors, or the reference's
//! text.

mod body;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

pub use body::{ErrorBody, ErrorFormat, ErrorShape};

/// Canonical error codes and the HTTP status each maps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    PreconditionFailed,
    /// The body is larger than the configured limit. Ours: the reference has no limit.
    PayloadTooLarge,
    /// The body does not come on. Ours, as the next one.
    RequestTimeout,
    /// More headers than a request may have.
    HeadersTooLarge,
    ResourceExhausted,
    Internal,
    ServiceUnavailable,
}

impl Code {
    /// The code's name, as it stands in error bodies and in the `error_code` metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::BadRequest => "BadRequest",
            Code::Unauthorized => "Unauthorized",
            Code::Forbidden => "Forbidden",
            Code::NotFound => "NotFound",
            Code::PreconditionFailed => "PreconditionFailed",
            Code::PayloadTooLarge => "PayloadTooLarge",
            Code::RequestTimeout => "RequestTimeout",
            Code::HeadersTooLarge => "RequestHeaderFieldsTooLarge",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::Internal => "Internal",
            Code::ServiceUnavailable => "ServiceUnavailable",
        }
    }

    /// The HTTP status the client receives.
    pub const fn http_status(self) -> u16 {
        match self {
            Code::BadRequest => 400,
            Code::Unauthorized => 401,
            Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::PreconditionFailed => 412,
            Code::RequestTimeout => 408,
            Code::PayloadTooLarge => 413,
            Code::HeadersTooLarge => 431,
            Code::ResourceExhausted => 429,
            Code::Internal => 500,
            Code::ServiceUnavailable => 503,
        }
    }
}

/// Value of the `x-llm-d-request-dropped-reason` response header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    Saturated,
    NoEndpoints,
    /// Waited in the queue for as long as it was allowed to.
    TtlExpired,
    ShuttingDown,
    /// Ended while it ran, for the sake of one of higher priority.
    Evicted,
    /// Whoever sent it has used up what they may. Ours.
    OverQuota,
}

impl DropReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::Saturated => "rejected-saturated",
            DropReason::NoEndpoints => "rejected-no-endpoints",
            DropReason::TtlExpired => "rejected-ttl-expired",
            DropReason::ShuttingDown => "rejected-shutting-down",
            DropReason::Evicted => "evicted",
            DropReason::OverQuota => "rejected-over-quota",
        }
    }
}

/// A request that ends in an error instead of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    pub code: Code,
    pub message: Cow<'static, str>,
    pub drop_reason: Option<DropReason>,
    /// When it is worth trying again, in whole seconds.
    pub retry_after: Option<Duration>,
    /// Headers that go with it beside those that the rest stands for, by lower-case names.
    pub headers: Vec<(&'static str, String)>,
}

impl RequestError {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            drop_reason: None,
            retry_after: None,
            headers: Vec::new(),
        }
    }

    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub fn with_reason(mut self, reason: DropReason) -> Self {
        self.drop_reason = Some(reason);
        self
    }

    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Adds a header for the client.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// No endpoint is left after the subset hint (or the pool is empty).
    pub fn no_candidates() -> Self {
        Self::new(
            Code::ServiceUnavailable,
            "failed to find endpoint candidates for serving the request",
        )
        .with_reason(DropReason::NoEndpoints)
    }

    /// The request is to be served from a cache only, and the picked worker's has nothing of it.
    pub fn not_cached() -> Self {
        Self::new(Code::PreconditionFailed, "no decode worker has the requested KV cache")
    }
}

/// The reference's text of an error: `inference error: <Code> - <message>`.
impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.drop_reason {
            // Here the reference writes nothing before the message.
            Some(DropReason::Evicted) => f.write_str(&self.message),
            _ => write!(f, "inference error: {} - {}", self.code.as_str(), self.message),
        }
    }
}

impl std::error::Error for RequestError {}
