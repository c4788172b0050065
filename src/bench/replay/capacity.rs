//! How much of a workload the workers can serve at all, so that a load can be told in multiples
//! of it.

use super::ReplayArgs;
use super::faults::Faults;
use super::policy::{Baseline, Policy};
use super::simulation::Simulation;
use crate::bench::trace::Trace;
use crate::sim::EngineConfig;

/// Sessions start so much more often than in the trace that all of them are there at once.
const AT_ONCE: f64 = 1e9;

/// A rate, and the load it was made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    /// How many times as often as in the trace sessions start.
    pub factor: f64,
    /// How many times as many requests as the workers can serve come, where that was asked for.
    pub load: Option<f64>,
}

/// The rates that the arguments ask for.
///
/// # Errors
/// With a text for the user.
pub(super) fn rates(
    args: &ReplayArgs,
    engine: &EngineConfig,
    trace: &Trace,
) -> Result<Vec<Rate>, String> {
    if args.load.is_empty() {
        return Ok(args.rate.iter().map(|&factor| Rate { factor, load: None }).collect());
    }
    let capacity = capacity(args, engine, trace)?;
    let seconds = trace.last_start() as f64 / 1e9;
    if seconds <= 0.0 {
        return Err("--load: all sessions of this trace start at once".into());
    }
    let own = trace.len() as f64 / seconds;
    let rate = |&load: &f64| Rate { factor: load * capacity / own, load: Some(load) };
    Ok(args.load.iter().map(rate).collect())
}

/// Requests a second that the workers serve when all of the workload is there from the start.
fn capacity(args: &ReplayArgs, engine: &EngineConfig, trace: &Trace) -> Result<f64, String> {
    let simulation = Simulation {
        trace,
        rate: AT_ONCE,
        engine: engine.clone(),
        layout: args.fleet.undivided(),
        signalling: args.signalling(),
        faults: Faults::default(),
        slo: args.slo(),
    };
    let policy = |_: &_| Ok(Policy::baseline(Baseline::LeastRequests, args.trace.seed));
    let outcome = simulation.run(policy, &mut |_| ())?;
    outcome.steady_rate.ok_or_else(|| "--load: the workload is too small to measure".to_owned())
}
