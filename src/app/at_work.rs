//! One configuration at work in a pool.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::keeper::{Keeper, Surroundings, keep};
use super::queueing::Queueing;
use super::refused;
use super::workers::reads_grpc;
use crate::api::Parsers;
use crate::cli::Exit;
use crate::datalayer::{DataLayer, PageSettings, ScrapeCounters, ScrapeListener, Settings};
use crate::endpoints::Pool;
use crate::error::ErrorFormat;
use crate::exchange::{
    AnswerReader, Director, ExchangeContext, ExchangeTracer, HealthWatch, OutcomeListener,
    Randomness, RequestLimits, ResponseBodies, ResponseBodyChoice, UntilOver,
};
use crate::inspect::ConfigInForce;
use crate::loader::{Effective, Hooks, InForce, Pipeline, Residents};
use crate::objectives::Objectives;
use crate::plugins::{FileDiscoveryConfig, Outside};
use crate::scheduling::{DecisionOptions, PluginMetrics, ReadsAnswers, Runtime};
use crate::scrape_config::{EngineMaps, Needs, PageScrape, ScrapeConfig};
use crate::telemetry::PublishingPlugins;

/// What stays as it is whatever configuration is in force.
pub(super) struct Fixed {
    pub pool: Arc<Pool>,
    pub objectives: Arc<Objectives>,
    pub health: Option<Arc<HealthWatch>>,
    pub runtime: Arc<dyn Runtime>,
    pub outside: Outside,
    pub queueing: Queueing,
    /// Told of every exchange, before plugins are.
    pub listeners: Vec<Arc<dyn OutcomeListener>>,
    pub tracer: Option<Arc<dyn ExchangeTracer>>,
    pub limits: RequestLimits,
    pub errors: ErrorFormat,
    pub response_body: ResponseBodyChoice,
    pub ignore_subset: bool,
    pub decisions: DecisionOptions,
    pub explained_share: f64,
    /// Traffic is recorded, which goes by prompts and answers.
    pub records: bool,
    pub scraping: Scraping,
    /// Publishes numbers of plugins, and of these others.
    pub publishing: Arc<PublishingPlugins>,
    pub publishers: Vec<Arc<dyn PluginMetrics>>,
    pub reads_grpc: Arc<AtomicBool>,
    pub config: Arc<ConfigInForce>,
}

/// How endpoints are asked, whatever for.
pub(super) struct Scraping {
    pub counters: Arc<ScrapeCounters>,
    /// The pages that are asked for, with a count of each.
    pub pages: Arc<ArcSwap<Vec<PageSettings>>>,
    pub listener: Option<ScrapeListener>,
    pub tick: Duration,
    /// Whether they are asked for metrics, which takes a restart to change.
    pub asks: bool,
}

/// What endpoints are asked for.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    scrape: Option<ScrapeConfig>,
    engines: EngineMaps,
    needs: Needs,
    pages: Vec<PageScrape>,
}

/// One configuration at work.
pub(super) struct AtWork {
    /// First, so that it ends first: it writes where the plugins have their places.
    data_layer: Option<DataLayer>,
    residents: Residents,
    effective: Effective,
    keepers: Vec<Arc<Keeper>>,
    asked: Asked,
    discovery: Option<FileDiscoveryConfig>,
}

/// A configuration that has begun to work, and what exchanges are to begin with.
pub(super) struct Begun {
    pub at_work: AtWork,
    pub context: Arc<ExchangeContext>,
}

impl AtWork {
    /// For a configuration that may replace this one.
    pub(super) fn in_force(&self) -> InForce<'_> {
        InForce { residents: &self.residents, effective: &self.effective }
    }

    /// What of another configuration takes a restart.
    pub(super) fn needs_restart(&self, pipeline: &Pipeline, fixed: &Fixed) -> Vec<&'static str> {
        let mut fields = fixed.queueing.needs_restart(pipeline);
        if self.discovery != pipeline.discovery {
            fields.push("dataLayer.discovery");
        }
        if fixed.scraping.asks != pipeline.scrape.is_some() {
            fields.push("dataLayer.sources (whether there is one of metrics)");
        }
        fields
    }

    /// Stops the plugins that run with the pool, the last one started first.
    pub(super) fn stop(&self) {
        self.keepers.iter().rev().for_each(|keeper| keeper.stop());
    }
}

