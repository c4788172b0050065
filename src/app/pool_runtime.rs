//! Everything that belongs to one pool: its endpoints and where they come from, the configuration
//! that decides for it, its numbers and its readiness. A process may have several.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::at_work::{Fixed, Scraping, begin};
use super::configuration::read;
use super::queueing::{OnReading, Queueing};
use super::reload::Reloader;
use super::runtime::TokioRuntime;
use super::workers::{Workers, reads_grpc};
use super::{memory, refused, saturation};
use crate::cli::{Exit, Options};
use crate::clock;
use crate::datalayer::{
    EndpointErrors, PageSettings, ScrapeCounters, ScrapeListener, pool_averages,
};
use crate::endpoints::Pool;
use crate::exchange::{
    BodyBudget, CurrentContext, ExchangeContext, ExchangeTracer, HealthWatch, OutcomeListener,
    RequestLimits,
};
use crate::flow_control::FlowController;
use crate::health::Scrape;
use crate::inspect::{ConfigInForce, DriftWatch, PoolView, SAMPLE_INTERVAL, Tallies, sample};
use crate::kv_sockets::Sockets;
use crate::loader;
use crate::objectives::Objectives;
use crate::plugins::Outside;
use crate::recording::{Recorder, config_mark};
use crate::redis_quota::RedisCounters;
use crate::rendering::RenderClient;
use crate::scheduling::{DecisionOptions, PluginMetrics, Runtime};
use crate::server::{Admin, MetricsAuth, Readiness};
use crate::telemetry::{
    AccessLog, DecisionLog, EndpointCounts, EndpointScrapeErrors, HealthLog, HealthReader,
    HealthReading, MeanAndDeviation, Metrics, PageScrapeErrors, PoolReading, PoolSource,
    ScrapeErrors, SpanTracer,
};

/// One pool at work; it ends when dropped.
pub struct PoolRuntime {
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    decisions: Arc<DecisionLog>,
    readiness: Arc<Readiness>,
    tracer: Option<Arc<SpanTracer>>,
    workers: Workers,
    recorder: Option<Arc<Recorder>>,
    tallies: Arc<Tallies>,
    reloader: Arc<Reloader>,
}

impl PoolRuntime {
    /// Loads the configuration, finds the endpoints and starts to watch them. Requests can be
    /// decided when it returns, except that the pool may still have to be listed by Kubernetes.
    ///
    /// # Errors
    /// A text for the user and the exit status.
    pub async fn start(options: &Options) -> Result<Self, Exit> {
        let pool = Arc::new(Pool::new());
        let document = read(&options.config)?;
        let (pipeline, diagnostics) =
            loader::load(&document.name, document.text.as_deref(), &options.load, pool.ids());
        let Some(pipeline) = pipeline else {
            return Err(Exit { text: diagnostics.to_string(), code: 2 });
        };
        for line in diagnostics.to_string().lines() {
            tracing::warn!("{line}");
        }
        tracing::info!(file = document.name, summary = pipeline.summary, "Configuration loaded");
        let config = Arc::new(ConfigInForce::new(document.shown(&pipeline)?));
        let objectives = Arc::new(Objectives::default());
        let workers =
            Workers::start(options, pipeline.discovery.clone(), &pool, &objectives).await?;

        let health = options.health.clone().map(|policy| {
            let has_metrics = pipeline.scrape.is_some();
            Arc::new(HealthWatch::new(policy, pool.clone(), has_metrics, Arc::new(HealthLog)))
        });
        let counters = Arc::new(ScrapeCounters::default());
        let pages = Arc::new(ArcSwap::default());
        let counts = Arc::new(EndpointCounts::claim(pool.ids()));
        let pool_name = workers.pool_name();
        let read = Read { scrapes: &counters, pages: &pages, counts: &counts };
        let named = (pool_name, pipeline.load_producer.clone());
        let metrics = metrics(options, named, &pool, read, health.as_ref())?;
        let queueing = Queueing::new(options, &pipeline, &pool, workers.pool_name(), &metrics)?;
        let tell = Arc::downgrade(&metrics);
        objectives.on_models(move |names| {
            if let Some(metrics) = tell.upgrade() {
                metrics.always_keep_models(names);
            }
        });
        let reads_grpc = Arc::new(AtomicBool::new(reads_grpc(&pipeline.parsers)));
        let readiness = Arc::new(workers.readiness(&pool, &reads_grpc));
        let decisions = Arc::new(DecisionLog::new(options.explain_decisions));

        let recorder = recorder(options, &pipeline, &pool)?;
        let tallies = Arc::new(Tallies::new(pool.clone()));
        let drift = Arc::new(DriftWatch::new(tallies.clone()));
        let mut publishers: Vec<Arc<dyn PluginMetrics>> =
            vec![tallies.clone(), drift.clone(), config.clone()];
        let tracer = options.tracing.as_ref().map(SpanTracer::start).transpose();
        let tracer = tracer.map_err(|e| refused(2, format_args!("{e}: OTEL_EXPORTER_OTLP_*")))?;
        let tracer = tracer.map(Arc::new);
        publishers.extend(tracer.iter().map(|tracer| tracer.metrics()));
        publishers.extend(recorder.clone().map(|recorder| recorder as Arc<dyn PluginMetrics>));
        let mut publishing = pipeline.hooks.metrics.clone();
        publishing.extend(publishers.iter().cloned());
        let publishing = metrics.add_plugins(publishing).map_err(|e| refused(1, e))?;
        let mut listeners: Vec<Arc<dyn OutcomeListener>> =
            vec![metrics.clone(), counts, Arc::new(AccessLog), tallies.clone()];
        if decisions.is_on() {
            listeners.push(decisions.clone());
        }
        if let Some(recorder) = &recorder {
            listeners.push(recorder.clone());
        }
        if let Some(health) = &health {
            listeners.push(health.clone());
        }
        if let Some(tracer) = &tracer {
            listeners.push(tracer.clone());
        }
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::default());
        queueing.watch(&pool, &objectives, &runtime);
        saturation::watch(&pool, queueing.detector.clone(), options.staleness);
        let scraping = Scraping {
            counters,
            pages,
            listener: on_scrape(health.clone(), queueing.on_reading()),
            tick: options.scrape_interval,
            asks: pipeline.scrape.is_some(),
        };
        runtime.spawn(Box::pin(keep_history(tallies.clone(), drift, Arc::downgrade(&runtime))));
        let fixed = Fixed {
            pool: pool.clone(),
            objectives,
            health,
            runtime,
            outside: Outside {
                events: Arc::new(Sockets::default()),
                renderer: Arc::new(RenderClient::default()),
                quotas: Arc::new(RedisCounters),
            },
            queueing,
            listeners,
            tracer: tracer.clone().map(|tracer| -> Arc<dyn ExchangeTracer> { tracer }),
            limits: RequestLimits {
                body: options.max_request_body,
                held: BodyBudget::new(options.max_held_bodies.unwrap_or_else(memory::quarter)),
                body_silence: options.request_body_timeout,
            },
            errors: options.error_format,
            response_body: options.response_body,
            ignore_subset: options.ignore_subset,
            decisions: DecisionOptions {
                scores: options.emit_scores,
                explanation: decisions.is_on() || tracer.is_some(),
                data: recorder.is_some(),
            },
            explained_share: if decisions.is_on() { options.explain_share } else { 0.0 },
            records: recorder.is_some(),
            scraping,
            publishing,
            publishers,
            reads_grpc,
            config,
        };
        let begun = begin(&fixed, pipeline, None)?;
        let contexts = Arc::new(CurrentContext::from(begun.context));
        let reloads = (options.config.clone(), options.load.clone());
        let reloader = Reloader::new(reloads, fixed, contexts, (begun.at_work, document));
        let reloader = Arc::new(reloader);
        Ok(Self {
            pool,
            metrics,
            decisions,
            readiness,
            tracer,
            recorder,
            workers,
            tallies,
            reloader,
        })
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What exchanges that begin now share.
    pub fn context(&self) -> Arc<ExchangeContext> {
        self.contexts().get()
    }

