//! What the pickers share.
//!
//! Candidates are frozen when a request begins, but requests that are picked for at the same time
//! reserve their targets one after the other. So where two candidates are equally good, pickers
//! ask for the load of this very moment: a burst spreads instead of falling on one worker.

use super::{Build, Parameter, Parameters};
use crate::scheduling::{Cycle, Picks};

/// What [`max_endpoints`] reads.
pub(super) const PARAMETERS: Parameters = Parameters::Listed(&[Parameter::integer(
    "maxNumOfEndpoints",
    "endpoints to name, the further ones to fall back on; 0 and less is the default",
)
.unit("endpoints")
.default("1")]);

/// Reads `maxNumOfEndpoints`, the one parameter of all pickers: how many endpoints to return, 1
/// by default and where it is 0 or less.
pub(super) fn max_endpoints(mut build: Build<'_, '_>) -> usize {
    let max = super::parameters::positive(&mut build.parameters, "maxNumOfEndpoints", 1);
    build.parameters.finish();
    usize::try_from(max).unwrap_or(usize::MAX)
}

/// Requests in flight to a candidate right now, reservations of requests picked for since this
/// cycle began included.
pub(super) fn load_now(cycle: &Cycle<'_>, candidate: u32) -> i64 {
    cycle.candidates[candidate as usize].endpoint.in_flight.requests()
}

/// Picks `max` candidates at random, all equally likely, and puts the less loaded of the first
/// two first: the power of two choices, which keeps bursts even.
pub(super) fn at_random(cycle: &Cycle<'_>, candidates: &[u32], max: usize) -> Picks {
    // Two are drawn for the choice even where one is wanted.
    let drawn = max.max(2).min(candidates.len());
    let mut order: Picks = candidates.into();
    cycle.with_rng(|rng| {
        for i in 0..drawn {
            let other = rng.usize(i..order.len());
            order.swap(i, other);
        }
    });
    if drawn > 1 && load_now(cycle, order[1]) < load_now(cycle, order[0]) {
        order.swap(0, 1);
    }
    order.truncate(max);
    order
}

/// A score to compare by: one that is not a number is the worst, and a zero has no sign.
pub(super) fn comparable(total: f64) -> f64 {
    if total.is_nan() { f64::NEG_INFINITY } else { total + 0.0 }
}
