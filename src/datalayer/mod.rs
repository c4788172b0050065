//! What workers tell us about themselves.
//!
//! [`DataLayer`] keeps one [`worker`] per endpoint of the pool and one thread, the [`scraper`],
//! that takes them through their polls: a request over a [`connection`] that stays open, the
//! answer read by [`http`] only as far as it is needed, the wanted families found by
//! [`exposition`] and turned by [`extract`] into the endpoint's signals. [`config`] says which
//! families those are.
//!
//! A worker whose metrics are broken keeps its last values; it is their age that tells.

mod averages;
mod common;
pub mod config;
mod connection;
pub mod exposition;
pub mod extract;
mod health;
pub mod http;
mod scraper;
mod tls;
mod worker;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

pub use averages::{Averages, PoolAverages, Spread, pool_averages};
pub use config::{EngineMaps, Needs, Scheme, ScrapeConfig};

use crate::endpoints::Pool;
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
    /// Told of every reading that was stored.
    pub on_reading: OnReading,
}

/// Called when what an endpoint tells was stored.
#[derive(Clone, Default)]
pub struct OnReading(Option<Arc<dyn Fn() + Send + Sync>>);

impl OnReading {
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(call)))
    }

    fn call(&self) {
        if let Some(call) = &self.0 {
            call();
        }
    }
}

impl std::fmt::Debug for OnReading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OnReading({})", self.0.is_some())
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
            on_reading: OnReading::default(),
        }
    }
}

/// How scraping went since the start, over all workers.
#[derive(Debug, Default)]
pub struct ScrapeCounters {
    /// Requests for metrics begun.
    pub scrapes: AtomicU64,
    /// Requests that brought no answer, or one that is not 200, not HTTP, cut or too late.
    pub poll_errors: AtomicU64,
    /// Signals that an answer did not hold, or not in a usable form.
    pub extract_errors: AtomicU64,
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
        let Settings { scrape, engines, tick, needs, on_reading } = settings;
        if !needs.any() {
            return Ok(Self { running: None });
        }
        if !scrape.path.starts_with('/') || !scrape.path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(StartError::Path(scrape.path));
        }
        let tls = match scrape.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(tls::client_config(&scrape)?),
        };
        let tick = scrape.interval.unwrap_or(tick).max(MIN_TICK);
        let mut common = Common::new(scrape, tls, engines, needs, tick, counters);
        common.on_reading = on_reading;
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("scraper".into())
            .spawn(move || scraper::run(&receiver, common))
            .map_err(|e| StartError::Thread(e.to_string()))?;
        let commands = sender.clone();
        // Once the thread has ended nobody listens, and the pool need not know.
        pool.subscribe(move |change| {
            for endpoint in &change.removed {
                let _ = commands.send(Command::Remove(endpoint.clone()));
            }
            for endpoint in &change.added {
                let _ = commands.send(Command::Add(endpoint.clone()));
            }
        });
        Ok(Self { running: Some((sender, thread)) })
    }
}

impl Drop for DataLayer {
    fn drop(&mut self) {
        if let Some((commands, thread)) = self.running.take() {
            // Fails where the thread is gone already.
            let _ = commands.send(Command::Stop);
            let _ = thread.join();
        }
    }
}
