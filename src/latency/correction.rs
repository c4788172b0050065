//! What is particular to one endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

/// By which factors an endpoint is slower or faster than the pool's model says: another
/// accelerator, a neighbour on the same host. Belongs to the endpoint instance and goes with it.
#[derive(Debug, Default)]
pub struct EndpointCorrection {
    pub(super) ttft: Factor,
    pub(super) tpot: Factor,
}

impl EndpointCorrection {
    /// As new.
    pub fn forget(&self) {
        self.ttft.0.store(0, Ordering::Relaxed);
        self.tpot.0.store(0, Ordering::Relaxed);
    }
}

/// A factor, kept as its logarithm in the bits of an `f64`: written by whoever learns, read by
/// everybody without a lock.
#[derive(Debug, Default)]
pub(super) struct Factor(AtomicU64);

/// How much of the last observation's surprise goes into the factor.
const RATE: f64 = 0.02;
/// How much of the factor goes back into the model, so that what all endpoints have in common is
/// the model's and a new endpoint starts right.
const RETURN: f64 = 0.001;
/// Most that one observation counts, and the factor at most, as logarithms: 2.7 and 20 times.
const MAX_SURPRISE: f64 = 1.0;
const MAX_FACTOR: f64 = 3.0;

impl Factor {
    fn logarithm(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn get(&self) -> f64 {
        self.logarithm().exp()
    }

    /// Takes note that the model said `predicted` where `observed` came, both finite and above 0.
    pub(super) fn observe(&self, predicted: f64, observed: f64) {
        let now = self.logarithm();
        let surprise = ((observed / predicted).ln() - now).clamp(-MAX_SURPRISE, MAX_SURPRISE);
        let next = (now + RATE * surprise - RETURN * now).clamp(-MAX_FACTOR, MAX_FACTOR);
        if next.is_finite() {
            self.0.store(next.to_bits(), Ordering::Relaxed);
        }
    }
}
