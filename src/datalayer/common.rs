use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::config::{EngineMaps, Needs, ScrapeConfig};
use super::connection::DiscardBuffer;
use super::extract::Plan;
use super::http::Buffer;
use super::{OnReading, ScrapeCounters};
use crate::endpoints::Endpoint;

/// What all workers share.
pub(super) struct Common {
    pub(super) scrape: ScrapeConfig,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) counters: Arc<ScrapeCounters>,
    /// Time between two scrapes of one worker.
    pub(super) tick: Duration,
    pub(super) discard: DiscardBuffer,
    pub(super) on_reading: OnReading,
    engines: EngineMaps,
    /// One plan per engine, in the order of `engines`.
    plans: Vec<Arc<Plan>>,
    /// For an engine that is not known.
    empty_plan: Arc<Plan>,
    spare: Vec<Buffer>,
}

impl Common {
    pub(super) fn new(
        scrape: ScrapeConfig,
        tls: Option<Arc<ClientConfig>>,
        engines: EngineMaps,
        needs: Needs,
        tick: Duration,
        counters: Arc<ScrapeCounters>,
    ) -> Self {
        let plans = engines.engines.iter().map(|map| Arc::new(Plan::new(map, needs))).collect();
        Self {
            scrape,
            tls,
            counters,
            tick,
            discard: DiscardBuffer::new(),
            on_reading: OnReading::default(),
            engines,
            plans,
            empty_plan: Arc::default(),
            spare: Vec::new(),
        }
    }

    /// What to read from this endpoint, going by its labels.
    pub(super) fn plan(&self, endpoint: &Endpoint) -> Arc<Plan> {
        let name = &self.engines.for_labels(&endpoint.labels()).name;
        let index = self.engines.engines.iter().position(|map| map.name == *name);
        index.and_then(|i| self.plans.get(i)).unwrap_or(&self.empty_plan).clone()
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
