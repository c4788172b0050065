//! What is seen of an endpoint, and what follows from it.

use std::fmt;

use crate::clock::Timestamp;

/// One request sent to an endpoint, as health sees it: from the pick until the endpoint says
/// something or the exchange ends. What is reported after that is no news.
#[derive(Debug)]
pub struct Attempt {
    pub(super) sent_at: Timestamp,
    is_waiting: bool,
}

impl Attempt {
    pub(super) fn new(sent_at: Timestamp) -> Self {
        Self { sent_at, is_waiting: true }
    }

    /// The attempt of a request that was sent at `sent_at` and that nothing was observed of yet,
    /// for callers that do not keep it. The moment must be the one of [`super::Health::sent`].
    pub fn resumed(sent_at: Timestamp) -> Self {
        Self::new(sent_at)
    }

    /// True once: something is observed.
    pub(super) fn conclude(&mut self) -> bool {
        std::mem::replace(&mut self.is_waiting, false)
    }

    /// True until something is observed.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }
}

/// What became of an [`Attempt`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Observation {
    /// The first byte of a good answer came. `work` is what the endpoint had to do for it, in any
    /// unit that is the same for the whole pool: tokens queued there and of the request itself.
    Answered { work: f64 },
    /// The headers of a good answer came, and its body will not be seen: it works, and how fast is
    /// not known.
    Acknowledged,
    /// It failed, and that says something about the endpoint.
    Failed(Failure),
    /// The endpoint refused the request for a reason of the request's own (4xx, 429 among them).
    Rejected,
    /// The client went away. Says nothing about the endpoint, unless it never says anything at
    /// all.
    Abandoned,
}

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A response of 5xx. The gateway reports a connection that cannot be made, or is lost before
    /// the response, as 503, and its own time-out as 504.
    Status(u16),
    /// Nothing came for longer than any answer takes.
    NoResponse,
}

impl Failure {
    /// What a response with this status says about the endpoint, if anything. What a server does
    /// not know how to do (501, 505) is no illness.
    pub fn of_status(status: u16) -> Option<Self> {
        (status >= 500 && !matches!(status, 501 | 505)).then_some(Self::Status(status))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::NoResponse => f.write_str("no response"),
        }
    }
}

/// How an attempt to read an endpoint's metrics went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrape {
    /// They were read. `busy` is what they say of requests running and waiting, where they do.
    Read { busy: Option<u32> },
    /// Nobody listens there.
    Refused,
    /// Anything else: too late, cut, not understood. Says nothing about serving.
    Failed,
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In service.
    Healthy,
    /// Its metrics are refused: one request at a time until one has come through.
    Suspect,
    /// Out of service but for single requests that try whether it is back.
    Ejected,
    /// In service again with a share that grows.
    Returning,
}

impl Standing {
    /// As told to people and in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Suspect => "suspect",
            Self::Ejected => "ejected",
            Self::Returning => "returning",
        }
    }
}

/// Why the standing changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// The last of several failures in a row.
    InARow { failures: u32, last: Failure },
    /// The share of failures lately, and of the other endpoints'.
    Share { failures: f64, others: f64, last: Failure },
    /// A request that tried whether it is back, or an early one after that, failed.
    FailedAgain(Failure),
    /// Connections for metrics are refused.
    MetricsRefused,
    /// Nothing was answered for so many seconds while requests waited.
    Silent { seconds: f64 },
    /// A request came through.
    Served,
    /// Metrics can be read again, and no request had failed.
    MetricsBack,
    /// The other endpoints fail as much.
    AllFailAlike,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow { failures, last } => {
                write!(f, "{failures} failures in a row, the last one {last}")
            }
            Self::Share { failures, others, last } => write!(
                f,
                "{:.0} % of its requests fail, {:.0} % elsewhere; the last one was {last}",
                failures * 100.0,
                others * 100.0
            ),
            Self::FailedAgain(failure) => write!(f, "it fails again: {failure}"),
            Self::MetricsRefused => f.write_str("connections for its metrics are refused"),
            Self::Silent { seconds } => {
                write!(f, "it answered nothing for {seconds:.1} s while requests waited")
            }
            Self::Served => f.write_str("a request came through"),
            Self::MetricsBack => f.write_str("its metrics can be read again"),
            Self::AllFailAlike => f.write_str("the other endpoints fail as much"),
        }
    }
}

/// A change of an endpoint's standing, to be logged and counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    pub from: Standing,
    pub to: Standing,
    pub reason: Reason,
}
