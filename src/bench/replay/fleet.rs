//! The simulated workers, and what of them the router gets to see.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::endpoints::{Endpoint, EndpointSpec, Pool, SignalValues};
use crate::sim::{Engine, EngineConfig, Nanos};

/// How the workers' metrics reach the router.
#[derive(Clone, Copy, Debug)]
pub struct Signalling {
    /// Between two readings.
    pub interval: Nanos,
    /// From a reading to the router's knowing it.
    pub delay: Nanos,
    /// So many workers, from the last one down, never show any.
    pub blind: usize,
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    pub engine: Engine,
    /// Counts deaths, so that what belongs to an earlier life is told apart.
    pub life: u32,
    pub alive: bool,
}

/// All workers, and the router's pool of them.
#[derive(Debug)]
pub struct Fleet {
    pub workers: Vec<Worker>,
    pub pool: Arc<Pool>,
    config: EngineConfig,
    signalling: Signalling,
    /// Worker by endpoint instance.
    by_instance: HashMap<u64, usize>,
    /// Readings on their way to the router, with the time they get there.
    under_way: VecDeque<(Nanos, Readings)>,
}

/// What was read from each worker at one time.
type Readings = Vec<(Arc<Endpoint>, SignalValues)>;

impl Fleet {
    /// # Errors
    /// Where no engine can run with the configuration.
    pub fn new(config: EngineConfig, n: usize, signalling: Signalling) -> Result<Self, String> {
        let mut workers = Vec::with_capacity(n);
        for _ in 0..n {
            let engine = Engine::new(config.clone()).map_err(|e| e.to_string())?;
            workers.push(Worker { engine, life: 0, alive: true });
        }
        let mut fleet = Self {
            workers,
            pool: Arc::new(Pool::new()),
            config,
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
        self.pool.replace(alive.map(|(i, w)| spec(i, w.life)).collect());
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
    pub fn worker_of(&self, endpoint: &Endpoint) -> Option<usize> {
        self.by_instance.get(&endpoint.instance).copied()
    }

    /// Kills a worker; its engine is replaced by an empty one.
    ///
    /// # Errors
    /// Where no engine can run with the configuration.
    pub fn kill(&mut self, worker: usize) -> Result<(), String> {
        let engine = Engine::new(self.config.clone()).map_err(|e| e.to_string())?;
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.engine = engine;
            worker.life += 1;
            worker.alive = false;
        }
        self.publish();
        Ok(())
    }

    pub fn revive(&mut self, worker: usize) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.alive = true;
        }
        self.publish();
    }

    /// Reads all workers' metrics at `now` and lets the router know what is due.
    pub fn refresh(&mut self, now: Nanos) {
        let sighted = self.workers.len().saturating_sub(self.signalling.blind);
        let snapshot = self.pool.snapshot();
        let readings = snapshot
            .endpoints
            .iter()
            .filter(|e| usize::from(e.spec.rank) < sighted)
            .filter_map(|e| {
                let worker = self.workers.get(usize::from(e.spec.rank))?;
                Some((Arc::clone(e), self.reading(&worker.engine, now)))
            })
            .collect();
        self.under_way.push_back((now.saturating_add(self.signalling.delay), readings));
        while let Some((due, _)) = self.under_way.front()
            && *due <= now
        {
            for (endpoint, values) in self.under_way.pop_front().into_iter().flat_map(|(_, r)| r) {
                endpoint.signals.store(values);
            }
        }
    }

    fn reading(&self, engine: &Engine, now: Nanos) -> SignalValues {
        let stats = engine.stats();
        SignalValues {
            waiting: stats.waiting,
            running: stats.running,
            kv_usage: stats.kv_usage,
            block_size: self.config.block_size,
            num_blocks: self.config.num_blocks,
            updated_at: Some(Timestamp::from_nanos(now)),
        }
    }
}

/// Worker `i` in its `life`-th life. The rank carries the number back.
fn spec(i: usize, life: u32) -> EndpointSpec {
    let [high, low] = (i as u16).to_be_bytes();
    let name = format!("worker-{i}");
    EndpointSpec {
        namespace: "default".into(),
        name: name.clone(),
        pod_name: name,
        ip: [10, 0, high, low].into(),
        port: 8000,
        rank: i as u16,
        uid: life.to_string(),
        labels: Default::default(),
    }
}
