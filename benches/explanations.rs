//! What it costs a request that its decision is kept with every step: the default configuration, a
//! prompt of 1 KB, and the request decided, routed and ended, with the ring and without.
//!
//! `cargo bench --bench explanations`; or, for instructions instead of time,
//! `valgrind --tool=callgrind BINARY --profile 8 kept` and `plain`, which run 20,000 requests each.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::Criterion;
use epp::clock::Timestamp;
use epp::endpoints::{Endpoint, EndpointSpec, PoolIds};
use epp::exchange::{Ending, Kept, Outcome, OutcomeListener, Response, Times};
use epp::loader::{LoadOptions, load};
use epp::scheduling::{
    Ask, Candidate, DecisionOptions, InferenceRequest, PromptBuilder, RequestData, Scheduler,
};
use epp::telemetry::DecisionLog;

/// Requests of a profiled run.
const PROFILED: usize = 20_000;

struct Bench {
    scheduler: Scheduler,
    endpoints: Vec<Arc<Endpoint>>,
    request: InferenceRequest,
    rng: RefCell<fastrand::Rng>,
    log: DecisionLog,
}

impl Bench {
    fn new(workers: u8) -> Self {
        let ids = PoolIds::default();
        let (pipeline, diagnostics) = load("bench", None, &LoadOptions::default(), &ids);
        let scheduler = pipeline.unwrap_or_else(|| panic!("{diagnostics}")).scheduler;
        let endpoint = |n: u8| {
            let spec = EndpointSpec {
                namespace: "default".into(),
                name: format!("w{n}"),
                pod_name: format!("w{n}"),
                ip: [10, 0, 0, n].into(),
                port: 8000,
                rank: 0,
                uid: String::new(),
                labels: Default::default(),
                placement: Default::default(),
            };
            Arc::new(Endpoint::new(spec, &ids))
        };
        let body = Bytes::from("1 KB of text and ".repeat(60));
        let mut prompt = PromptBuilder::new(body.clone());
        prompt.text(&body);
        let request = InferenceRequest {
            id: "1f0d33a0-7ad8-4f0e-8d0c-2f6a1f6f9b8e".into(),
            incoming_model: "llama".into(),
            target_model: "llama".into(),
            prompt: prompt.finish(),
            ..Default::default()
        };
        Self {
            scheduler,
            endpoints: (0..workers).map(endpoint).collect(),
            request,
            rng: RefCell::new(fastrand::Rng::with_seed(1)),
            log: DecisionLog::new(1000),
        }
    }

    fn decide(&self, kept: bool) {
        let candidates: Vec<Candidate<'_>> = self.endpoints.iter().map(Candidate::new).collect();
        let decision = self.scheduler.schedule(Ask {
            request: &self.request,
            candidates: &candidates,
            data: RequestData::default(),
            now: Timestamp::START,
            rng: &self.rng,
            options: DecisionOptions { explanation: kept, ..DecisionOptions::default() },
        });
        let decision = decision.expect("a decision");
        let outcome = Outcome {
            request: &self.request,
            has_body: true,
            endpoint: decision.target(),
            decision: Some(&decision),
            refusal: None,
            rewritten_by: None,
            times: Times::default(),
            response: &Response::default(),
            ending: Ending::Complete,
            kept: &Kept::default(),
        };
        if kept {
            self.log.routed(&outcome);
            self.log.ended(&outcome);
        }
        black_box(&outcome);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, workers, what] = arguments.as_slice()
        && flag == "--profile"
    {
        let bench = Bench::new(workers.parse().expect("a number of workers"));
        (0..PROFILED).for_each(|_| bench.decide(what == "kept"));
        return;
    }
    let mut c = Criterion::default().configure_from_args();
    for workers in [8, 64] {
        let bench = Bench::new(workers);
        for (name, kept) in [("plain", false), ("kept", true)] {
            let name = format!("decision of {workers} workers/{name}");
            c.bench_function(&name, |b| b.iter(|| bench.decide(kept)));
        }
    }
    c.final_summary();
}
