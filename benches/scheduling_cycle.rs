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
use epp::config::{Diagnostics, Fields, parse};
use epp::endpoints::{Endpoint, EndpointSpec};
use epp::plugins::{Build, Links, Roles, find};
use epp::scheduling::{
    Candidate, DecisionOptions, InferenceRequest, Profile, PromptBuilder, Scheduler, WeightedScorer,
};

const WORKERS: usize = 64;
const PROMPT_BYTES: usize = 32 * 1024;
/// Prompts that each worker was sent before.
const PROMPTS_BEFORE: usize = 240;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn build(links: &mut Links, name: &str, parameters: &str) -> Roles {
    let node = parse(parameters).expect("YAML");
    let diagnostics = Diagnostics::new("bench");
    let parameters = Fields::new(node.as_ref(), "", &diagnostics).any_case();
    let roles = (find(name).expect("a plugin type").build)(Build { name, parameters, links });
    assert!(!diagnostics.has_errors(), "{diagnostics}");
    roles
}

/// The tutorial's configuration, with the prefix parameters given.
fn tutorial(prefix_parameters: &str) -> Scheduler {
    let mut links = Links::default();
    let mut make = |name: &str, parameters: &str| build(&mut links, name, parameters);
    let prefix = make("prefix-cache-scorer", prefix_parameters);
    let load = make("load-aware-scorer", "threshold: 100");
    let picker = make("max-score-picker", "").picker.expect("a picker");
    let handler = make("single-profile-handler", "").profile_handler.expect("a handler");
    let producer = match prefix.is_prefix_producer {
        true => prefix.clone(),
        false => make("approx-prefix-cache-producer", ""),
    };
    let scorers = [("prefix-cache-scorer", prefix, 2.0), ("load-aware-scorer", load, 1.0)];
    let weighted = |(name, roles, weight): (&str, Roles, f64)| WeightedScorer {
        name: name.into(),
        scorer: roles.scorer.expect("a scorer"),
        weight,
    };
    let profile = Profile {
        name: "default".into(),
        filters: Vec::new(),
        scorers: scorers.into_iter().map(weighted).collect(),
        picker,
    };
    Scheduler {
        profiles: vec![profile],
        handler,
        producers: producer.producer.into_iter().collect(),
        observers: producer.observer.into_iter().collect(),
    }
}

fn workers(count: usize) -> Vec<Arc<Endpoint>> {
    let one = |n: usize| {
        Arc::new(Endpoint::new(EndpointSpec {
            namespace: "default".into(),
            name: format!("w{n}"),
            pod_name: format!("w{n}"),
            ip: [10, 0, 0, n as u8].into(),
            port: 8000,
            rank: 0,
            uid: String::new(),
            labels: Default::default(),
        }))
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
    let scheduler = tutorial(prefix_parameters);
    let workers = workers(count);
    let rng = RefCell::new(fastrand::Rng::with_seed(1));
    let schedule = |request: &InferenceRequest, candidates: &[Candidate<'_>]| {
        scheduler
            .schedule(request, candidates, Timestamp::START, &rng, DecisionOptions::default())
            .expect("a decision")
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
    assert_eq!(&*decision.endpoints[0].spec.name, "w5");
    println!("{name}, {count} workers: {allocations} allocations, candidates included");

    c.bench_function(&format!("cycle, 32 KB prompt, {count} workers/{name}"), |b| {
        b.iter(|| {
            let all = candidates(&workers);
            black_box(schedule(black_box(&warm), &all))
        });
    });
}

fn benches(c: &mut Criterion) {
    measure(c, "tutorial", "", WORKERS);
    // A quarter of the workers must not take fewer allocations.
    measure(c, "tutorial", "", WORKERS / 4);
    let older = "{hashBlockSize: 64, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}";
    measure(c, "tutorial with 64-byte blocks", older, WORKERS);
}

criterion_group!(scheduling_cycle, benches);
criterion_main!(scheduling_cycle);
