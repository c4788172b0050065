//! Our index of KV blocks beside NVIDIA's (`dynamo-kv-router`), on the same events and prompts.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`. Both are fed with tokens and the
//! engine's names of the blocks, both are asked with tokens, both run on this thread and at most
//! one more. Prints bytes per (endpoint, block), blocks per second of CPU time of the whole process, and
//! the CPU time of a lookup: a machine that is busy with something else changes neither much.

// Our index alone: the peer asks for one release of tokio, `epp` for another.
#[allow(dead_code)]
#[path = "../../../src/clock.rs"]
mod clock;
#[allow(dead_code)]
#[path = "../../../src/kv_index/mod.rs"]
mod kv_index;
#[path = "../../support/kv_workload.rs"]
mod kv_workload;

use std::time::Duration;

use clock::Timestamp;
use dynamo_kv_router::concurrent_radix_tree_compressed::ConcurrentRadixTreeCompressed;
use dynamo_kv_router::indexer::KvIndexerInterface;
use dynamo_kv_router::protocols::{
    BlockHashOptions, ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheStoreData,
    KvCacheStoredBlockData, RouterEvent, compute_block_hash_for_seq,
};
use dynamo_kv_router::{SyncIndexer, ThreadPoolIndexer};
use kv_index::{Holder, KvIndex, Limits, Run, Tier};
use rustix::time::{ClockId, clock_gettime};

use kv_workload::{BLOCK, BLOCKS, CANDIDATES, ENDPOINTS, EVENT, names, prompts, tokens};

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

const LOOKUPS: usize = 400;

trait Index {
    /// `from`: blocks before the first.
    fn store(
        &self,
        endpoint: usize,
        from: usize,
        tokens: &[u32],
        names: &[u64],
        parent: Option<u64>,
    );
    /// Waits until all that was stored can be found.
    fn settle(&self);
    /// Blocks found on the candidates together.
    fn lookup(&self, tokens: &[u32]) -> u64;
}

struct Ours {
    index: KvIndex,
    holders: Vec<Holder>,
}

impl Ours {
    fn new() -> Self {
        let limits = Limits { bytes: 1 << 34, blocks_per_holder: 1 << 22 };
        let index = KvIndex::new(limits, 0x5eed);
        let holders = (0..ENDPOINTS).map(|_| index.holder()).collect();
        Self { index, holders }
    }
}

impl Index for Ours {
    fn store(&self, endpoint: usize, _: usize, tokens: &[u32], names: &[u64], parent: Option<u64>) {
        let (block_size, adapter, tier) = (BLOCK, "", Tier::Gpu);
        self.holders[endpoint].store(Run { names, parent, tokens, block_size, adapter, tier }, []);
    }

    fn settle(&self) {}

    fn lookup(&self, tokens: &[u32]) -> u64 {
        let keys = self.index.keys("m", tokens, BLOCK, []);
        let candidates = &self.holders[..CANDIDATES];
        let mut guess = 0;
        let one = |holder: &Holder| {
            guess = holder.matched_near(&keys, guess, Timestamp::START).held;
            u64::from(guess)
        };
        candidates.iter().map(one).sum()
    }
}

struct Dynamo<T: SyncIndexer> {
    indexer: ThreadPoolIndexer<T>,
    runtime: tokio::runtime::Runtime,
}

impl<T: SyncIndexer> Dynamo<T> {
    fn new(backend: T) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let runtime = runtime.expect("a runtime");
        let indexer = runtime.block_on(async { ThreadPoolIndexer::new(backend, 1, BLOCK) });
        Self { indexer, runtime }
    }
}

