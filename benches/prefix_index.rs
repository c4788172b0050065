//! Three ways to remember which worker was sent which blocks, by time and by memory.
//!
//! 64 workers hold 31,250 blocks each. A prompt of 128 blocks (32 KB) is looked up on all of them
//! and recorded on one. `lru` keeps one `LruCache` per worker, probed block by block; `dashmap`
//! is the reference's shape: one map from block to the workers that hold it, beside an LRU per
//! worker, walked until nobody holds the next block.
//!
//! `cargo bench --bench prefix_index` prints bytes per (worker, block) first.

use std::hint::black_box;
use std::num::NonZeroUsize;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use epp::bench::allocations::{Counting, live_bytes};
use epp::prefix::BlockLru;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use xxhash_rust::xxh64::xxh64;

const WORKERS: usize = 64;
const CAPACITY: usize = 31_250;
const CHAIN: usize = 128;
/// Workers that hold the whole prompt that is looked up, and workers that hold half of it.
const HOLDERS: usize = 4;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The hash chain of one prompt.
fn chain(prompt: u64) -> Vec<u64> {
    let mut previous = prompt;
    (0..CHAIN)
        .map(|_| {
            previous = xxh64(&prompt.to_le_bytes(), previous);
            previous
        })
        .collect()
}

trait Index {
    fn matches(&self, chain: &[u64], out: &mut [u32; WORKERS]);
    fn record(&self, worker: usize, chain: &[u64]);
}

/// Ours.
struct Ours(Vec<RwLock<BlockLru>>);

impl Ours {
    fn new() -> Self {
        Self((0..WORKERS).map(|_| RwLock::new(BlockLru::new(CAPACITY as u32))).collect())
    }
}

impl Index for Ours {
    fn matches(&self, chain: &[u64], out: &mut [u32; WORKERS]) {
        for (out, worker) in out.iter_mut().zip(&self.0) {
            *out = worker.read().longest_prefix(chain) as u32;
        }
    }

    fn record(&self, worker: usize, chain: &[u64]) {
        self.0[worker].write().record(chain, |_, _| {});
    }
}

fn bounded_lru() -> Mutex<LruCache<u64, ()>> {
    // Grows with use like the others, instead of taking all its room at once.
    Mutex::new(LruCache::unbounded())
}

/// Puts the chain in, and says which blocks had to go.
fn put(held: &mut LruCache<u64, ()>, chain: &[u64], mut evicted: impl FnMut(u64)) {
    let bound = NonZeroUsize::new(CAPACITY).unwrap();
    for &hash in chain.iter().rev() {
        held.put(hash, ());
        if held.len() > bound.get()
            && let Some((old, ())) = held.pop_lru()
        {
            evicted(old);
        }
    }
}

struct Lru(Vec<Mutex<LruCache<u64, ()>>>);

impl Lru {
    fn new() -> Self {
        Self((0..WORKERS).map(|_| bounded_lru()).collect())
    }
}

impl Index for Lru {
    fn matches(&self, chain: &[u64], out: &mut [u32; WORKERS]) {
        for (out, worker) in out.iter_mut().zip(&self.0) {
            let held = worker.lock();
            *out = chain.iter().take_while(|h| held.contains(h)).count() as u32;
        }
    }

    fn record(&self, worker: usize, chain: &[u64]) {
        put(&mut self.0[worker].lock(), chain, |_| {});
    }
}

struct Map {
    holders: DashMap<u64, SmallVec<[u32; 4]>>,
    held: Vec<Mutex<LruCache<u64, ()>>>,
}

impl Map {
    fn new() -> Self {
        Self { holders: DashMap::new(), held: (0..WORKERS).map(|_| bounded_lru()).collect() }
    }
}

impl Index for Map {
    fn matches(&self, chain: &[u64], out: &mut [u32; WORKERS]) {
        out.fill(0);
        for hash in chain {
            let Some(holders) = self.holders.get(hash) else { break };
            for &worker in holders.iter() {
                out[worker as usize] += 1;
            }
        }
    }

    fn record(&self, worker: usize, chain: &[u64]) {
        put(&mut self.held[worker].lock(), chain, |old| {
            let mut empty = false;
            if let Some(mut holders) = self.holders.get_mut(&old) {
                holders.retain(|w| *w as usize != worker);
                empty = holders.is_empty();
            }
            if empty {
                self.holders.remove_if(&old, |_, holders| holders.is_empty());
            }
        });
        for &hash in chain {
            let mut holders = self.holders.entry(hash).or_default();
            if !holders.contains(&(worker as u32)) {
                holders.push(worker as u32);
            }
        }
    }
}

/// Fills an index beyond its capacity, with the asked prompt last, and prints what that took.
fn filled<I: Index>(name: &str, new: impl Fn() -> I) -> I {
    let before = live_bytes();
    let index = new();
    let prompts = CAPACITY / CHAIN + 1;
    for worker in 0..WORKERS {
        for prompt in 0..prompts {
            index.record(worker, &chain((1 + worker * prompts + prompt) as u64));
        }
    }
    let blocks = WORKERS * CAPACITY;
    let bytes = live_bytes() - before;
    println!("{name}: {:.1} bytes per (worker, block)", bytes as f64 / blocks as f64);
    let asked = chain(0);
    for holder in 0..HOLDERS {
        index.record(holder * 16, &asked);
        index.record(holder * 16 + 8, &asked[..CHAIN / 2]);
    }
    index
}

fn measure<I: Index>(c: &mut Criterion, name: &str, index: I) {
    let asked = chain(0);
    let mut out = [0; WORKERS];
    index.matches(&asked, &mut out);
    assert_eq!((out[0], out[8], out[1]), (CHAIN as u32, CHAIN as u32 / 2, 0), "{name}");

    c.bench_function(&format!("look up 128 blocks on 64 workers, 8 hold some/{name}"), |b| {
        b.iter(|| index.matches(black_box(&asked), &mut out));
    });
    let cold = chain(u64::MAX);
    c.bench_function(&format!("look up 128 blocks on 64 workers, none holds any/{name}"), |b| {
        b.iter(|| index.matches(black_box(&cold), &mut out));
    });
    c.bench_function(&format!("record 128 blocks, held/{name}"), |b| {
        b.iter(|| index.record(0, black_box(&asked)));
    });
    let mut next = 1 << 40;
    c.bench_function(&format!("record 128 blocks, new, evicting as many/{name}"), |b| {
        let fresh = || {
            next += 1;
            chain(next)
        };
        b.iter_batched(fresh, |new| index.record(1, &new), BatchSize::SmallInput);
    });
}

fn benches(c: &mut Criterion) {
    measure(c, "ours", filled("ours", Ours::new));
    measure(c, "lru", filled("lru", Lru::new));
    measure(c, "dashmap + lru", filled("dashmap + lru", Map::new));
}

criterion_group!(prefix_index, benches);
criterion_main!(prefix_index);
