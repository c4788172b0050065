//! Everything that belongs to one pool: its endpoints and where they come from, the configuration
//! that decides for it, its numbers and its readiness. A process may have several.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::queueing::Queueing;
use super::runtime::TokioRuntime;
use super::workers::Workers;
use super::{configuration, refused};
use crate::api::Parsers;
use crate::cli::{Exit, Options};
use crate::clock;
use crate::datalayer::{DataLayer, OnReading, ScrapeCounters, Settings, pool_averages};
use crate::endpoints::Pool;
use crate::exchange::{Director, ExchangeContext, OutcomeListener, Randomness};
use crate::flow_control::FlowController;
use crate::loader::{Hooks, Pipeline};
use crate::objectives::Objectives;
use crate::scheduling::{DecisionOptions, EndpointHook, Lifecycle, Runtime};
use crate::server::{Admin, Readiness};
use crate::telemetry::{
    AccessLog, DecisionLog, MeanAndDeviation, Metrics, PoolReading, PoolSource, ScrapeErrors,
};

/// One pool at work; it ends when dropped.
pub struct PoolRuntime {
    pool: Arc<Pool>,
    context: Arc<ExchangeContext>,
    metrics: Arc<Metrics>,
    decisions: Arc<DecisionLog>,
    readiness: Arc<Readiness>,
    workers: Workers,
    lifecycles: Vec<Arc<dyn Lifecycle>>,
    /// Where requests wait, if they do.
    queue: Option<Arc<FlowController>>,
    _data_layer: Option<DataLayer>,
}

