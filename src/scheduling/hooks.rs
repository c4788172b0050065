//! Where a plugin may have a say beside the profiles: before, around and after a decision, and in
//! the life of the pool. Each is a trait of its own, so that a request pays for none that no
//! plugin of its configuration has.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Candidate, Cycle, Decision, Directions, InferenceRequest, RequestData};
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Pool};
use crate::error::RequestError;

/// Work that goes on beside the caller.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Looks at a request when it has been read, and before anybody decides anything about it.
pub trait RequestProcessor: Debug + Send + Sync {
    fn process(&self, request: &mut InferenceRequest);
}

/// Works out something that several plugins need, once per request, before any profile runs.
/// Producers run in the order of what they read and give.
pub trait Producer: Debug + Send + Sync {
    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData);
}

/// Puts what an [`AwaitingProducer`] found into the request's data.
pub type Put = Box<dyn FnOnce(&mut RequestData) + Send>;

/// A producer that has to wait for somebody else, such as a remote tokenizer. All of them start
/// together, before candidates are looked at and before any [`Producer`] runs.
pub trait AwaitingProducer: Debug + Send + Sync {
    /// Begins; `None` where there is nothing to wait for. What is not there at the deadline is
    /// gone without: the future is dropped.
    fn begin(&self, request: &Arc<InferenceRequest>) -> Option<BoxFuture<Option<Put>>>;

    /// How long a request waits at most (llm-d-router main at ebab6879: 400 ms).
    fn deadline(&self) -> Duration {
        Duration::from_millis(400)
    }
}

/// Narrows the endpoints that a request may go to at all, before producers run. What several
/// screeners leave is intersected; where that is nothing, the request gets 503.
pub trait Screener: Debug + Send + Sync {
    /// Keeps in `kept` (indices of `candidates`) those that pass.
    fn screen(
        &self,
        request: &InferenceRequest,
        candidates: &[Candidate<'_>],
        now: Timestamp,
        kept: &mut Vec<u32>,
    );
}

/// Lets a request in or refuses it, when producers have run and before any profile does.
pub trait Admitter: Debug + Send + Sync {
    /// # Errors
    /// The refusal, with the code that the client gets.
    fn admit(&self, cycle: &Cycle<'_>) -> Result<(), RequestError>;
}

/// The candidate that a profile chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Index of the profile.
    pub profile: usize,
    pub candidate: u32,
    /// The prompt's KV blocks will be there: it is computed there, or sent there.
    pub holds_prompt: bool,
}

/// What was picked: the first pick of every profile that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Picked<'a> {
    /// The primary profile's first.
    pub targets: &'a [Target],
}

impl Picked<'_> {
    /// The candidates, the primary profile's first.
    pub fn candidates(&self) -> impl Iterator<Item = u32> + '_ {
        self.targets.iter().map(|target| target.candidate)
    }

    /// Those that will hold the prompt's KV blocks.
    pub fn holders(&self) -> impl Iterator<Item = u32> + '_ {
        self.targets.iter().filter(|t| t.holds_prompt).map(|t| t.candidate)
    }

    /// The candidate that the request goes to.
    pub fn primary(&self) -> Option<u32> {
        self.candidates().next()
    }
}

/// Takes note of what was picked, after the pick and before the request leaves.
pub trait PickObserver: Debug + Send + Sync {
    fn picked(&self, cycle: &Cycle<'_>, picked: Picked<'_>);
}

/// Has the last word on what leaves with a request.
pub trait RequestHook: Debug + Send + Sync {
    /// Adds request headers or dynamic metadata to `directions`.
    fn before_request(&self, cycle: &Cycle<'_>, picked: Picked<'_>, directions: &mut Directions);
}

/// Sees the response of a request that was routed.
pub trait ResponseHook: Debug + Send + Sync {
    /// The response's headers came, with this status where the gateway tells it. Response headers
    /// or dynamic metadata to set go into `directions`.
    fn response_headers(
        &self,
        exchange: &RoutedRequest<'_>,
        status: Option<u16>,
        directions: &mut Directions,
    ) {
        let _ = (exchange, status, directions);
    }

    /// A piece of the response's body came. Dynamic metadata to set goes into `directions`: it is
    /// what counts should the client leave before the next piece.
    fn response_chunk(
        &self,
        exchange: &RoutedRequest<'_>,
        piece: &[u8],
        directions: &mut Directions,
    ) {
        let _ = (exchange, piece, directions);
    }

    /// The response's body is complete. Dynamic metadata to set goes into `directions`.
    fn response_end(
        &self,
        exchange: &RoutedRequest<'_>,
        usage: Option<&TokenUsage>,
        directions: &mut Directions,
    ) {
        let _ = (exchange, usage, directions);
    }
}

/// A request that was routed, as response hooks see it.
#[derive(Clone, Copy, Debug)]
pub struct RoutedRequest<'a> {
    pub request: &'a InferenceRequest,
    pub decision: &'a Decision,
    /// `ip:port` of the endpoint that served, where the gateway tells.
    pub served_by: Option<&'a str>,
    pub answer: AnswerSoFar,
    pub now: Timestamp,
}

/// What has come of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerSoFar {
    /// Its HTTP status, where the gateway tells.
    pub status: Option<u16>,
    /// Bytes of its body.
    pub bytes: u64,
    /// What the endpoint has reported.
    pub usage: Option<TokenUsage>,
    /// Tokens of it by our own count; 0 where no plugin has [`CountTokens`].
    pub counted: u64,
}

/// A plugin with this part has the tokens of every answer counted as they pass by.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountTokens;

/// A plugin with this part has streams asked to end with the engine's own counts, where clients
/// did not ask; what comes of it is kept from those.
#[derive(Clone, Copy, Debug, Default)]
pub struct AskForUsage;

/// A plugin with this part goes by what the bodies of responses tell, so that they have to be read
/// where the gateway can leave them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadsAnswers {
    /// When the first byte comes: until then an endpoint works on the prompt.
    FirstToken,
    /// The endpoint's token counts, or our own count.
    Usage,
}

/// Token counts that an endpoint reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    pub prompt: u64,
    pub completion: u64,
    /// Prompt tokens found in the endpoint's cache; `None` where it does not say.
    pub cached: Option<u64>,
}

/// Told of endpoints that appear and leave.
pub trait EndpointHook: Debug + Send + Sync {
    fn appeared(&self, endpoint: &Arc<Endpoint>);

    fn left(&self, endpoint: &Arc<Endpoint>);
}

/// What a plugin that does something of its own accord is given: the time, and something to run
/// on. In a simulation both are virtual.
pub trait Runtime: Debug + Send + Sync {
    fn now(&self) -> Timestamp;

    /// Time since 1970, UTC, for what follows the calendar. A clock of its own began then.
    fn unix_time(&self) -> Duration {
        self.now().since(Timestamp::START)
    }

    /// Returns after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;

    /// Runs `work` beside everything else; it ends with the pool at the latest.
    fn spawn(&self, work: BoxFuture<()>);
}

/// A plugin that runs with its pool. Started in the order of the configuration, stopped in the
/// reverse order.
pub trait Lifecycle: Debug + Send + Sync {
    fn start(&self, pool: &Arc<Pool>, runtime: &Arc<dyn Runtime>);

    fn stop(&self) {}
}

/// Shows a plugin's own state on the debug pages.
pub trait DebugState: Debug + Send + Sync {
    /// Never a prompt, nor anything else of a request's content.
    fn debug_state(&self) -> serde_json::Value;
}
