//! Measures one combination of pool, prompt, index and threads.

use std::collections::VecDeque;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use super::Cache;
use crate::bench::allocations::{self, Allocations};
use crate::bench::latency::Latencies;
use crate::bench::trace::Spans;
use crate::clock;
use crate::endpoints::{EndpointSpec, Pool, SignalValues};
use crate::exchange::{Director, ShedWhenSaturated};
use crate::loader::{self, LoadOptions};
use crate::prefix::HashKey;
use crate::scheduling::{Decision, InferenceRequest, PromptBuilder, RequestData};

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cell {
    pub endpoints: u16,
    pub prompt_tokens: u32,
    pub cache: Cache,
    pub threads: u16,
}

#[derive(Debug, Default)]
pub(super) struct Measured {
    pub latency: Latencies,
    pub seconds: f64,
    pub allocations: Allocations,
    pub errors: u64,
}

/// Different prompts that each thread goes through.
const PROMPTS: u64 = 32;
/// Requests that each thread has in flight.
const IN_FLIGHT: usize = 32;

/// # Errors
/// Where the configuration does not load, with a text for the user.
pub(super) fn run(
    name: &str,
    text: Option<&str>,
    cell: Cell,
    duration: Duration,
) -> Result<Measured, String> {
    let options = LoadOptions {
        allow_experimental_plugins: true,
        hash_key: HashKey::PUBLIC,
        ..Default::default()
    };
    let pool = Arc::new(pool(cell.endpoints));
    let (pipeline, diagnostics) = loader::load(name, text, &options, pool.ids());
    let pipeline = pipeline.ok_or_else(|| diagnostics.to_string())?;
    let admission = Arc::new(ShedWhenSaturated(pipeline.saturation));
    let director = Director::new(pool, pipeline.scheduler, admission);
    let start = Barrier::new(usize::from(cell.threads));
    let threads: Vec<Measured> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cell.threads)
            .map(|i| {
                let (director, start) = (&director, &start);
                scope.spawn(move || thread(director, start, cell, u64::from(i), duration))
            })
            .collect();
        threads.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    if threads.len() != usize::from(cell.threads) {
        return Err("a thread panicked".into());
    }
    let mut all = Measured::default();
    for m in threads {
        all.latency.merge(&m.latency);
        all.seconds = all.seconds.max(m.seconds);
        all.allocations.calls += m.allocations.calls;
        all.allocations.bytes += m.allocations.bytes;
        all.errors += m.errors;
    }
    Ok(all)
}

fn thread(
    director: &Director,
    start: &Barrier,
    cell: Cell,
    index: u64,
    duration: Duration,
) -> Measured {
    let mut requests: Vec<InferenceRequest> =
        (0..PROMPTS).map(|i| request(cell, index * PROMPTS + i)).collect();
    let mut in_flight: VecDeque<Decision> = VecDeque::with_capacity(IN_FLIGHT + 1);
    // Every prompt once: fills the index, and the threads' and plugins' buffers.
    for request in &requests {
        let _ = director.schedule(request, RequestData::default(), None, clock::now());
    }
    start.wait();
    let mut m = Measured::default();
    let begin = Instant::now();
    let mut number = index << 48;
    while begin.elapsed() < duration {
        // Looking at the clock and at the counters costs, so it is done once for a whole round.
        let before = allocations::of_thread();
        for request in &mut requests {
            number += 1;
            salt(request, cell.cache, number);
            let at = Instant::now();
            let decision = director.schedule(request, RequestData::default(), None, clock::now());
            let took = at.elapsed();
            match decision {
                Ok(decision) => in_flight.push_back(decision),
                Err(_) => m.errors += 1,
            }
            m.latency.record(took);
            if in_flight.len() > IN_FLIGHT {
                in_flight.pop_front();
            }
        }
        let round = allocations::of_thread() - before;
        m.allocations.calls += round.calls;
        m.allocations.bytes += round.bytes;
    }
    m.seconds = begin.elapsed().as_secs_f64();
    m
}

/// Makes a cold request one that nothing was ever like: a salt of its own keeps its prompt apart
/// from all others. The salt keeps its length, so that no memory is asked for.
fn salt(request: &mut InferenceRequest, cache: Cache, number: u64) {
    if cache == Cache::Cold {
        let mut bytes = std::mem::take(&mut request.cache_salt).into_bytes();
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = b'a' + ((number >> (4 * i)) & 15) as u8;
        }
        // Letters only, so this never fails.
        request.cache_salt = String::from_utf8(bytes).unwrap_or_default();
    }
}

fn request(cell: Cell, number: u64) -> InferenceRequest {
    let shared = cell.prompt_tokens - cell.prompt_tokens / 10;
    let mut spans = Spans::default();
    spans.push_stream(number % 8, shared);
    spans.push_stream(1000 + number, cell.prompt_tokens - shared);
    let mut tokens = Vec::new();
    spans.write_tokens(&mut tokens);
    let body = Bytes::from(tokens);
    let mut builder = PromptBuilder::new(body.clone());
    builder.text(&body);
    InferenceRequest {
        id: number.to_string(),
        target_model: "model".into(),
        cache_salt: "a".repeat(16),
        prompt: builder.finish(),
        stream: true,
        body_bytes: body.len(),
        ..Default::default()
    }
}

/// Workers with loads of their own, freshly reported.
fn pool(n: u16) -> Pool {
    let specs = (0..n).map(|i| {
        let [high, low] = i.to_be_bytes();
        EndpointSpec {
            placement: Default::default(),
            namespace: "default".into(),
            name: format!("worker-{i}"),
            pod_name: format!("worker-{i}"),
            ip: [10, 0, high, low].into(),
            port: 8000,
            rank: 0,
            uid: String::new(),
            labels: Default::default(),
        }
    });
    let pool = Pool::new();
    pool.replace(specs.collect());
    pool.set_synced(true);
    let mut rng = fastrand::Rng::with_seed(1);
    for endpoint in &pool.snapshot().endpoints {
        endpoint.signals.store(SignalValues {
            waiting: rng.u32(0..4),
            running: rng.u32(0..32),
            kv_usage: rng.f64() * 0.8,
            block_size: 16,
            num_blocks: 31_250,
            updated_at: Some(clock::now()),
        });
    }
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_decides_without_errors() {
        for cache in [Cache::Cold, Cache::Warm] {
            for threads in [1, 2] {
                let cell = Cell { endpoints: 3, prompt_tokens: 300, cache, threads };
                let m = run("test", None, cell, Duration::from_millis(20)).unwrap();
                assert!(m.latency.count() >= PROMPTS * u64::from(threads) && m.errors == 0);
            }
        }
    }

    #[test]
    fn cold_requests_never_repeat_and_warm_ones_do() {
        let cell = Cell { endpoints: 1, prompt_tokens: 10, cache: Cache::Cold, threads: 1 };
        let mut r = request(cell, 0);
        let mut salts = std::collections::HashSet::new();
        for number in 0..1000 {
            salt(&mut r, Cache::Cold, number);
            assert!(salts.insert(r.cache_salt.clone()));
            assert_eq!(r.cache_salt.len(), 16);
        }
        let before = r.cache_salt.clone();
        salt(&mut r, Cache::Warm, 7);
        assert_eq!(r.cache_salt, before);
    }

    #[test]
    fn a_configuration_that_does_not_load_says_why() {
        let cell = Cell { endpoints: 1, prompt_tokens: 1, cache: Cache::Warm, threads: 1 };
        let e = run("broken", Some("kind: Other"), cell, Duration::ZERO).unwrap_err();
        assert!(e.contains("broken"), "{e}");
    }
}
