//! Flow control at work in a pool: what calls it, and who hears of it.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use super::refused;
use crate::cli::{Exit, Options};
use crate::clock;
use crate::endpoints::Pool;
use crate::exchange::{Admission, QueuedAdmission, ShedWhenSaturated, keep_queue_time};
use crate::flow_control::{
    CurrentDetector, EvictionConfig, FlowControlConfig, FlowController, PoolLoad,
};
use crate::loader::Pipeline;
use crate::objectives::Objectives;
use crate::scheduling::Runtime;
use crate::telemetry::{FlowControlPlugins, FlowControlSource, Metrics};

/// Called when there is something new to read.
pub(super) type OnReading = Box<dyn Fn() + Send + Sync>;

/// How requests are let in, by whichever configuration is in force.
pub(super) struct Queueing {
    pub admission: Arc<dyn Admission>,
    /// `None` where requests never wait.
    pub controller: Option<Arc<FlowController>>,
    pub detector: Arc<CurrentDetector>,
    /// What metrics tell of.
    plugins: Arc<ArcSwap<FlowControlPlugins>>,
    /// Whether running requests are ended for the sake of others.
    evicts: bool,
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
        let detector = Arc::new(CurrentDetector::new(pipeline.saturation.clone()));
        let plugins = Arc::new(ArcSwap::from_pointee(plugins(pipeline)));
        let Some(config) = pipeline.flow_control.clone() else {
            let admission = Arc::new(ShedWhenSaturated(detector.clone()));
            return Ok(Self { admission, controller: None, detector, plugins, evicts: false });
        };
        let evicts = config.eviction.is_some();
        let config = FlowControlConfig {
            eviction: config.eviction.map(|_| {
                EvictionConfig::of(&*detector, options.scrape_interval, options.staleness)
            }),
            observer: Some(metrics.clone()),
            ..config
        };
        let load = Box::new(PoolLoad::new(pool.clone(), detector.clone()));
        let controller = FlowController::new(config, load, Arc::new(clock::now));
        let admission = Arc::new(QueuedAdmission {
            controller: controller.clone(),
            detector: detector.clone(),
            listener: metrics.clone(),
            clock: Arc::new(clock::now),
        });
        let source = FlowControlSource {
            pool: pool_name,
            controller: controller.clone(),
            plugins: plugins.clone(),
        };
        metrics.add_flow_control(source).map_err(|e| refused(1, e))?;
        Ok(Self { admission, controller: Some(controller), detector, plugins, evicts })
    }

    /// What of another configuration takes a restart.
    pub(super) fn needs_restart(&self, pipeline: &Pipeline) -> Vec<&'static str> {
        let (is_on, config) = (self.controller.is_some(), pipeline.flow_control.as_ref());
        let evicts = config.map(|config| config.eviction.is_some());
        let fields = [
            ("featureGates (flowControl)", is_on != config.is_some()),
            ("flowControl.enableEviction", is_on && evicts.is_some_and(|e| e != self.evicts)),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
    }

    /// Goes by another configuration from now on, as far as that takes no restart. What waits
    /// stays.
    pub(super) fn reconfigure(&self, pipeline: &Pipeline) {
        self.detector.set(pipeline.saturation.clone());
        self.plugins.store(Arc::new(plugins(pipeline)));
        if let (Some(controller), Some(config)) = (&self.controller, &pipeline.flow_control) {
            controller.reconfigure(config.clone(), clock::now());
        }
    }

    fn weak(&self) -> Weak<FlowController> {
        self.controller.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// What is to be called when an endpoint's signals were read; `None`: nothing.
    pub(super) fn on_reading(&self) -> Option<OnReading> {
        self.controller.as_ref()?;
        let controller = self.weak();
        Some(Box::new(move || tell(&controller)))
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

fn plugins(pipeline: &Pipeline) -> FlowControlPlugins {
    let (detector, programs) = (pipeline.detector_name.clone(), pipeline.programs.clone());
    FlowControlPlugins { detector, programs }
}

fn tell(controller: &Weak<FlowController>) {
    if let Some(controller) = controller.upgrade() {
        controller.on_capacity(clock::now());
    }
}
