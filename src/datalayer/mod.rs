//! What workers tell us about themselves.
//!
//! [`DataLayer`] keeps one [`worker`] per endpoint of the pool and one thread, the [`scraper`],
//! that takes them through their polls: a request over a [`connection`] that stays open, the
//! answer read by [`http`] only as far as it is needed, the wanted families found by
//! [`exposition`] and turned by [`extract`] into the endpoint's signals.
//! [`crate::scrape_config`] says which families those are, and which other pages are asked for in
//! the same way, such as the [`models`] that a worker serves.
//!
//! A worker whose metrics are broken keeps its last values; it is their age that tells.

mod averages;
mod common;
mod connection;
mod counters;
pub mod exposition;
pub mod extract;
mod health;
pub mod http;
pub mod models;
mod scraper;
mod tls;
mod worker;

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

pub use averages::{Averages, PoolAverages, Spread, pool_averages};
pub use counters::{EndpointErrors, ScrapeCounters};
pub(crate) use tls::client_config;

use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, Pool};
use crate::health::Scrape;
use crate::scrape_config::{EngineMaps, Needs, PageScrape, ScrapeConfig};
use common::Common;
use scraper::Command;

/// The shortest time between two scrapes of one worker, and the default.
pub const MIN_TICK: Duration = Duration::from_millis(50);

/// What to scrape, how, and how often.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `scrape.interval`, where given, is used in place of `tick`.
    pub scrape: ScrapeConfig,
    pub engines: EngineMaps,
    /// Time between two scrapes of one worker; [`MIN_TICK`] at least.
    pub tick: Duration,
    /// Where nothing is needed nothing is scraped.
    pub needs: Needs,
    pub listener: Option<ScrapeListener>,
}

/// A page asked for beside the metrics, and how that goes.
#[derive(Clone, Debug)]
pub struct PageSettings {
    pub page: PageScrape,
    pub counters: Arc<ScrapeCounters>,
}

/// Told how every scrape of an endpoint went.
#[derive(Clone)]
pub struct ScrapeListener(pub Arc<ScrapeFn>);

/// Takes the endpoint, how it went, and when.
pub type ScrapeFn = dyn Fn(&Endpoint, Scrape, Timestamp) + Send + Sync;

impl std::fmt::Debug for ScrapeListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScrapeListener")
    }
}

impl Default for Settings {
    /// Everything a vLLM worker tells, every 50 ms.
    fn default() -> Self {
        Self {
            scrape: ScrapeConfig::default(),
            engines: EngineMaps::default(),
            tick: MIN_TICK,
            needs: Needs { queue: true, running: true, kv: true, lora: true, cache: true },
            listener: None,
        }
    }
}

/// Why scraping cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("scraping over TLS: {0}")]
    Tls(String),
    #[error("scraping: the path '{0}' must begin with '/' and hold no blanks")]
    Path(String),
    #[error("scraping: no thread can be started: {0}")]
    Thread(String),
}

/// Scrapes the endpoints of a pool until it is dropped.
#[derive(Debug)]
pub struct DataLayer {
    /// `None` where nothing is scraped.
    running: Option<(mpsc::Sender<Command>, JoinHandle<()>)>,
    /// The pool tells of endpoints for as long as this is there.
    there: Arc<()>,
}

impl DataLayer {
    /// Begins to scrape the endpoints that are in `pool`, and those that will be.
    ///
    /// # Errors
    /// Settings that cannot work: certificates that cannot be read, a path that is none.
    pub fn start(
        pool: &Pool,
        settings: Settings,
        counters: Arc<ScrapeCounters>,
    ) -> Result<Self, StartError> {
        Self::start_with_pages(pool, Some(settings), counters, Vec::new(), MIN_TICK)
    }

    /// The same with other pages beside the metrics, or without metrics; `tick` is the time
    /// between two scrapes where a page's settings give none.
    ///
    /// # Errors
    /// As [`DataLayer::start`].
    pub fn start_with_pages(
        pool: &Pool,
        settings: Option<Settings>,
        counters: Arc<ScrapeCounters>,
        pages: Vec<PageSettings>,
        tick: Duration,
    ) -> Result<Self, StartError> {
        let mut commons = Vec::with_capacity(1 + pages.len());
        if let Some(settings) = settings.filter(|settings| settings.needs.any()) {
            let Settings { scrape, engines, tick, needs, listener } = settings;
            commons.push(Common::signals(scrape, tick, (engines, needs), counters, listener)?);
        }
        for PageSettings { page, counters } in pages {
            commons.push(Common::page(page, tick, counters)?);
        }
        if commons.is_empty() {
            return Ok(Self { running: None, there: Arc::default() });
        }
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("scraper".into())
            .spawn(move || scraper::run(&receiver, commons))
            .map_err(|e| StartError::Thread(e.to_string()))?;
        let commands = sender.clone();
        // Once the thread has ended nobody listens, and the pool need not know.
        let there = Arc::default();
        pool.subscribe_while(&there, move |change| {
            for endpoint in &change.removed {
                let _ = commands.send(Command::Remove(endpoint.clone()));
            }
            for endpoint in &change.added {
                let _ = commands.send(Command::Add(endpoint.clone()));
            }
        });
        Ok(Self { running: Some((sender, thread)), there })
    }
}

impl Drop for DataLayer {
    fn drop(&mut self) {
        self.there = Arc::default();
        if let Some((commands, thread)) = self.running.take() {
            // Fails where the thread is gone already.
            let _ = commands.send(Command::Stop);
            let _ = thread.join();
        }
    }
}