impl<T: SyncIndexer> Index for Dynamo<T> {
    fn store(
        &self,
        endpoint: usize,
        from: usize,
        tokens: &[u32],
        names: &[u64],
        parent: Option<u64>,
    ) {
        let hashes = compute_block_hash_for_seq(tokens, BLOCK, BlockHashOptions::default());
        let blocks = hashes.into_iter().zip(names).map(|(tokens_hash, &name)| {
            let block_hash = ExternalSequenceBlockHash(name);
            KvCacheStoredBlockData { block_hash, tokens_hash, mm_extra_info: None }
        });
        let data = KvCacheEventData::Stored(KvCacheStoreData {
            parent_hash: parent.map(ExternalSequenceBlockHash),
            start_position: u32::try_from(from).ok(),
            blocks: blocks.collect(),
        });
        let event = KvCacheEvent { event_id: 0, data, dp_rank: 0 };
        self.indexer.enqueue_event(RouterEvent::new(endpoint as u64, event)).expect("a queue");
    }

    fn settle(&self) {
        self.runtime.block_on(self.indexer.flush_and_wait()).expect("a barrier");
    }

    fn lookup(&self, tokens: &[u32]) -> u64 {
        let hashes = compute_block_hash_for_seq(tokens, BLOCK, BlockHashOptions::default());
        let scores = self.runtime.block_on(self.indexer.find_matches(hashes)).expect("matches");
        let is_candidate = |worker: u64| worker < CANDIDATES as u64;
        let scores = scores.scores.iter().filter(|(worker, _)| is_candidate(worker.worker_id));
        scores.map(|(_, &blocks)| u64::from(blocks)).sum()
    }
}

/// CPU time that the process, or this thread alone, has taken.
fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn measure(name: &str, make: impl FnOnce() -> Box<dyn Index>) {
    let before = ALLOCATOR.current_usage();
    let index = make();
    let mut filling = Duration::ZERO;
    for endpoint in 0..ENDPOINTS {
        for prompt in 0..prompts() {
            let tokens = tokens(endpoint, prompt);
            let names = names(&tokens);
            let start = cpu(ClockId::ProcessCPUTime);
            for (from, part) in (0..names.len()).step_by(EVENT).zip(names.chunks(EVENT)) {
                let of = &tokens[from * BLOCK as usize..(from + part.len()) * BLOCK as usize];
                let parent = from.checked_sub(1).map(|before| names[before]);
                index.store(endpoint, from, of, part, parent);
            }
            index.settle();
            filling += cpu(ClockId::ProcessCPUTime) - start;
        }
    }
    let pairs = (ENDPOINTS * (prompts() * kv_workload::PROMPT)) as f64;
    // Prompts of one group share their beginning.
    let shared = ENDPOINTS * (prompts() - kv_workload::GROUPS) * kv_workload::SHARED;
    let bytes = (ALLOCATOR.current_usage() - before) as f64;
    println!("{name}");
    println!("  {:.1} bytes per (endpoint, block)", bytes / (pairs - shared as f64));
    println!("  {:.2} M blocks stored per second of CPU", pairs / filling.as_secs_f64() / 1e6);
    for (case, endpoint) in [("held by one, begun by all", 3), ("begun by all", 999)] {
        let asked: Vec<Vec<u32>> = (0..8).map(|prompt| tokens(endpoint, prompt)).collect();
        let mut times = Vec::with_capacity(LOOKUPS);
        let mut found = 0;
        for lookup in 0..LOOKUPS {
            let start = cpu(ClockId::ThreadCPUTime);
            found = index.lookup(&asked[lookup % asked.len()]);
            times.push(cpu(ClockId::ThreadCPUTime) - start);
        }
        times.sort_unstable();
        let (p50, p99) = (times[LOOKUPS / 2], times[LOOKUPS * 99 / 100]);
        println!("  lookup of 100k tokens, {case}: p50 {p50:?}, p99 {p99:?} ({found} blocks)");
    }
}

fn main() {
    println!("{ENDPOINTS} endpoints, {BLOCKS} blocks each; candidates of a lookup: {CANDIDATES}");
    measure("epp", || Box::new(Ours::new()));
    measure("dynamo-kv-router, compressed radix tree", || {
        Box::new(Dynamo::new(ConcurrentRadixTreeCompressed::new()))
    });
}
