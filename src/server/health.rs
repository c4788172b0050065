//! Whether requests can be served, and the health service that says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::endpoints::Pool;
use crate::ext_proc::SERVICE_NAME as EXT_PROC;

/// Whether requests can be served now.
pub struct Readiness {
    pool: Arc<Pool>,
    draining: AtomicBool,
    /// Who leads, where replicas elect a leader.
    leader: Option<watch::Receiver<bool>>,
    /// Whether we speak what the pool's workers speak.
    protocol_fits: Box<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("not_ready", &self.reason_not_ready()).finish()
    }
}

impl Readiness {
    /// Ready as soon as discovery has listed the pool, be it empty: an empty pool is answered
    /// with 503, which tells a client more than a gateway that reaches no picker. With `leader`
    /// only the leader is ready.
    pub fn new(pool: Arc<Pool>, leader: Option<watch::Receiver<bool>>) -> Self {
        Self { pool, draining: AtomicBool::new(false), leader, protocol_fits: Box::new(|| true) }
    }

    /// Makes readiness depend on `fits` too.
    pub fn with_protocol(mut self, fits: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.protocol_fits = Box::new(fits);
        self
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
        } else if !(self.protocol_fits)() {
            Some("the pool's appProtocol is not one that the configured parsers read")
        } else if self.leader.as_ref().is_some_and(|leader| !*leader.borrow()) {
            Some("this replica does not lead")
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
        // synced, the protocol fits, draining, leads (None: there is no election): the answers in
        // the names' order.
        for (synced, fits, draining, leads, expected) in [
            (true, true, false, None, ready),
            (false, true, false, None, not_ready),
            (true, false, false, None, not_ready),
            (true, true, true, None, not_ready),
            (true, true, false, Some(true), leading),
            (true, true, false, Some(false), following),
            (true, true, true, Some(true), following),
            (true, false, false, Some(true), following),
            (false, true, false, Some(true), following),
        ] {
            let pool = Arc::new(Pool::new());
            pool.set_synced(synced);
            let leader = leads.map(|leads| watch::channel(leads).1);
            let readiness = Readiness::new(pool, leader).with_protocol(move || fits);
            if draining {
                readiness.drain();
            }
            let answers = names.map(|name| readiness.status_of(name));
            assert_eq!(answers, expected, "{synced} {fits} {draining} {leads:?}");
        }
    }
}
