use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::endpoints::Pool;
use crate::ext_proc::SERVICE_NAME as EXT_PROC;

/// Whether requests can be served now. The reference also wants the pool's `appProtocol` to suit
/// the configured parsers; all of ours read every protocol that there is.
#[derive(Debug)]
pub struct Readiness {
    pool: Arc<Pool>,
    draining: AtomicBool,
    /// Who leads, where replicas elect a leader.
    leader: Option<watch::Receiver<bool>>,
}

impl Readiness {
    /// Ready as soon as discovery has listed the pool, be it empty: an empty pool is answered
    /// with 503, which tells a client more than a gateway that reaches no picker. With `leader`
    /// only the leader is ready.
    pub fn new(pool: Arc<Pool>, leader: Option<watch::Receiver<bool>>) -> Self {
        Self { pool, draining: AtomicBool::new(false), leader }
    }

    /// From now on not ready, so that gateways and services look elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why requests should not come here now; `None` where they may.
    pub fn reason_not_ready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Some("shutting down")
        } else if !self.pool.is_synced() {
            Some("the pool has not been listed yet")
        } else if self.leader.as_ref().is_some_and(|leader| !*leader.borrow()) {
            Some("another replica is the leader")
        } else {
            None
        }
    }

    /// The answer to a health check of `service`.
    ///
    /// Without leader election every name is answered, since deployments ask for several, and
    /// means readiness; with it, as in the reference (llm-d-router main at ebab6879), only the
    /// known names are. `liveness` never depends on the pool, where the reference's does without
    /// leader election: restarting the process does not make a missing pool appear.
    fn status_of(&self, service: &str) -> ServingStatus {
        match service {
            "liveness" => ServingStatus::Serving,
            "" | "readiness" | EXT_PROC => self.ready_status(),
            _ if self.leader.is_none() => self.ready_status(),
            _ => ServingStatus::ServiceUnknown,
        }
    }

    fn ready_status(&self) -> ServingStatus {
        match self.reason_not_ready() {
            None => ServingStatus::Serving,
            Some(_) => ServingStatus::NotServing,
        }
    }
}

/// `grpc.health.v1.Health` on a [`Readiness`].
#[derive(Clone, Debug)]
pub struct HealthService {
    readiness: Arc<Readiness>,
}

impl HealthService {
    /// The service to add to a server.
    pub fn server(readiness: Arc<Readiness>) -> HealthServer<Self> {
        HealthServer::new(Self { readiness })
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.readiness.status_of(&request.into_inner().service);
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    /// Not there, as in the reference: probes and gateways check.
    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("Watch is not supported; use Check"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use ServingStatus::{NotServing, ServiceUnknown, Serving};

    #[test]
    fn every_name_in_every_state() {
        let names = ["", "readiness", EXT_PROC, "inference-extension", "garbage", "liveness"];
        let ready = [Serving; 6];
        let not_ready = [NotServing, NotServing, NotServing, NotServing, NotServing, Serving];
        let leading = [Serving, Serving, Serving, ServiceUnknown, ServiceUnknown, Serving];
        let following =
            [NotServing, NotServing, NotServing, ServiceUnknown, ServiceUnknown, Serving];
        // synced, leads (None: there is no election), draining: the answers in the names' order.
        for (synced, leads, draining, expected) in [
            (true, None, false, ready),
            (false, None, false, not_ready),
            (true, None, true, not_ready),
            (true, Some(true), false, leading),
            (true, Some(false), false, following),
            (true, Some(true), true, following),
            (false, Some(true), false, following),
        ] {
            let pool = Arc::new(Pool::new());
            pool.set_synced(synced);
            let readiness = Readiness::new(pool, leads.map(|leads| watch::channel(leads).1));
            if draining {
                readiness.drain();
            }
            let answers = names.map(|name| readiness.status_of(name));
            assert_eq!(answers, expected, "synced {synced}, leads {leads:?}, draining {draining}");
        }
    }
}