impl PoolRuntime {
    /// Loads the configuration, finds the endpoints and starts to watch them. Requests can be
    /// decided when it returns, except that the pool may still have to be listed by Kubernetes.
    ///
    /// # Errors
    /// A text for the user and the exit status.
    pub async fn start(options: &Options) -> Result<Self, Exit> {
        let pool = Arc::new(Pool::new());
        let pipeline = configuration::load(options, pool.ids())?;
        let objectives = Arc::new(Objectives::default());
        let workers =
            Workers::start(options, pipeline.discovery.clone(), &pool, &objectives).await?;

        let counters = Arc::new(ScrapeCounters::default());
        let metrics = metrics(options, workers.pool_name(), &pool, &counters)?;
        let queueing = Queueing::new(options, &pipeline, &pool, workers.pool_name(), &metrics)?;
        let on_reading = queueing.on_reading();
        let data_layer = start_data_layer(options, &pipeline, &pool, &counters, on_reading)?;
        let tell = Arc::downgrade(&metrics);
        objectives.on_models(move |names| {
            if let Some(metrics) = tell.upgrade() {
                metrics.always_keep_models(names);
            }
        });
        let readiness = Arc::new(workers.readiness(&pool, &pipeline.parsers));
        let decisions = Arc::new(DecisionLog::new(options.explain_decisions));

        let Pipeline { scheduler, hooks, parsers, wants_prompt, .. } = pipeline;
        let Hooks { awaiting, response, endpoints, lifecycles, outcomes, .. } = hooks;
        let mut listeners: Vec<Arc<dyn OutcomeListener>> =
            vec![metrics.clone(), Arc::new(AccessLog)];
        if decisions.is_on() {
            listeners.push(decisions.clone());
        }
        listeners.extend(outcomes);
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::default());
        queueing.watch(&pool, &objectives, &runtime);
        let context = Arc::new(ExchangeContext {
            director: Director {
                pool: pool.clone(),
                scheduler,
                objectives,
                admission: queueing.admission.clone(),
                ignore_subset: options.ignore_subset,
                options: DecisionOptions {
                    scores: options.emit_scores,
                    explanation: decisions.is_on(),
                },
                randomness: Randomness::PerThread,
            },
            parsers: Parsers::new(parsers),
            awaiting,
            response_hooks: response,
            listeners,
            runtime: runtime.clone(),
            max_request_body: options.max_request_body,
            wants_prompt,
        });
        watch_endpoints(&pool, endpoints);
        lifecycles.iter().for_each(|plugin| plugin.start(&pool, &runtime));
        Ok(Self {
            pool,
            context,
            metrics,
            decisions,
            readiness,
            workers,
            lifecycles,
            queue: queueing.controller,
            _data_layer: data_layer,
        })
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What exchanges of this pool share.
    pub fn context(&self) -> &Arc<ExchangeContext> {
        &self.context
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub fn readiness(&self) -> &Arc<Readiness> {
        &self.readiness
    }

    /// The pages that show this pool.
    pub fn pages(&self, options: &Options) -> Admin {
        Admin {
            metrics: self.metrics.clone(),
            decisions: self.decisions.clone(),
            pool: self.pool.clone(),
            queue: self.queue.clone(),
            readiness: self.readiness.clone(),
            staleness: options.staleness,
            auth: self.workers.metrics_auth(options),
        }
    }

    /// From now on not ready, and no leader any more; requests are still decided.
    pub async fn drain(&mut self) {
        self.readiness.drain();
        self.workers.stand_down().await;
    }

    /// Where requests wait, if they do.
    pub fn queue(&self) -> Option<&Arc<FlowController>> {
        self.queue.as_ref()
    }

    /// Stops the plugins that run with the pool, the last one started first.
    pub fn stop(&self) {
        self.lifecycles.iter().rev().for_each(|plugin| plugin.stop());
    }
}

/// Tells plugins of endpoints that appear and leave.
fn watch_endpoints(pool: &Pool, hooks: Vec<Arc<dyn EndpointHook>>) {
    if hooks.is_empty() {
        return;
    }
    pool.subscribe(move |change| {
        for hook in &hooks {
            change.removed.iter().for_each(|endpoint| hook.left(endpoint));
            change.added.iter().for_each(|endpoint| hook.appeared(endpoint));
        }
    });
}

fn start_data_layer(
    options: &Options,
    pipeline: &Pipeline,
    pool: &Pool,
    counters: &Arc<ScrapeCounters>,
    on_reading: OnReading,
) -> Result<Option<DataLayer>, Exit> {
    let Some(scrape) = pipeline.scrape.clone() else { return Ok(None) };
    let settings = Settings {
        scrape,
        engines: pipeline.engines.clone(),
        tick: options.scrape_interval,
        needs: pipeline.needs,
        on_reading,
    };
    DataLayer::start(pool, settings, counters.clone()).map(Some).map_err(|e| refused(2, e))
}

fn metrics(
    options: &Options,
    pool_name: String,
    pool: &Arc<Pool>,
    counters: &Arc<ScrapeCounters>,
) -> Result<Arc<Metrics>, Exit> {
    let metrics = Arc::new(Metrics::new().map_err(|e| refused(1, e))?);
    let staleness = options.staleness;
    let (read, errors) = (pool.clone(), counters.clone());
    let source = PoolSource {
        name: pool_name,
        pool: pool.clone(),
        reading: Box::new(move || {
            let now = pool_averages(&read.snapshot(), clock::now(), staleness);
            let averages = now.averages.unwrap_or_default();
            let of = |s: crate::datalayer::Spread| MeanAndDeviation {
                mean: s.mean,
                deviation: s.std_dev,
            };
            PoolReading {
                ready: now.fresh,
                kv_usage: of(averages.kv_usage),
                queue: of(averages.queue),
                running: of(averages.running),
            }
        }),
        scrape_errors: Box::new(move || ScrapeErrors {
            poll: errors.poll_errors.load(Ordering::Relaxed),
            extract: errors.extract_errors.load(Ordering::Relaxed),
        }),
    };
    metrics.add_pool(source).map_err(|e| refused(1, e))?;
    let forget = Arc::downgrade(&metrics);
    pool.subscribe(move |change| {
        let Some(metrics) = forget.upgrade() else { return };
        for endpoint in &change.removed {
            metrics.forget_endpoint(&endpoint.spec.name, &endpoint.spec.namespace);
        }
    });
    Ok(metrics)
}
