//! The index of what engines say they hold: 64 endpoints with 100,000 blocks of 16 tokens each.
//!
//! `cargo bench --bench kv_index` prints bytes per (endpoint, block) and events per second of the
//! filling first. A lookup is for a prompt of 100,000 tokens on 16 endpoints, from its tokens.
//! `benches/peers` measures another index on the same events.

#[path = "support/kv_workload.rs"]
mod kv_workload;

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use epp::clock::Timestamp;
use epp::kv_index::{Holder, KvIndex, Limits, Run, Tier};
use kv_workload::{BLOCK, BLOCKS, CANDIDATES, ENDPOINTS, EVENT, names, prompts, tokens};

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

fn store(holder: &Holder, tokens: &[u32]) -> usize {
    let names = names(tokens);
    let mut events = 0;
    for (from, part) in (0..names.len()).step_by(EVENT).zip(names.chunks(EVENT)) {
        let run = Run {
            names: part,
            parent: from.checked_sub(1).map(|before| names[before]),
            tokens: &tokens[from * BLOCK as usize..(from + part.len()) * BLOCK as usize],
            block_size: BLOCK,
            adapter: "",
            tier: Tier::Gpu,
        };
        holder.store(run, []);
        events += 1;
    }
    events
}

fn filled() -> (KvIndex, Vec<Holder>) {
    let index =
        KvIndex::new(Limits { bytes: 1 << 34, blocks_per_holder: 1 << 22 }, fastrand::u64(..));
    let holders: Vec<Holder> = (0..ENDPOINTS).map(|_| index.holder()).collect();
    let before = ALLOCATOR.current_usage();
    let (mut events, mut seconds) = (0, 0.0);
    for (endpoint, holder) in holders.iter().enumerate() {
        for prompt in 0..prompts() {
            let tokens = tokens(endpoint, prompt);
            let start = Instant::now();
            events += store(holder, &tokens);
            seconds += start.elapsed().as_secs_f64();
        }
    }
    let held: usize = holders.iter().map(Holder::len).sum();
    let bytes = (ALLOCATOR.current_usage() - before) as f64;
    println!("held: {held} blocks on {ENDPOINTS} endpoints, of {} stored", ENDPOINTS * BLOCKS);
    println!("bytes per (endpoint, block): {:.1}", bytes / held as f64);
    println!(
        "filling: {:.0} events/s, {:.1} M blocks/s",
        events as f64 / seconds,
        (ENDPOINTS * BLOCKS) as f64 / seconds / 1e6
    );
    (index, holders)
}

/// Blocks held by all together.
fn found(holders: &[Holder], keys: &[u64]) -> u32 {
    let mut guess = 0;
    let one = |holder: &Holder| {
        guess = holder.matched_near(keys, guess, Timestamp::START).held;
        guess
    };
    holders.iter().map(one).sum()
}

fn lookups(c: &mut Criterion) {
    let (index, holders) = filled();
    let whole: Vec<Vec<u32>> = (0..8).map(|prompt| tokens(3, prompt)).collect();
    let unknown: Vec<Vec<u32>> = (0..8).map(|prompt| tokens(999, prompt)).collect();
    let cases = [("held by one, begun by all", &whole), ("begun by all", &unknown)];
    for (name, prompts) in cases {
        let mut next = 0;
        c.bench_function(&format!("lookup of 100k tokens on {CANDIDATES}, {name}"), |b| {
            b.iter(|| {
                next = (next + 1) % prompts.len();
                let keys = index.keys("m", &prompts[next], BLOCK, []);
                found(&holders[..CANDIDATES], black_box(&keys))
            });
        });
        let keys: Vec<Vec<u64>> =
            prompts.iter().map(|tokens| index.keys("m", tokens, BLOCK, [])).collect();
        c.bench_function(&format!("the same from keys, {name}"), |b| {
            b.iter(|| {
                next = (next + 1) % keys.len();
                found(&holders[..CANDIDATES], black_box(&keys[next]))
            });
        });
    }
    // A hole in the middle of one prompt of every holder: blocks are counted one by one.
    for (endpoint, holder) in holders.iter().enumerate().take(CANDIDATES) {
        holder.remove(&[names(&tokens(endpoint, 8))[3_000]], Tier::Gpu);
    }
    let keys: Vec<Vec<u64>> = whole.iter().map(|t| index.keys("m", t, BLOCK, [])).collect();
    let mut next = 0;
    c.bench_function("the same from keys, on holders with holes", |b| {
        b.iter(|| {
            next = (next + 1) % keys.len();
            found(&holders[..CANDIDATES], black_box(&keys[next]))
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = lookups
}
criterion_main!(benches);
