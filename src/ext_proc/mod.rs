//! Envoy's external-processing protocol: one gRPC stream per HTTP exchange.
//!
//! [`stream`] polls the gateway's messages and hands each to [`exchange`], the state machine of
//! one exchange, whose two halves are [`request`] and [`response`]; [`reply`] and [`headers`]
//! say how an answer looks on the [`wire`], and [`replies`] puts answers into the stream.

mod collected;
mod common;
mod exchange;
mod headers;
mod replies;
mod reply;
mod request;
mod response;
mod routed;
mod service;
mod stream;
mod subset;
pub mod wire;

pub use headers::{
    DESTINATION, DESTINATION_SCORES, DESTINATION_SERVED, DESTINATION_SUBSET, DROPPED_REASON,
};
pub use reply::MAX_BODY_REPLY;
pub use service::{ExternalProcessorServer, SERVICE_NAME};
pub use stream::ExchangeStream;

use std::sync::Arc;

use crate::api::Parsers;
use crate::director::Director;
use crate::telemetry::{DecisionLog, Metrics};

/// What all exchanges share.
#[derive(Debug)]
pub struct Shared {
    pub director: Director,
    pub parsers: Parsers,
    pub metrics: Arc<Metrics>,
    /// Where explained decisions go, if they are wanted.
    pub decisions: Option<Arc<DecisionLog>>,
    /// Largest request body, bytes; more is answered with 413.
    pub max_request_body: usize,
    /// Some plugin reads the prompt; otherwise it is not collected.
    pub wants_prompt: bool,
}
