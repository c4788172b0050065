//! The pipeline of a configuration at work on a simulation's clock, put together of the parts
//! that the program puts together: health and flow control are the very same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::policy::{Ask, Pick, prefill_of};
use super::routed::{Audience, Held, Routed};
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Pool};
use crate::error::RequestError;
use crate::exchange::{
    Admission, Admitted, Director, HealthListener, HealthWatch, Permit, QueueListener,
    QueuedAdmission, Randomness, ShedWhenSaturated,
};
use crate::flow_control::{self, EvictionConfig, FlowControlConfig, FlowController, PoolLoad};
use crate::health::{Change, HealthPolicy, Scrape};
use crate::loader::Pipeline;
use crate::scheduling::{BoxFuture, InferenceRequest, RequestData};
use crate::sim::Nanos;

/// The time of a simulation, for those who ask for it themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    fn set(&self, now: Nanos) {
        self.0.store(now, Ordering::Relaxed);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// What a pipeline finds around it.
#[derive(Clone, Debug)]
pub(super) struct Around<'a> {
    pub pool: Arc<Pool>,
    pub seed: u64,
    /// Endpoints are judged by what comes of the requests they get.
    pub health: bool,
    /// Between two readings of the workers' metrics.
    pub metrics_interval: Duration,
    /// Priorities of the requests to come, as objectives would tell them.
    pub priorities: &'a [i32],
}

/// A configuration's pipeline.
#[derive(Debug)]
pub(super) struct Routing {
    director: Director,
    audience: Audience,
    wants_prompt: bool,
    health: Option<Arc<HealthWatch>>,
    /// Where requests wait, if they ever do.
    queue: Option<Arc<FlowController>>,
    evicts: bool,
    clock: VirtualClock,
}

/// What becomes of a request that asks where to go.
#[derive(Debug)]
pub(super) enum Answer {
    Go(Pick),
    /// Not yet.
    Wait(Waiting),
    /// Nowhere; why, as it is counted.
    Refused(String),
}

/// A request in the queue.
pub(super) struct Waiting {
    permit: BoxFuture<Result<Box<dyn Permit>, RequestError>>,
    request: Arc<InferenceRequest>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Nobody needs to be told: the simulation sees all that happens.
#[derive(Debug)]
struct Nobody;

impl HealthListener for Nobody {
    fn changed(&self, _: &Endpoint, _: &Change) {}
}

impl QueueListener for Nobody {
    fn asked(&self, _: &InferenceRequest, _: Option<flow_control::Outcome>, _: Duration) {}

    fn left(&self, _: &InferenceRequest, _: flow_control::Outcome, _: Duration) {}
}

impl Routing {
    pub(super) fn new(pipeline: Pipeline, around: Around<'_>) -> Self {
        let Around { pool, seed, health, metrics_interval, priorities } = around;
        let clock = VirtualClock::default();
        let policy = HealthPolicy::default();
        let stale_after = policy.stale_after;
        let health = health.then(|| {
            let has_metrics = pipeline.scrape.is_some();
            let watch = HealthWatch::new(policy, pool.clone(), has_metrics, Arc::new(Nobody));
            Arc::new(watch.with_randomness(Randomness::seeded(seed)))
        });
        let detector = pipeline.saturation;
        let evicts = pipeline.flow_control.as_ref().is_some_and(|c| c.eviction.is_some());
        let queue = pipeline.flow_control.map(|config| {
            let eviction = |_| EvictionConfig::of(&*detector, metrics_interval, stale_after);
            let config = FlowControlConfig { eviction: config.eviction.map(eviction), ..config };
            let load = Box::new(PoolLoad::new(pool.clone(), detector.clone()));
            let time = clock.clone();
            let controller = FlowController::new(config, load, Arc::new(move || time.now()));
            controller.provision(priorities, Timestamp::START);
            controller
        });
        let admission: Arc<dyn Admission> = match &queue {
            None => Arc::new(ShedWhenSaturated(detector)),
            Some(controller) => {
                let time = clock.clone();
                Arc::new(QueuedAdmission {
                    controller: controller.clone(),
                    detector,
                    listener: Arc::new(Nobody),
                    clock: Arc::new(move || time.now()),
                })
            }
        };
        let director = Director {
            randomness: Randomness::seeded(seed),
            health: health.clone(),
            ..Director::new(pool, pipeline.scheduler, admission)
        };
        let mut listeners = pipeline.hooks.outcomes;
        listeners.extend(health.iter().map(|watch| Arc::clone(watch) as _));
        let audience =
            Audience { listeners: listeners.into(), hooks: pipeline.hooks.response.into() };
        let wants_prompt = pipeline.wants_prompt;
        Self { director, audience, wants_prompt, health, queue, evicts, clock }
    }

