//! Workers of a cluster that go wrong while it is driven.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::worker_program::WorkerProgram;
use crate::bench::engine_api::post;
use crate::bench::replay::faults::{Fault, FaultKind, MetricsFault};
use crate::sim::Nanos;

/// Has the first worker suffer the first fault, the next one the next, and so on, counted from
/// now. Whoever drops what comes back ends all of that.
pub(super) fn begin(faults: &[Fault], workers: &[Arc<Mutex<WorkerProgram>>]) -> JoinSet<()> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for (fault, worker) in faults.iter().zip(workers.iter().cycle()) {
        let (fault, worker) = (*fault, Arc::clone(worker));
        tasks.spawn(async move {
            if let Err(error) = suffer(fault, &worker, begin).await {
                eprintln!("{}: {error}", worker.lock().address);
            }
        });
    }
    tasks
}

async fn until(begin: Instant, at: Nanos) {
    match begin.checked_add(Duration::from_nanos(at)) {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn suffer(fault: Fault, worker: &Mutex<WorkerProgram>, begin: Instant) -> Result<(), String> {
    until(begin, fault.start).await;
    match fault.kind {
        FaultKind::Dies => {
            worker.lock().kill();
            until(begin, fault.end).await;
            worker.lock().restart()
        }
        FaultKind::Flaps(period) => {
            let mut at = fault.start;
            while at < fault.end {
                worker.lock().kill();
                until(begin, (at + period).min(fault.end)).await;
                worker.lock().restart()?;
                at += 2 * period;
                until(begin, at.min(fault.end)).await;
            }
            Ok(())
        }
        kind => {
            let address = worker.lock().address.clone();
            tell(&address, json(kind)).await?;
            until(begin, fault.end).await;
            tell(&address, serde_json::json!({})).await
        }
    }
}

/// The fault as a simulated worker is told of it. What kills a worker is done from outside.
fn json(kind: FaultKind) -> serde_json::Value {
    use serde_json::json;
    match kind {
        FaultKind::Dies | FaultKind::Flaps(_) => json!({}),
        FaultKind::Fails(n) => json!({"fail": {"status": 500, "one_in": n}}),
        FaultKind::Slow(factor) => json!({"slow": factor}),
        FaultKind::Hangs => json!({"hang": true}),
        FaultKind::Metrics(MetricsFault::Idle) => json!({"metrics": "idle"}),
        FaultKind::Metrics(MetricsFault::Frozen) => json!({"metrics": "frozen"}),
        FaultKind::Metrics(MetricsFault::Missing) => json!({"metrics": "missing"}),
    }
}

async fn tell(address: &str, fault: serde_json::Value) -> Result<(), String> {
    match post(&format!("http://{address}/sim/fault"), fault.to_string()).await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("the worker does not take the fault {fault}: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::replay::faults::fault;
    use crate::sim::worker;

    #[test]
    fn simulated_workers_understand_every_fault() {
        for text in [
            "fails",
            "fails=2",
            "slow=2",
            "hangs",
            "metrics=idle",
            "metrics=frozen",
            "metrics=missing",
        ] {
            let kind = fault(&format!("{text}@0s")).unwrap().kind;
            let told: worker::Fault = json(kind).to_string().parse().unwrap();
            assert_ne!(told, worker::Fault::default(), "{text}");
        }
    }
}
