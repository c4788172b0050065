use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::super::{Capabilities, Dependencies};
use super::batch::{Batch, Joined, Ticket};
use super::placement::Rules;
use crate::clock::Timestamp;
use crate::endpoints::Pool;
use crate::prefix::{BlockRule, HashKey, HashedPrompt, hash_prompt};
use crate::scheduling::{
    AwaitingProducer, BoxFuture, Cycle, DataKey, InferenceRequest, Lifecycle, PrefixMatch,
    Producer, Put, RequestData, RequestDatum, Runtime,
};
use crate::scrape_config::Needs;

/// Beyond the window, what a request that waits for its batch is allowed (llm-d-router main at
/// ebab6879).
const MARGIN: Duration = Duration::from_millis(300);

#[derive(Clone, Debug)]
pub(in crate::plugins) struct BurstSettings {
    /// How long requests are gathered.
    pub window: Duration,
    pub block: BlockRule,
    /// What block hashes depend on.
    pub hash_key: HashKey,
    /// Requests of one window; more are not held up, and not placed.
    pub max_batch: usize,
    pub rules: Rules,
}

/// Says that an endpoint holds all of a prompt: the one that its burst is brought to.
#[derive(Debug)]
pub(in crate::plugins) struct BurstPrefixCache {
    key: DataKey<PrefixMatch>,
    ticket: DataKey<Ticket>,
    settings: BurstSettings,
    gathering: Mutex<Option<Arc<Batch>>>,
    runtime: OnceLock<Arc<dyn Runtime>>,
}

impl RequestDatum for Ticket {
    const PRODUCER: &'static str = "burst producer";
    const DEFAULT_PRODUCER: Option<&'static str> = None;
}

impl BurstPrefixCache {
    /// A producer under `name`.
    pub(crate) fn new(
        name: &str,
        settings: BurstSettings,
        dependencies: &mut Dependencies,
    ) -> Self {
        Self {
            key: dependencies.provide(name),
            ticket: dependencies.provide(name),
            settings,
            gathering: Mutex::new(None),
            runtime: OnceLock::new(),
        }
    }

    /// The parts it plays.
    pub(crate) fn into_parts(self) -> Capabilities {
        let cache = Arc::new(self);
        Capabilities::default()
            .with::<dyn AwaitingProducer>(cache.clone())
            .with::<dyn Producer>(cache.clone())
            .with::<dyn Lifecycle>(cache)
            .reading(Needs { running: true, ..Needs::default() })
    }

    /// Joins the batch that is gathered now, or begins one; `None` where it is full.
    fn join(&self, mut prompt: HashedPrompt, now: Timestamp) -> Option<Ticket> {
        let mut gathering = self.gathering.lock();
        let max = self.settings.max_batch;
        if let Some(batch) = &*gathering {
            match batch.join(prompt, max, now) {
                Joined::As(ticket) => return Some(ticket),
                Joined::Full => return None,
                Joined::TooLate(unchanged) => prompt = unchanged,
            }
        }
        let batch = gathering.insert(Arc::new(Batch::new(now + self.settings.window)));
        match batch.join(prompt, max, now) {
            Joined::As(ticket) => Some(ticket),
            Joined::Full | Joined::TooLate(_) => None,
        }
    }
}

impl AwaitingProducer for BurstPrefixCache {
    fn begin(&self, request: &Arc<InferenceRequest>) -> Option<BoxFuture<Option<Put>>> {
        let runtime = self.runtime.get()?;
        let seed = self.settings.hash_key.seed(&request.target_model, &request.cache_salt);
        let prompt = hash_prompt(&request.prompt, seed, self.settings.block);
        if prompt.hashes.is_empty() {
            // It will have nothing in common with anybody.
            return None;
        }
        let now = runtime.now();
        let ticket = self.join(prompt, now)?;
        let ends = runtime.sleep(ticket.batch.ends.since(now));
        let key = self.ticket;
        Some(Box::pin(async move {
            ends.await;
            Some(Box::new(move |data: &mut RequestData| data.set(key, ticket)) as Put)
        }))
    }

    fn deadline(&self) -> Duration {
        self.settings.window + MARGIN
    }
}

impl Producer for BurstPrefixCache {
    fn produce(&self, cycle: &Cycle<'_>, data: &mut RequestData) {
        let Some(ticket) = data.get(self.ticket).cloned() else { return };
        let Ticket { batch, number, total } = ticket;
        let placed = batch.placed(number, cycle.candidates, self.settings.rules);
        let matched = |instance: u64| if placed == Some(instance) { total } else { 0 };
        let result = PrefixMatch {
            matched: cycle.candidates.iter().map(|c| matched(c.endpoint.instance)).collect(),
            total,
            block_bytes: self.settings.block.block_bytes,
            ..PrefixMatch::default()
        };
        data.set(self.key, result);
    }
}

impl Lifecycle for BurstPrefixCache {
    fn start(&self, _: &Arc<Pool>, runtime: &Arc<dyn Runtime>) {
        // Started once.
        _ = self.runtime.set(runtime.clone());
    }
}