    /// It is `now`.
    pub(super) fn tell_time(&self, now: Nanos) {
        self.clock.set(now);
    }

    /// Something may have freed capacity: metrics came in, a worker came or went, or a deadline
    /// is over. The ends of exchanges tell of themselves.
    pub(super) fn on_capacity(&self) {
        if let Some(queue) = &self.queue {
            queue.on_capacity(self.clock.now());
        }
    }

    /// When [`Routing::on_capacity`] has to be called though nothing happens.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let context = Context::from_waker(Waker::noop());
        self.queue.as_ref()?.poll_deadline(&context).map(Timestamp::as_nanos)
    }

    /// Running requests may be ended for the sake of others.
    pub(super) fn evicts(&self) -> bool {
        self.evicts
    }

    /// An attempt to read a worker's metrics went so.
    pub(super) fn scraped(&self, endpoint: &Endpoint, scrape: Scrape) {
        if let Some(health) = &self.health {
            health.scraped(endpoint, scrape, self.clock.now());
        }
    }

    pub(super) fn ask(&self, ask: Ask<'_>) -> Answer {
        let request = Arc::new(ask.request(self.wants_prompt));
        match self.director.admit(&request, None, self.clock.now()) {
            Admitted::Now(permit) => self.route(request, permit),
            Admitted::Later(permit) => Answer::Wait(Waiting { permit, request }),
            Admitted::Refused(error) => refused(&error),
        }
    }

    /// Goes on with a request that waits; `None` where it has to go on waiting.
    pub(super) fn resume(&self, waiting: &mut Waiting, waker: &Waker) -> Option<Answer> {
        match waiting.permit.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Pending => None,
            Poll::Ready(Ok(permit)) => Some(self.route(waiting.request.clone(), Some(permit))),
            Poll::Ready(Err(error)) => Some(refused(&error)),
        }
    }

    fn route(&self, request: Arc<InferenceRequest>, permit: Option<Box<dyn Permit>>) -> Answer {
        let now = self.clock.now();
        let decision = match self.director.schedule(&request, RequestData::default(), None, now) {
            Ok(decision) => decision,
            Err(refusal) => return unplaced(&refusal.error),
        };
        let Some(endpoint) = decision.target().cloned() else {
            return unplaced(&RequestError::no_candidates());
        };
        let prefill = prefill_of(&decision, &self.director.pool.snapshot().endpoints);
        let believed_cached = decision
            .prefix_blocks
            .filter(|(_, all)| *all > 0)
            .map(|(cached, all)| f64::from(cached) / f64::from(all));
        let stay = permit.map(|permit| permit.reserved(&decision, now));
        let mut request = Arc::unwrap_or_clone(request);
        // Held until the end: it may be long.
        request.prompt = Default::default();
        let routed = Routed::new(decision, request, stay, self.audience.clone(), now);
        Answer::Go(Pick {
            endpoint,
            prefill,
            held: Held::Routed(Box::new(routed)),
            believed_cached,
        })
    }
}

/// A request that was not let in, by the reason that its client is told.
fn refused(error: &RequestError) -> Answer {
    match error.drop_reason {
        Some(reason) => Answer::Refused(reason.as_str().to_owned()),
        None => unplaced(error),
    }
}

/// A request that no endpoint was found for.
pub(super) fn unplaced(error: &RequestError) -> Answer {
    Answer::Refused(format!("router: {}", error.code.as_str()))
}
