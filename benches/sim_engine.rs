//! How fast the simulated engine replays: requests and generated tokens per second of wall time,
//! for one engine in virtual time.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use epp::sim::{Engine, EngineConfig, Prompt, RequestSpec};

const REQUESTS: u64 = 2_000;

/// Conversations of ten turns each, interleaved: a turn's prompt begins with the one before it.
fn trace() -> Vec<(u64, RequestSpec)> {
    (0..REQUESTS)
        .map(|i| {
            let (conversation, turn) = (i % 200, i / 200);
            let ids: Vec<u64> = (0..=turn * 2).map(|part| conversation * 1000 + part).collect();
            let prompt = Prompt::from_trace(&ids, 512, ids.len() as u32 * 512, 0, 16);
            let output_tokens = 100 + (i * 37 % 300) as u32;
            (i * 150_000_000, RequestSpec { prompt, output_tokens, ..Default::default() })
        })
        .collect()
}

fn replay(trace: &[(u64, RequestSpec)], token_events: bool) -> u64 {
    let config = EngineConfig::profile("h200-qwen7b").expect("a built-in profile");
    let mut engine = Engine::new(EngineConfig { token_events, ..config }).expect("valid");
    let mut events = 0;
    for (at, spec) in trace {
        while let Some(next) = engine.next_event_at().filter(|next| next < at) {
            engine.advance(next, &mut |event| {
                black_box(event);
                events += 1;
            });
        }
        engine.submit(*at, spec.clone()).expect("fits");
    }
    while let Some(next) = engine.next_event_at() {
        engine.advance(next, &mut |_| events += 1);
    }
    assert_eq!(engine.stats().totals.finished, REQUESTS);
    events
}

fn bench(criterion: &mut Criterion) {
    let trace = trace();
    let mut group = criterion.benchmark_group("sim_engine");
    group.throughput(Throughput::Elements(REQUESTS)).sample_size(10);
    for (name, token_events) in [("first tokens and ends", false), ("every token", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| replay(black_box(&trace), token_events));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
