//! Which of several replicas serves.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::reason;

/// The name of the lease that replicas of one pool's picker compete for, as in llm-d-router main
/// at ebab6879.
pub fn lease_name(namespace: &str, pool: &str) -> String {
    format!("epp-{namespace}-{pool}.llm-d.ai")
}

/// A candidate and its timings.
#[derive(Clone, Debug)]
pub struct LeaderOptions {
    pub namespace: String,
    pub lease: String,
    /// Who we are; no other candidate may have the same.
    pub identity: String,
    /// How long others wait for a leader that no longer renews. 15 s in the reference.
    pub lease_duration: Duration,
    /// How long a leader goes on without a renewal that succeeded. Shorter than
    /// `lease_duration`, so that there never are two. 10 s in the reference.
    pub renew_deadline: Duration,
    /// The pause between two attempts. 2 s in the reference.
    pub retry_period: Duration,
}

impl LeaderOptions {
    /// The reference's timings; the identity is `candidate` (the pod's name) made unique.
    pub fn new(namespace: &str, pool: &str, candidate: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            lease: lease_name(namespace, pool),
            identity: format!("{candidate}_{}", uuid::Uuid::new_v4()),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Takes part in the election until released or dropped.
///
/// Who loses the lease becomes a candidate again; the process goes on.
#[derive(Debug)]
pub struct LeaderElection {
    leader: watch::Receiver<bool>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl LeaderElection {
    pub fn start(client: Client, options: LeaderOptions) -> Self {
        let (sender, leader) = watch::channel(false);
        let stop = CancellationToken::new();
        let candidate = Candidate {
            leases: Api::namespaced(client, &options.namespace),
            options,
            leader: sender,
            observed: None,
            complained: false,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(candidate.run(stop.clone())));
        Self { leader, stop, task }
    }

    /// True while we lead, and its changes.
    pub fn leader(&self) -> watch::Receiver<bool> {
        self.leader.clone()
    }

    /// Ends taking part. A lease that is ours is given back at once, so that the next leader
    /// need not wait for it to expire.
    pub async fn release(self) {
        self.stop.cancel();
        // An error here is the task's panic, which has been reported where it happened.
        let _ = self.task.await;
    }
}

struct Candidate {
    leases: Api<Lease>,
    options: LeaderOptions,
    leader: watch::Sender<bool>,
    observed: Option<Observed>,
    complained: bool,
}

/// Another's lease, and since when we have seen it unchanged. Only our own clock is compared, so
/// replicas' clocks need not agree.
struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

impl Candidate {
    async fn run(mut self, stop: CancellationToken) {
        let mut renewed: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let give_up = renewed.map_or(began, |at| at.min(began)) + self.options.renew_deadline;
            let attempt = tokio::select! {
                attempt = tokio::time::timeout_at(give_up, self.attempt()) => attempt,
                () = stop.cancelled() => break,
            };
            match attempt {
                Ok(Ok(true)) => {
                    renewed = Some(began);
                    self.set_leader(true);
                    self.complained = false;
                }
                Ok(Ok(false)) => {
                    renewed = None;
                    self.set_leader(false);
                    self.complained = false;
                }
                Ok(Err(error)) => self.complain(&reason(&error)),
                Err(_) => self.complain("no answer in time"),
            }
            if renewed.is_some_and(|at| at.elapsed() >= self.options.renew_deadline) {
                renewed = None;
                self.set_leader(false);
            }
            // While we lead, wake no later than the deadline, so as never to lead beyond it.
            let mut wake = Instant::now() + self.options.retry_period;
            if let Some(at) = renewed {
                wake = wake.min(at + self.options.renew_deadline);
            }
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                () = stop.cancelled() => break,
            }
        }
        let led = *self.leader.borrow();
        self.set_leader(false);
        if led {
            self.give_back().await;
        }
    }

    /// Takes, renews or looks at the lease; true where it is ours now.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let Some(lease) = self.leases.get_opt(&self.options.lease).await? else {
            return self.create().await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let ours = spec.holder_identity.as_deref() == Some(&self.options.identity);
        let free = spec.holder_identity.as_deref().unwrap_or_default().is_empty();
        if !ours && !free && !self.expired(&spec) {
            return Ok(false);
        }
        let mut next = self.claim();
        if ours {
            next.acquire_time.clone_from(&spec.acquire_time);
            next.lease_transitions = spec.lease_transitions;
        } else {
            next.lease_transitions = Some(spec.lease_transitions.unwrap_or(0) + 1);
        }
        self.write(lease, next).await
    }

    /// True where another's lease has not changed for as long as it lasts.
    fn expired(&mut self, spec: &LeaseSpec) -> bool {
        match &self.observed {
            Some(observed) if observed.spec == *spec => {
                let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
                let lasts = seconds.map_or(self.options.lease_duration, Duration::from_secs);
                observed.since.elapsed() >= lasts
            }
            _ => {
                let holder = spec.holder_identity.as_deref().unwrap_or_default();
                if self
                    .observed
                    .as_ref()
                    .is_none_or(|o| o.spec.holder_identity != spec.holder_identity)
                {
                    tracing::info!(lease = %self.options.lease, %holder, "another replica leads");
                }
                self.observed = Some(Observed { spec: spec.clone(), since: Instant::now() });
                false
            }
        }
    }

    /// The lease as it is when just taken by us.
    fn claim(&self) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        // Whole seconds are all a lease can say; rounded up, so that others wait long enough.
        let seconds = self.options.lease_duration.as_millis().div_ceil(1000);
        LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        }
    }

    async fn create(&self) -> Result<bool, Error> {
        let metadata =
            ObjectMeta { name: Some(self.options.lease.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(self.claim()) };
        lost_race_is_false(self.leases.create(&PostParams::default(), &lease).await)
    }

    /// Replaces the lease if it still is the one we read: its resource version says so.
    async fn write(&self, lease: Lease, spec: LeaseSpec) -> Result<bool, Error> {
        let lease = Lease { spec: Some(spec), ..lease };
        let written =
            self.leases.replace(&self.options.lease, &PostParams::default(), &lease).await;
        lost_race_is_false(written)
    }

    async fn give_back(&self) {
        let released = async {
            let Some(lease) = self.leases.get_opt(&self.options.lease).await? else {
                return Ok(false);
            };
            let mut spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_deref() != Some(&self.options.identity) {
                return Ok(false);
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            self.write(lease, spec).await
        };
        match tokio::time::timeout(self.options.retry_period, released).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!("lease not released, it will expire: {}", reason(&error));
            }
            Err(_) => tracing::warn!("lease not released in time: it will expire"),
        }
    }

    fn set_leader(&self, leads: bool) {
        self.leader.send_if_modified(|led| {
            let changed = *led != leads;
            if changed {
                *led = leads;
                let lease = &self.options.lease;
                if leads {
                    tracing::info!(%lease, identity = %self.options.identity, "leading");
                } else {
                    tracing::info!(%lease, "no longer leading");
                }
            }
            changed
        });
    }

    /// One line for a run of failures.
    fn complain(&mut self, error: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(lease = %self.options.lease, "cannot take or renew the lease: {error}");
        }
    }
}

/// 409 means another was faster.
fn lost_race_is_false(written: Result<Lease, Error>) -> Result<bool, Error> {
    match written {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
