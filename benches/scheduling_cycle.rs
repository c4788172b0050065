//! One scheduling cycle: the tutorial's configuration, 64 workers, a prompt of 8k tokens (32 KB),
//! and an index that holds other prompts and, on one worker, this one.
//!
//! `cargo bench --bench scheduling_cycle` prints heap allocations per decision first.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use epp::bench::allocations::{Counting, of_thread};
use epp::clock::Timestamp;
use epp::endpoints::{Endpoint, EndpointSpec, PoolIds};
use epp::loader::{LoadOptions, load};
use epp::prefix::HashKey;
use epp::scheduling::{
    Ask, Candidate, DecisionOptions, InferenceRequest, PromptBuilder, RequestData, Scheduler,
};

const WORKERS: usize = 64;
const PROMPT_BYTES: usize = 32 * 1024;
/// Prompts that each worker was sent before.
const PROMPTS_BEFORE: usize = 240;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tutorial's configuration, with the prefix parameters given.
fn tutorial(prefix_parameters: &str, ids: &PoolIds) -> Scheduler {
    let yaml = format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {{type: prefix-cache-scorer, parameters: {prefix_parameters}}}
- {{type: load-aware-scorer, parameters: {{threshold: 100}}}}
schedulingProfiles:
- name: default
  plugins:
  - {{pluginRef: prefix-cache-scorer, weight: 2}}
  - {{pluginRef: load-aware-scorer, weight: 1}}
"
    );
    let options = LoadOptions { hash_key: HashKey::PUBLIC, ..LoadOptions::default() };
    let (pipeline, diagnostics) = load("bench", Some(&yaml), &options, ids);
    pipeline.unwrap_or_else(|| panic!("{diagnostics}")).scheduler
}

fn workers(count: usize, ids: &PoolIds) -> Vec<Arc<Endpoint>> {
    let one = |n: usize| {
        let spec = EndpointSpec {
            placement: Default::default(),
            namespace: "default".into(),
            name: format!("w{n}"),
            pod_name: format!("w{n}"),
            ip: [10, 0, 0, n as u8].into(),
            port: 8000,
            rank: 0,
            uid: String::new(),
            labels: Default::default(),
        };
        Arc::new(Endpoint::new(spec, ids))
    };
    (0..count).map(one).collect()
}

fn candidates(workers: &[Arc<Endpoint>]) -> Vec<Candidate<'_>> {
    workers.iter().map(Candidate::new).collect()
}

/// A request whose prompt begins with `n` and is the body itself, as an unescaped one is.
fn request(n: usize) -> InferenceRequest {
    let text: String = (0..PROMPT_BYTES / 16).map(|i| format!("{n:07} {i:07} ")).collect();
    let body = Bytes::from(text);
    let mut prompt = PromptBuilder::new(body.clone());
    prompt.text(&body);
    InferenceRequest { target_model: "m".into(), prompt: prompt.finish(), ..Default::default() }
}

fn measure(c: &mut Criterion, name: &str, prefix_parameters: &str, count: usize) {
    let ids = PoolIds::default();
    let scheduler = tutorial(prefix_parameters, &ids);
    let workers = workers(count, &ids);
    let rng = RefCell::new(fastrand::Rng::with_seed(1));
    let schedule = |request: &InferenceRequest, candidates: &[Candidate<'_>]| {
        let (data, options) = (RequestData::default(), DecisionOptions::default());
        let ask = Ask { request, candidates, data, now: Timestamp::START, rng: &rng, options };
        scheduler.schedule(ask).expect("a decision")
    };
    for (w, worker) in workers.iter().enumerate() {
        let alone = candidates(std::slice::from_ref(worker));
        for n in 0..PROMPTS_BEFORE {
            schedule(&request(w * PROMPTS_BEFORE + n), &alone);
        }
    }
    // Held by the sixth worker.
    let warm = request(5 * PROMPTS_BEFORE + 17);
    let before = of_thread();
    let all = candidates(&workers);
    let decision = schedule(&warm, &all);
    let allocations = (of_thread() - before).calls;
    assert_eq!(&*decision.target().expect("a target").spec.name, "w5");
    println!("{name}, {count} workers: {allocations} allocations, candidates included");

    c.bench_function(&format!("cycle, 32 KB prompt, {count} workers/{name}"), |b| {
        b.iter(|| {
            let all = candidates(&workers);
            black_box(schedule(black_box(&warm), &all))
        });
    });
}

fn benches(c: &mut Criterion) {
    measure(c, "tutorial", "{}", WORKERS);
    // A quarter of the workers must not take fewer allocations.
    measure(c, "tutorial", "{}", WORKERS / 4);
    let older = "{hashBlockSize: 64, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}";
    measure(c, "tutorial with 64-byte blocks", older, WORKERS);
}

criterion_group!(scheduling_cycle, benches);
criterion_main!(scheduling_cycle);
