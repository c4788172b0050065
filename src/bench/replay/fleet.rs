//! The simulated workers, and what of them the router gets to see.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::faults::MetricsFault;
use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, EndpointSpec, Pool, SignalValues};
use crate::health::Scrape;
use crate::sim::{Engine, EngineConfig, Nanos};

/// The label by which a worker says what it is for (llm-d).
pub(super) const ROLE_LABEL: &str = "llm-d.ai/role";
/// Its value for workers that compute prompts for others ...
pub(super) const PREFILL_ROLE: &str = "prefill";
/// ... and for those that have them computed.
pub(super) const DECODE_ROLE: &str = "decode";

/// How many workers there are, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub workers: usize,
    /// So many, from the first on, compute prompts for the others; 0: all do both.
    pub prefill: usize,
}

impl Layout {
    fn role(self, worker: usize) -> Option<&'static str> {
        match self.prefill {
            0 => None,
            prefill if worker < prefill => Some(PREFILL_ROLE),
            _ => Some(DECODE_ROLE),
        }
    }
}

/// How the workers' metrics reach the router.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signalling {
    /// Between two readings.
    pub interval: Nanos,
    /// From a reading to the router's knowing it.
    pub delay: Nanos,
    /// So many workers, from the last one down, never show any.
    pub blind: usize,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub engine: Engine,
    /// Counts deaths, so that what belongs to an earlier life is told apart.
    pub life: u32,
    /// Discovery lists it.
    pub alive: bool,
    /// Counts its returns to the list: each is another instance to the router.
    listed: u32,
    pub trouble: Trouble,
}

/// What is wrong with a worker now.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// It refuses connections.
    pub down: bool,
    /// It takes requests and never answers.
    pub hangs: bool,
    /// Requests that it left hanging, whose clients wait. Its metrics show them as running.
    pub hung: u32,
    /// One in so many requests fails at once.
    pub fails_one_in: Option<u64>,
    /// Requests it got while it fails some.
    asked: u64,
    metrics: Option<MetricsFault>,
    frozen: Option<SignalValues>,
}

impl Trouble {
    /// True where the request that comes now is one of those that fail.
    pub(super) fn fails_now(&mut self) -> bool {
        let Some(n) = self.fails_one_in else { return false };
        self.asked += 1;
        self.asked.is_multiple_of(n.max(1))
    }
}

/// All workers, and the router's pool of them.
#[derive(Debug)]
pub(super) struct Fleet {
    pub workers: Vec<Worker>,
    pub pool: Arc<Pool>,
    config: EngineConfig,
    layout: Layout,
    signalling: Signalling,
    /// Worker by endpoint instance.
    by_instance: HashMap<u64, usize>,
    /// Readings on their way to the router, with the time they get there.
    under_way: VecDeque<(Nanos, Readings)>,
}

/// What was read from each worker at one time, or that nothing could be.
type Readings = Vec<(Arc<Endpoint>, Result<SignalValues, Unread>)>;

/// Why a worker's metrics could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    /// Nobody listens.
    Refused,
    Missing,
}

impl Fleet {
    /// # Errors
    /// Where no engine can run with the configuration.
    pub(super) fn new(
        config: EngineConfig,
        layout: Layout,
        signalling: Signalling,
    ) -> Result<Self, String> {
        let mut workers = Vec::with_capacity(layout.workers);
        for _ in 0..layout.workers {
            let engine = Engine::new(config.clone()).map_err(|e| e.to_string())?;
            let trouble = Trouble::default();
            workers.push(Worker { engine, life: 0, alive: true, listed: 0, trouble });
        }
        let mut fleet = Self {
            workers,
            pool: Arc::new(Pool::new()),
            config,
            layout,
            signalling,
            by_instance: HashMap::new(),
            under_way: VecDeque::new(),
        };
        fleet.publish();
        Ok(fleet)
    }

    /// Makes the pool hold the workers that are alive.
    fn publish(&mut self) {
        let alive = self.workers.iter().enumerate().filter(|(_, w)| w.alive);
        self.pool.replace(alive.map(|(i, w)| spec(i, w.listed, self.layout.role(i))).collect());
        self.pool.set_synced(true);
        self.by_instance = self
            .pool
            .snapshot()
            .endpoints
            .iter()
            .map(|e| (e.instance, usize::from(e.spec.rank)))
            .collect();
    }

    /// The worker behind an endpoint; `None` where it has died meanwhile.
    pub(super) fn worker_of(&self, endpoint: &Endpoint) -> Option<usize> {
        self.by_instance.get(&endpoint.instance).copied()
    }

