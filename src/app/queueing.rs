//! Flow control at work in a pool: what calls it, and who hears of it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::refused;
use crate::cli::{Exit, Options};
use crate::clock;
use crate::datalayer::OnReading;
use crate::endpoints::Pool;
use crate::exchange::{Admission, QueuedAdmission, ShedWhenSaturated, keep_queue_time};
use crate::flow_control::{
    EvictionConfig, FlowControlConfig, FlowController, PoolLoad, SaturationDetector,
};
use crate::loader::Pipeline;
use crate::objectives::Objectives;
use crate::scheduling::Runtime;
use crate::telemetry::{FlowControlSource, Metrics};

/// How requests are let in.
pub(super) struct Queueing {
    pub admission: Arc<dyn Admission>,
    /// `None` where requests never wait.
    pub controller: Option<Arc<FlowController>>,
}

impl Queueing {
    /// Flow control as the configuration says, or the admission without it.
    ///
    /// # Errors
    /// A text for the user and the exit status.
    pub(super) fn new(
        options: &Options,
        pipeline: &Pipeline,
        pool: &Arc<Pool>,
        pool_name: String,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, Exit> {
        let detector = pipeline.saturation.clone();
        let Some(config) = pipeline.flow_control.clone() else {
            return Ok(Self { admission: Arc::new(ShedWhenSaturated(detector)), controller: None });
        };
        let config = FlowControlConfig {
            eviction: config.eviction.map(|_| eviction(options, &*detector)),
            observer: Some(metrics.clone()),
            ..config
        };
        let load = Box::new(PoolLoad::new(pool.clone(), detector.clone()));
        let controller = FlowController::new(config, load, Arc::new(clock::now));
        let admission = Arc::new(QueuedAdmission {
            controller: controller.clone(),
            detector,
            listener: metrics.clone(),
            clock: Arc::new(clock::now),
        });
        let source = FlowControlSource {
            pool: pool_name,
            controller: controller.clone(),
            detector: pipeline.detector_name.clone(),
            programs: pipeline.programs.clone(),
        };
        metrics.add_flow_control(source).map_err(|e| refused(1, e))?;
        Ok(Self { admission, controller: Some(controller) })
    }

    fn weak(&self) -> Weak<FlowController> {
        self.controller.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// What the data layer is to call.
    pub(super) fn on_reading(&self) -> OnReading {
        if self.controller.is_none() {
            return OnReading::default();
        }
        let controller = self.weak();
        OnReading::new(move || tell(&controller))
    }

    /// Lets everything that may free capacity tell of it.
    pub(super) fn watch(&self, pool: &Pool, objectives: &Objectives, runtime: &Arc<dyn Runtime>) {
        let Some(controller) = &self.controller else { return };
        let on_change = self.weak();
        pool.subscribe(move |_| tell(&on_change));
        let bands = self.weak();
        objectives.on_priorities(move |priorities| {
            if let Some(controller) = bands.upgrade() {
                controller.provision(priorities, clock::now());
            }
        });
        keep_queue_time(controller, runtime);
    }
}

fn tell(controller: &Weak<FlowController>) {
    if let Some(controller) = controller.upgrade() {
        controller.on_capacity(clock::now());
    }
}

/// How long a detector that goes by metrics may not show that a request has ended (llm-d-router
/// main at ebab6879).
const METRICS_GRACE: Duration = Duration::from_millis(250);

fn eviction(options: &Options, detector: &dyn SaturationDetector) -> EvictionConfig {
    if detector.sees_at_once() {
        return EvictionConfig::default();
    }
    EvictionConfig { grace: options.scrape_interval + options.staleness + METRICS_GRACE }
}
