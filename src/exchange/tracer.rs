use std::fmt::Debug;

use bytes::Bytes;

use super::Kept;
use crate::headers::Headers;

/// Follows requests across programs (W3C Trace Context). What becomes of an exchange it is told
/// as an [`super::OutcomeListener`].
pub trait ExchangeTracer: Debug + Send + Sync {
    /// A request's headers came. What the tracer needs of the exchange when that ends it leaves in
    /// `kept`.
    fn begin(&self, headers: &Headers, kept: &Kept) -> Traced;
}

/// What a tracer wants done with a request.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// The `traceparent` that is to leave with the request; `None`: the one that came, if any.
    pub parent: Option<Bytes>,
    /// The exchange is taken down, so its decision is to be, step by step.
    pub recorded: bool,
}