/// Puts a configuration to work, in place of `before` where there is one. What can fail comes
/// first: then `before` goes on as if nothing had been.
///
/// # Errors
/// A text for the user and the exit status.
pub(super) fn begin(
    fixed: &Fixed,
    pipeline: Pipeline,
    before: Option<&mut AtWork>,
) -> Result<Begun, Exit> {
    let asked = Asked {
        scrape: pipeline.scrape.clone(),
        engines: pipeline.engines.clone(),
        needs: pipeline.needs,
        pages: pipeline.pages.clone(),
    };
    // What was asked for before is asked for on, and its connections stay.
    let unchanged = before.as_ref().is_some_and(|before| before.asked == asked);
    let fits = fixed.scraping.asks == asked.scrape.is_some();
    let goes_on = before.is_some() && (unchanged || !fits);
    let new_layer = match goes_on {
        true => None,
        false => Some(fixed.scraping.start(&fixed.pool, &asked)?),
    };
    let around =
        Surroundings { pool: &fixed.pool, runtime: &fixed.runtime, outside: &fixed.outside };
    let known = before.as_ref().map_or(&[][..], |before| before.keepers.as_slice());
    let count = || fixed.config.count_plugin();
    let keepers = keep(&pipeline.residents.plugins, known, &around, count);
    let (discovery, data_layer) = match (before, new_layer) {
        (Some(before), None) => (before.discovery.clone(), before.data_layer.take()),
        (Some(before), new) => (before.discovery.clone(), new),
        (None, new) => (pipeline.discovery.clone(), new),
    };
    fixed.queueing.reconfigure(&pipeline);
    fixed.reads_grpc.store(reads_grpc(&pipeline.parsers), Ordering::Relaxed);
    let mut publishing = pipeline.hooks.metrics.clone();
    publishing.extend(fixed.publishers.iter().cloned());
    fixed.publishing.set(publishing);
    let (context, residents, effective) = context(fixed, pipeline, &keepers);
    let at_work = AtWork { data_layer, residents, effective, keepers, asked, discovery };
    Ok(Begun { at_work, context: Arc::new(context) })
}

fn context(
    fixed: &Fixed,
    pipeline: Pipeline,
    keepers: &[Arc<Keeper>],
) -> (ExchangeContext, Residents, Effective) {
    let Hooks { processors, awaiting, response, outcomes, .. } = pipeline.hooks;
    let mut listeners = fixed.listeners.clone();
    listeners.extend(outcomes);
    let mut readers = pipeline.answer_readers;
    if fixed.records {
        readers.push(AnswerReader { name: "the recording".into(), reads: ReadsAnswers::Usage });
    }
    let bodies = ResponseBodies::new(fixed.response_body, readers);
    // Stopped in the reverse order.
    let kept = keepers.iter().rev().map(|keeper| keeper.clone() as Arc<dyn Any + Send + Sync>);
    let kept = kept.chain([fixed.config.count_configuration() as Arc<dyn Any + Send + Sync>]);
    let context = ExchangeContext {
        director: Director {
            pool: fixed.pool.clone(),
            scheduler: pipeline.scheduler,
            objectives: fixed.objectives.clone(),
            admission: fixed.queueing.admission.clone(),
            health: fixed.health.clone(),
            ignore_subset: fixed.ignore_subset,
            options: fixed.decisions,
            explained_share: fixed.explained_share,
            randomness: Randomness::PerThread,
        },
        parsers: Parsers::new(pipeline.parsers).with_estimate(pipeline.estimate),
        processors,
        awaiting,
        response_hooks: response,
        listeners,
        tracer: fixed.tracer.clone(),
        runtime: fixed.runtime.clone(),
        limits: fixed.limits.clone(),
        errors: fixed.errors,
        wants_prompt: pipeline.wants_prompt || fixed.records,
        counts_tokens: pipeline.counts_tokens,
        asks_for_usage: pipeline.asks_for_usage,
        response_bodies: Arc::new(bodies),
        until_over: UntilOver(kept.collect()),
    };
    (context, pipeline.residents, pipeline.effective)
}

impl Scraping {
    /// Begins to ask the endpoints.
    fn start(&self, pool: &Pool, asked: &Asked) -> Result<DataLayer, Exit> {
        let settings = asked.scrape.clone().map(|scrape| Settings {
            scrape,
            engines: asked.engines.clone(),
            tick: self.tick,
            needs: asked.needs,
            listener: self.listener.clone(),
        });
        let known = self.pages.load_full();
        // Each kind of page has counters of its own.
        let with_counters = |page: &PageScrape| {
            let is_same = |s: &&PageSettings| {
                s.page.source == page.source && s.page.extractor == page.extractor
            };
            let counters = known.iter().find(is_same).map(|s| s.counters.clone());
            PageSettings { page: page.clone(), counters: counters.unwrap_or_default() }
        };
        let pages: Vec<PageSettings> = asked.pages.iter().map(with_counters).collect();
        self.pages.store(Arc::new(pages.clone()));
        DataLayer::start_with_pages(pool, settings, self.counters.clone(), pages, self.tick)
            .map_err(|e| refused(2, e))
    }
}
