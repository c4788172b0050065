use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::EndpointSubset;
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Pool};
use crate::error::{Code, RequestError};
use crate::flow_control::SaturationConfig;
use crate::scheduling::{BoxFuture, Candidate, InferenceRequest};

/// A request that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub request: &'a Arc<InferenceRequest>,
    pub pool: &'a Arc<Pool>,
    /// The endpoints that the gateway allows, unless the whole pool is to be used.
    pub subset: Option<&'a EndpointSubset>,
    pub now: Timestamp,
}

/// Held by a request that was let in until it has reserved its endpoints.
pub type Permit = Box<dyn Any + Send>;

/// Whether a request may go on.
pub enum Admitted {
    Now,
    /// Not yet. Dropping the future gives up.
    Later(BoxFuture<Result<Permit, RequestError>>),
    Refused(RequestError),
}

/// Lets requests in, at once, later or not at all.
pub trait Admission: Debug + Send + Sync {
    fn admit(&self, arrival: Arrival<'_>) -> Admitted;
}

/// The reference's admission without flow control: requests of negative priority are refused
/// while the pool is saturated, all others pass (llm-d-router main at ebab6879).
#[derive(Clone, Copy, Debug)]
pub struct ShedWhenSaturated(pub SaturationConfig);

impl Admission for ShedWhenSaturated {
    fn admit(&self, arrival: Arrival<'_>) -> Admitted {
        if arrival.request.priority >= 0 {
            return Admitted::Now;
        }
        let snapshot = arrival.pool.snapshot();
        let allowed: Vec<&Arc<Endpoint>> = match arrival.subset {
            None => snapshot.endpoints.iter().collect(),
            Some(subset) => subset.of(&snapshot.endpoints),
        };
        let candidates: Vec<Candidate<'_>> = allowed.into_iter().map(Candidate::new).collect();
        if self.0.saturation(&candidates, arrival.now) < 1.0 {
            return Admitted::Now;
        }
        Admitted::Refused(RequestError::new(
            Code::ResourceExhausted,
            "system saturated, sheddable request dropped",
        ))
    }
}
