//! Everything that belongs to one pool: its endpoints and where they come from, the configuration
//! that decides for it, its numbers and its readiness. A process may have several.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::queueing::{OnReading, Queueing};
use super::runtime::TokioRuntime;
use super::workers::Workers;
use super::{configuration, memory, refused, saturation};
use crate::api::Parsers;
use crate::cli::{Exit, Options};
use crate::clock;
use crate::datalayer::{
    DataLayer, EndpointErrors, PageSettings, ScrapeCounters, ScrapeListener, Settings,
    pool_averages,
};
use crate::endpoints::Pool;
use crate::exchange::{
    BodyBudget, Director, ExchangeContext, HealthWatch, OutcomeListener, Randomness, RequestLimits,
};
use crate::flow_control::FlowController;
use crate::health::Scrape;
use crate::inspect::{ConfigView, DriftWatch, PoolView, SAMPLE_INTERVAL, Tallies, sample};
use crate::kv_sockets::Sockets;
use crate::loader::{Hooks, Pipeline};
use crate::objectives::Objectives;
use crate::plugins::Outside;
use crate::redis_quota::RedisCounters;
use crate::rendering::RenderClient;
use crate::scheduling::{
    DebugState, DecisionOptions, EndpointHook, Lifecycle, PluginMetrics, Runtime,
};
use crate::scrape_config::PageScrape;
use crate::server::{Admin, MetricsAuth, Readiness};
use crate::telemetry::{
    AccessLog, DecisionLog, EndpointCounts, EndpointScrapeErrors, HealthLog, HealthReader,
    HealthReading, MeanAndDeviation, Metrics, PageScrapeErrors, PoolReading, PoolSource,
    ScrapeErrors,
};

/// One pool at work; it ends when dropped.
pub struct PoolRuntime {
    pool: Arc<Pool>,
    context: Arc<ExchangeContext>,
    metrics: Arc<Metrics>,
    decisions: Arc<DecisionLog>,
    health: Option<Arc<HealthWatch>>,
    readiness: Arc<Readiness>,
    workers: Workers,
    lifecycles: Vec<Arc<dyn Lifecycle>>,
    debug_states: Vec<(String, Arc<dyn DebugState>)>,
    tallies: Arc<Tallies>,
    config: Arc<ConfigView>,
    /// Endpoints are asked for their metrics.
    scrapes: bool,
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
        let (pipeline, config) = configuration::load(options, pool.ids())?;
        let objectives = Arc::new(Objectives::default());
        let workers =
            Workers::start(options, pipeline.discovery.clone(), &pool, &objectives).await?;

        let health = options.health.clone().map(|policy| {
            let has_metrics = pipeline.scrape.is_some();
            Arc::new(HealthWatch::new(policy, pool.clone(), has_metrics, Arc::new(HealthLog)))
        });
        let counters = Arc::new(ScrapeCounters::default());
        let pages: Vec<PageSettings> = pipeline.pages.iter().cloned().map(page_settings).collect();
        let counts = Arc::new(EndpointCounts::claim(pool.ids()));
        let pool_name = workers.pool_name();
        let read = Read { scrapes: &counters, pages: &pages, counts: &counts };
        let metrics = metrics(options, pool_name, &pool, read, health.as_ref())?;
        let detector = pipeline.saturation.clone();
        let queueing = Queueing::new(options, &pipeline, &pool, workers.pool_name(), &metrics)?;
        let listener = on_scrape(health.clone(), queueing.on_reading());
        let scraping = (counters, pages);
        let data_layer = start_data_layer(options, &pipeline, &pool, scraping, listener)?;
        let tell = Arc::downgrade(&metrics);
        objectives.on_models(move |names| {
            if let Some(metrics) = tell.upgrade() {
                metrics.always_keep_models(names);
            }
        });
        let readiness = Arc::new(workers.readiness(&pool, &pipeline.parsers));
        let decisions = Arc::new(DecisionLog::new(options.explain_decisions));