    /// The same, now and later.
    pub fn contexts(&self) -> &Arc<CurrentContext> {
        self.reloader.contexts()
    }

    /// Looks at the configuration's file because it may have changed.
    pub(super) fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
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
        let fixed = self.reloader.fixed();
        Admin {
            metrics: self.metrics.clone(),
            decisions: self.decisions.clone(),
            pool: self.pool.clone(),
            queue: fixed.queueing.controller.clone(),
            readiness: self.readiness.clone(),
            staleness: options.staleness,
            health: fixed.health.clone(),
            view: PoolView {
                tallies: self.tallies.clone(),
                health: fixed.health.clone(),
                staleness: options.staleness,
                scrapes: fixed.scraping.asks,
                contexts: Some(self.contexts().clone()),
            },
            config: fixed.config.clone(),
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
        self.reloader.fixed().queueing.controller.as_ref()
    }

    /// What has become of spans is sent, for `limit` at most.
    pub async fn finish_spans(&self, limit: Duration) {
        let Some(tracer) = self.tracer.clone() else { return };
        _ = tokio::task::spawn_blocking(move || tracer.finish(limit)).await;
    }

    /// Stops the plugins that run with the pool, the last one started first, and the recording.
    pub fn stop(&self) {
        self.reloader.stop();
        if let Some(recorder) = &self.recorder {
            recorder.stop();
        }
    }
}

/// Starts a recording, where one is wanted.
fn recorder(
    options: &Options,
    pipeline: &loader::Pipeline,
    pool: &Arc<Pool>,
) -> Result<Option<Arc<Recorder>>, Exit> {
    let Some(record) = options.record.clone() else { return Ok(None) };
    let effective = pipeline.effective.to_yaml().map_err(|e| refused(1, e))?;
    let mark = config_mark(&effective);
    Recorder::start(record, options.load.hash_key, &mark, pool.clone())
        .map(|recorder| Some(Arc::new(recorder)))
        .map_err(|e| refused(2, format_args!("{e}: --record")))
}

/// Takes samples of the endpoints for as long as the pool lives.
async fn keep_history(tallies: Arc<Tallies>, drift: Arc<DriftWatch>, runtime: Weak<dyn Runtime>) {
    while let Some(pause) = runtime.upgrade().map(|runtime| runtime.sleep(SAMPLE_INTERVAL)) {
        pause.await;
        sample(&tallies);
        drift.look();
    }
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
    pages: &'a Arc<ArcSwap<Vec<PageSettings>>>,
    counts: &'a Arc<EndpointCounts>,
}

fn metrics(
    options: &Options,
    (pool_name, load_producer): (String, String),
    pool: &Arc<Pool>,
    read: Read<'_>,
    health: Option<&Arc<HealthWatch>>,
) -> Result<Arc<Metrics>, Exit> {
    let metrics = Arc::new(Metrics::new().map_err(|e| refused(1, e))?);
    let staleness = options.staleness;
    let (errors, pages, counts) = (read.scrapes.clone(), read.pages.clone(), read.counts.clone());
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
            pages: pages.load().iter().map(of_page).collect(),
        }),
        load_producer,
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
