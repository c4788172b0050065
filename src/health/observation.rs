//! What is seen of an endpoint, and what follows from it.

use std::fmt;

use crate::clock::Timestamp;

/// One request sent to an endpoint, as health sees it: from the pick to the end of the exchange.
/// It keeps the books right whatever is reported, and however often.
#[derive(Debug)]
pub struct Attempt {
    pub(super) sent_at: Timestamp,
    stage: Stage,
}

/// How far an [`Attempt`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Answered,
    Over,
}

impl Attempt {
    pub(super) fn new(sent_at: Timestamp) -> Self {
        Self { sent_at, stage: Stage::Waiting }
    }

    /// The attempt of a request that was sent at `sent_at`, for callers that do not keep it
    /// between two observations. The moment must be the one of [`super::Health::sent`].
    pub fn resumed(sent_at: Timestamp, is_answered: bool) -> Self {
        Self { sent_at, stage: if is_answered { Stage::Answered } else { Stage::Waiting } }
    }

    /// Takes the step that `outcome` is, and gives the stage before it; `None` where the outcome
    /// is no news: after a first byte only a failure is, after the end nothing is.
    pub(super) fn advance(&mut self, observation: Observation) -> Option<Stage> {
        let before = self.stage;
        let (after, is_news) = match (before, observation) {
            (Stage::Waiting | Stage::Answered, Observation::Answered { .. }) => {
                (Stage::Answered, before == Stage::Waiting)
            }
            (Stage::Waiting, _) | (Stage::Answered, Observation::Failed(_)) => (Stage::Over, true),
            (Stage::Answered | Stage::Over, _) => (Stage::Over, false),
        };
        self.stage = after;
        is_news.then_some(before)
    }

    /// True until the endpoint has said something or the exchange is over.
    pub fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }
}

/// What became of an [`Attempt`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Observation {
    /// The first byte of a good answer came. `work` is what the endpoint had to do for it, in any
    /// unit that is the same for the whole pool: tokens queued there and of the request itself.
    Answered { work: f64 },
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
    /// The exchange ended without a response while its client was still there.
    NoResponse,
    /// The response broke off while its client was still there.
    CutShort,
}

impl Failure {
    /// What a response with this status says about the endpoint, if anything.
    pub fn of_status(status: u16) -> Option<Self> {
        (status >= 500).then_some(Self::Status(status))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::NoResponse => f.write_str("no response"),
            Self::CutShort => f.write_str("a response cut short"),
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