        let scrapes = pipeline.scrape.is_some();
        let Pipeline {
            scheduler,
            hooks,
            parsers,
            estimate,
            wants_prompt,
            counts_tokens,
            asks_for_usage,
            ..
        } = pipeline;
        let Hooks {
            processors,
            awaiting,
            response,
            endpoints,
            lifecycles,
            debug_states,
            outcomes,
            metrics: counted,
            reaching,
            ..
        } = hooks;
        let tallies = Arc::new(Tallies::new(pool.clone()));
        let drift = Arc::new(DriftWatch::new(tallies.clone()));
        let mut counted = counted;
        counted.extend([tallies.clone() as Arc<dyn PluginMetrics>, drift.clone()]);
        metrics.add_plugins(counted).map_err(|e| refused(1, e))?;
        let mut listeners: Vec<Arc<dyn OutcomeListener>> =
            vec![metrics.clone(), counts, Arc::new(AccessLog), tallies.clone()];
        if decisions.is_on() {
            listeners.push(decisions.clone());
        }
        if let Some(health) = &health {
            listeners.push(health.clone());
        }
        listeners.extend(outcomes);
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::default());
        queueing.watch(&pool, &objectives, &runtime);
        saturation::watch(&pool, detector, options.staleness);
        let context = Arc::new(ExchangeContext {
            director: Director {
                pool: pool.clone(),
                scheduler,
                objectives,
                admission: queueing.admission.clone(),
                health: health.clone(),
                ignore_subset: options.ignore_subset,
                options: DecisionOptions {
                    scores: options.emit_scores,
                    explanation: decisions.is_on(),
                },
                explained_share: options.explain_share,
                randomness: Randomness::PerThread,
            },
            parsers: Parsers::new(parsers).with_estimate(estimate),
            processors,
            awaiting,
            response_hooks: response,
            listeners,
            runtime: runtime.clone(),
            limits: RequestLimits {
                body: options.max_request_body,
                held: BodyBudget::new(options.max_held_bodies.unwrap_or_else(memory::quarter)),
                body_silence: options.request_body_timeout,
            },
            errors: options.error_format,
            wants_prompt,
            counts_tokens,
            asks_for_usage,
        });
        watch_endpoints(&pool, endpoints);
        runtime.spawn(Box::pin(keep_history(tallies.clone(), drift, Arc::downgrade(&runtime))));
        let outside = Outside {
            events: Arc::new(Sockets::default()),
            renderer: Arc::new(RenderClient::default()),
            quotas: Arc::new(RedisCounters),
        };
        reaching.iter().for_each(|plugin| plugin.reach(&outside));
        lifecycles.iter().for_each(|plugin| plugin.start(&pool, &runtime));
        Ok(Self {
            pool,
            context,
            metrics,
            decisions,
            health,
            readiness,
            workers,
            lifecycles,
            debug_states,
            tallies,
            config: Arc::new(config),
            scrapes,
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

    /// True where the endpoints come from Kubernetes.
    pub fn is_in_kubernetes(&self) -> bool {
        self.workers.are_in_kubernetes()
    }

    /// The pages that show this pool; `auth` says who may read them, else Kubernetes does.
    pub fn pages(&self, options: &Options, auth: Option<Arc<dyn MetricsAuth>>) -> Admin {
        Admin {
            metrics: self.metrics.clone(),
            decisions: self.decisions.clone(),
            pool: self.pool.clone(),
            queue: self.queue.clone(),
            readiness: self.readiness.clone(),
            staleness: options.staleness,
            health: self.health.clone(),
            plugins: self.debug_states.clone(),
            view: PoolView {
                tallies: self.tallies.clone(),
                health: self.health.clone(),
                staleness: options.staleness,
                scrapes: self.scrapes,
            },
            config: self.config.clone(),
            page: options.admin_page,
            auth: auth.or_else(|| self.workers.metrics_auth(options)),
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

/// Takes samples of the endpoints for as long as the pool lives.
async fn keep_history(tallies: Arc<Tallies>, drift: Arc<DriftWatch>, runtime: Weak<dyn Runtime>) {
    while let Some(pause) = runtime.upgrade().map(|runtime| runtime.sleep(SAMPLE_INTERVAL)) {
        pause.await;
        sample(&tallies);
        drift.look();
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

/// Tells health how scrapes went, and the queue that there is something new to read.
fn on_scrape(
    health: Option<Arc<HealthWatch>>,
    reading: Option<OnReading>,
) -> Option<ScrapeListener> {
    if health.is_none() && reading.is_none() {
        return None;
    }
    Some(ScrapeListener(Arc::new(move |endpoint, scrape, now| {
        if let Some(health) = &health {
            health.scraped(endpoint, scrape, now);
        }
        if let (Some(reading), Scrape::Read { .. }) = (&reading, scrape) {
            reading();
        }
    })))
}

fn start_data_layer(
    options: &Options,
    pipeline: &Pipeline,
    pool: &Pool,
    (counters, pages): (Arc<ScrapeCounters>, Vec<PageSettings>),
    listener: Option<ScrapeListener>,
) -> Result<Option<DataLayer>, Exit> {
    let settings = pipeline.scrape.clone().map(|scrape| Settings {
        scrape,
        engines: pipeline.engines.clone(),
        tick: options.scrape_interval,
        needs: pipeline.needs,
        listener,
    });
    let tick = options.scrape_interval;
    DataLayer::start_with_pages(pool, settings, counters, pages, tick)
        .map(Some)
        .map_err(|e| refused(2, e))
}

/// Each kind of page has counters of its own.
fn page_settings(page: PageScrape) -> PageSettings {
    PageSettings { page, counters: Arc::default() }
}

fn of_page(settings: &PageSettings) -> PageScrapeErrors {
    let PageSettings { page, counters } = settings;
    PageScrapeErrors {
        source: page.source,
        extractor: page.extractor,
        poll: counters.poll_errors.load(Ordering::Relaxed),
        extract: counters.extract_errors.load(Ordering::Relaxed),
    }
}

fn of_endpoint(errors: &EndpointErrors) -> EndpointScrapeErrors {
    EndpointScrapeErrors {
        name: errors.name.clone(),
        namespace: errors.namespace.clone(),
        poll: errors.poll(),
        extract: errors.extract(),
    }
}

/// What the metrics read when they are asked for.
#[derive(Clone, Copy)]
struct Read<'a> {
    scrapes: &'a Arc<ScrapeCounters>,
    pages: &'a [PageSettings],
    counts: &'a Arc<EndpointCounts>,
}

fn metrics(
    options: &Options,
    pool_name: String,
    pool: &Arc<Pool>,
    read: Read<'_>,
    health: Option<&Arc<HealthWatch>>,
) -> Result<Arc<Metrics>, Exit> {
    let metrics = Arc::new(Metrics::new().map_err(|e| refused(1, e))?);
    let staleness = options.staleness;
    let (errors, pages, counts) = (read.scrapes.clone(), read.pages.to_vec(), read.counts.clone());
    let read = pool.clone();
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
            endpoints: errors.by_endpoint().iter().map(|one| of_endpoint(one)).collect(),
            pages: pages.iter().map(of_page).collect(),
        }),
        counts,
        health: health.cloned().map(|watch| -> HealthReader {
            Box::new(move |endpoint| {
                let health = watch.of(endpoint);
                HealthReading {
                    is_out: health.is_out(),
                    ejections: health.ejections(),
                    returns: health.returns(),
                }
            })
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