    /// Kills a worker and takes it off the list; its engine is replaced by an empty one.
    ///
    /// # Errors
    /// Where no engine can run with the configuration.
    pub(super) fn kill(&mut self, worker: usize) -> Result<(), String> {
        self.empty(worker)?;
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.alive = false;
            worker.listed += 1;
        }
        self.publish();
        Ok(())
    }

    /// Kills a worker that stays on the list and refuses connections.
    ///
    /// # Errors
    /// Where no engine can run with the configuration.
    pub(super) fn crash(&mut self, worker: usize) -> Result<(), String> {
        self.empty(worker)?;
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.trouble.down = true;
        }
        Ok(())
    }

    fn empty(&mut self, worker: usize) -> Result<(), String> {
        let engine = Engine::new(self.config.clone()).map_err(|e| e.to_string())?;
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.engine = engine;
            worker.life += 1;
        }
        Ok(())
    }

    /// Has a worker's metrics show something else than the truth, or the truth again.
    pub(super) fn mislead(&mut self, worker: usize, fault: Option<MetricsFault>, now: Nanos) {
        let Some(state) = self.workers.get(worker) else { return };
        let frozen = self.reading(state, now);
        if let Some(state) = self.workers.get_mut(worker) {
            state.trouble.metrics = fault;
            state.trouble.frozen = Some(frozen);
        }
    }

    pub(super) fn revive(&mut self, worker: usize) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.alive = true;
        }
        self.publish();
    }

    /// Reads all workers' metrics at `now` and lets the router know what is due; `told` hears how
    /// each reading went.
    pub(super) fn refresh(&mut self, now: Nanos, told: &mut dyn FnMut(&Endpoint, Scrape)) {
        let sighted = self.workers.len().saturating_sub(self.signalling.blind);
        let snapshot = self.pool.snapshot();
        let readings = snapshot
            .endpoints
            .iter()
            .filter_map(|e| {
                let rank = usize::from(e.spec.rank);
                let worker = self.workers.get(rank)?;
                let seen = match self.shown(worker, now) {
                    Ok(_) if rank >= sighted => Err(Unread::Missing),
                    seen => seen,
                };
                Some((Arc::clone(e), seen))
            })
            .collect();
        self.under_way.push_back((now.saturating_add(self.signalling.delay), readings));
        while let Some((due, _)) = self.under_way.front()
            && *due <= now
        {
            for (endpoint, seen) in self.under_way.pop_front().into_iter().flat_map(|(_, r)| r) {
                let scrape = match seen {
                    Err(Unread::Refused) => Scrape::Refused,
                    Err(Unread::Missing) => Scrape::Failed,
                    Ok(values) => {
                        endpoint.signals.store(values);
                        Scrape::Read { busy: Some(values.waiting + values.running) }
                    }
                };
                told(&endpoint, scrape);
            }
        }
    }

    /// What a worker's metrics show.
    fn shown(&self, worker: &Worker, now: Nanos) -> Result<SignalValues, Unread> {
        if worker.trouble.down {
            return Err(Unread::Refused);
        }
        let truth = self.reading(worker, now);
        match worker.trouble.metrics {
            None => Ok(truth),
            Some(MetricsFault::Missing) => Err(Unread::Missing),
            Some(MetricsFault::Idle) => {
                Ok(SignalValues { waiting: 0, running: 0, kv_usage: 0.0, ..truth })
            }
            Some(MetricsFault::Frozen) => {
                let frozen = worker.trouble.frozen.unwrap_or(truth);
                Ok(SignalValues { updated_at: truth.updated_at, ..frozen })
            }
        }
    }

    fn reading(&self, worker: &Worker, now: Nanos) -> SignalValues {
        let stats = worker.engine.stats();
        SignalValues {
            waiting: stats.waiting,
            running: stats.running + worker.trouble.hung,
            kv_usage: stats.kv_usage,
            block_size: self.config.block_size,
            num_blocks: self.config.num_blocks,
            updated_at: Some(Timestamp::from_nanos(now)),
        }
    }
}

/// Worker `i`, listed for the `listed`-th time. The rank carries the number back.
fn spec(i: usize, listed: u32, role: Option<&str>) -> EndpointSpec {
    let [high, low] = (i as u16).to_be_bytes();
    let name = format!("worker-{i}");
    EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        name: name.clone(),
        pod_name: name,
        ip: [10, 0, high, low].into(),
        port: 8000,
        rank: i as u16,
        uid: listed.to_string(),
        labels: role.map(|role| (ROLE_LABEL.to_owned(), role.to_owned())).into_iter().collect(),
    }
}
