use std::fmt::Debug;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::EndpointSubset;
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Pool};
use crate::error::{Code, RequestError};
use crate::flow_control::{Pending, SaturationDetector};
use crate::scheduling::{BoxFuture, Candidate, Decision, InferenceRequest, TokenUsage};

/// A request that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub request: &'a Arc<InferenceRequest>,
    pub pool: &'a Arc<Pool>,
    /// The endpoints that the gateway allows, unless the whole pool is to be used.
    pub subset: Option<&'a EndpointSubset>,
    pub now: Timestamp,
}

/// Held by a request that was let in until it has reserved its endpoints. Dropped without that,
/// it lets another in.
pub trait Permit: Send {
    /// The request is sent where `decision` says, at `now`.
    fn reserved(self: Box<Self>, decision: &Decision, now: Timestamp) -> Box<dyn Stay>;
}

/// Held by a request that was let in and is under way. Dropped when its exchange has ended and
/// its reservations are released.
pub trait Stay: Send {
    /// The answer begins at `now`; `streaming`: it comes as a stream of events.
    fn answer_begins(&mut self, streaming: bool, now: Timestamp);

    /// What the endpoint reports of the request.
    fn used(&mut self, usage: &TokenUsage);

    /// Ready when the request has to end for the sake of another, with what the client gets.
    fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<RequestError>;
}

/// Whether a request may go on.
pub enum Admitted {
    Now(Option<Box<dyn Permit>>),
    /// Not yet. Dropping the future gives up.
    Later(BoxFuture<Result<Box<dyn Permit>, RequestError>>),
    Refused(RequestError),
}

/// Lets requests in, at once, later or not at all.
pub trait Admission: Debug + Send + Sync {
    fn admit(&self, arrival: Arrival<'_>) -> Admitted;
}

/// The reference's admission without flow control: requests of negative priority are refused
/// while the pool is saturated, all others pass (llm-d-router main at ebab6879).
#[derive(Clone, Debug)]
pub struct ShedWhenSaturated(pub Arc<dyn SaturationDetector>);

impl Admission for ShedWhenSaturated {
    fn admit(&self, arrival: Arrival<'_>) -> Admitted {
        if arrival.request.priority >= 0 {
            return Admitted::Now(None);
        }
        let snapshot = arrival.pool.snapshot();
        let allowed: Vec<&Arc<Endpoint>> = match arrival.subset {
            None => snapshot.endpoints.iter().collect(),
            Some(subset) => subset.of(&snapshot.endpoints),
        };
        let candidates: Vec<Candidate<'_>> = allowed.into_iter().map(Candidate::new).collect();
        if self.0.saturation(&candidates, Pending::default(), arrival.now) < 1.0 {
            return Admitted::Now(None);
        }
        Admitted::Refused(RequestError::new(
            Code::ResourceExhausted,
            "system saturated, sheddable request dropped",
        ))
    }
}
