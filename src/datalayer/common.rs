//! What the scrapers of one kind of page share, over all endpoints.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::connection::DiscardBuffer;
use super::extract::Plan;
use super::http::Buffer;
use super::{MIN_TICK, ScrapeCounters, ScrapeListener, StartError, tls};
use crate::clock::Timestamp;
use crate::endpoints::Endpoint;
use crate::health::Scrape;
use crate::scrape_config::{EngineMaps, Needs, PageContent, PageScrape, Scheme, ScrapeConfig};

/// What all workers of one kind of page share.
pub(super) struct Common {
    pub(super) scrape: ScrapeConfig,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) counters: Arc<ScrapeCounters>,
    /// Time between two scrapes of one worker.
    pub(super) tick: Duration,
    pub(super) discard: DiscardBuffer,
    /// Not the worker is asked but its node, where that is known.
    pub(super) at_node: bool,
    listener: Option<ScrapeListener>,
    content: Content,
    spare: Vec<Buffer>,
}

/// What the answers are.
enum Content {
    Signals {
        engines: EngineMaps,
        /// One plan per engine, in the order of `engines`.
        plans: Vec<Arc<Plan>>,
        /// For an engine that is not known.
        empty_plan: Arc<Plan>,
    },
    Page(PageContent),
}

impl Common {
    /// Workers are asked for their signals.
    pub(super) fn signals(
        scrape: ScrapeConfig,
        tick: Duration,
        (engines, needs): (EngineMaps, Needs),
        counters: Arc<ScrapeCounters>,
        listener: Option<ScrapeListener>,
    ) -> Result<Self, StartError> {
        let plans = engines.engines.iter().map(|map| Arc::new(Plan::new(map, needs))).collect();
        let content = Content::Signals { engines, plans, empty_plan: Arc::default() };
        Ok(Self { listener, ..Self::new(scrape, tick, content, counters)? })
    }

    /// Workers are asked for another page.
    pub(super) fn page(
        page: PageScrape,
        tick: Duration,
        counters: Arc<ScrapeCounters>,
    ) -> Result<Self, StartError> {
        let content = Content::Page(page.content);
        let common = Self::new(page.scrape, tick, content, counters)?;
        Ok(Self { at_node: page.at_node, ..common })
    }

    fn new(
        scrape: ScrapeConfig,
        tick: Duration,
        content: Content,
        counters: Arc<ScrapeCounters>,
    ) -> Result<Self, StartError> {
        if !scrape.path.starts_with('/') || !scrape.path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(StartError::Path(scrape.path));
        }
        let tls = match scrape.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(tls::client_config(&scrape)?),
        };
        Ok(Self {
            tick: scrape.interval.unwrap_or(tick).max(MIN_TICK),
            scrape,
            tls,
            counters,
            discard: DiscardBuffer::new(),
            at_node: false,
            listener: None,
            content,
            spare: Vec::new(),
        })
    }

    /// What to read from this endpoint, going by its labels; `now` is what is read from it now.
    pub(super) fn plan(&self, endpoint: &Endpoint, now: Option<&Arc<Plan>>) -> Arc<Plan> {
        match (&self.content, now) {
            (Content::Signals { engines, plans, empty_plan }, _) => {
                let name = &engines.for_labels(&endpoint.labels()).name;
                let index = engines.engines.iter().position(|map| map.name == *name);
                index.and_then(|i| plans.get(i)).unwrap_or(empty_plan).clone()
            }
            (Content::Page(_), Some(now)) => now.clone(),
            (Content::Page(PageContent::GpuUtilization(slot)), None) => {
                Plan::gpu_utilization(&endpoint.spec.pod_name, *slot).into()
            }
            (Content::Page(PageContent::Models(slot)), None) => Plan::models(*slot).into(),
        }
    }

    /// True where the answers are the endpoint's signals.
    pub(super) fn reads_signals(&self) -> bool {
        matches!(self.content, Content::Signals { .. })
    }

    /// Tells how a scrape went.
    pub(super) fn scraped(&self, endpoint: &Endpoint, scrape: Scrape, now: Timestamp) {
        if let Some(ScrapeListener(listener)) = &self.listener {
            listener(endpoint, scrape, now);
        }
    }

    /// A buffer with nothing in it.
    pub(super) fn buffer(&mut self) -> Buffer {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps an empty buffer for the next one who needs it.
    pub(super) fn keep(&mut self, buffer: Buffer) {
        const MAX_SPARE: usize = 4;
        const MAX_SPARE_BYTES: usize = 512 << 10;
        if self.spare.len() < MAX_SPARE && buffer.capacity() <= MAX_SPARE_BYTES {
            self.spare.push(buffer);
        }
    }
}
