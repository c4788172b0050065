//! A scheduler made of a few lines of YAML, and workers made of a few numbers.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use epp::clock::Timestamp;
use epp::config::{Diagnostics, Fields, parse};
use epp::endpoints::{
    Endpoint, EndpointSpec, LoraSignals, PoolIds, Reservation, ReservationTerms, SignalValues,
};
use epp::loader::{Hooks, LoadOptions, Pipeline, load};
use epp::plugins::{Build, Capabilities, Dependencies, find};
use epp::prefix::HashKey;
use epp::scheduling::{
    AnswerSoFar, Ask, Candidate, Decision, DecisionOptions, Explanation, InferenceRequest,
    PromptBuilder, Refusal, RequestData, RoutedRequest, Scheduler,
};
use epp::scrape_config::{EngineMaps, PageScrape};

/// What building one plugin gave.
pub struct Built {
    pub capabilities: Capabilities,
    pub dependencies: Dependencies,
    /// One line a finding, without places.
    pub findings: Vec<String>,
}

/// Builds one plugin of `kind` under its type's name; `parameters` is YAML, empty for none.
pub fn build(kind: &str, parameters: &str) -> Built {
    let mut dependencies = Dependencies::default();
    let node = parse(parameters).unwrap_or_else(|e| panic!("{parameters}: {e:?}"));
    let diagnostics = Diagnostics::new("test");
    let fields = Fields::new(node.as_ref(), "", &diagnostics).any_case();
    let plugin = find(kind).unwrap_or_else(|| panic!("no plugin type {kind}"));
    let capabilities = (plugin.build)(Build {
        name: kind,
        parameters: fields,
        dependencies: &mut dependencies,
        ids: ids(),
        hash_key: HashKey::default(),
        predecessor: None,
    });
    let findings = diagnostics
        .findings()
        .iter()
        .map(|d| format!("{:?} {}: {}", d.severity, d.field, d.message))
        .collect();
    Built { capabilities, dependencies, findings }
}

/// The numbers of the one pool that all tests' endpoints and plugins are of.
pub fn ids() -> &'static PoolIds {
    static IDS: LazyLock<PoolIds> = LazyLock::new(PoolIds::default);
    &IDS
}

/// A configuration of one profile, loaded as the program loads it.
pub struct Rig {
    pub scheduler: Scheduler,
    pub hooks: Hooks,
    /// What workers are asked for beside their metrics.
    pub pages: Vec<PageScrape>,
    pub engines: EngineMaps,
    pub rng: RefCell<fastrand::Rng>,
}

impl Rig {
    /// `plugins` are `(type, parameters, weight)`, each under its type's name.
    pub fn new(plugins: &[(&str, &str, f64)]) -> Self {
        let mut yaml =
            String::from("kind: EndpointPickerConfig\napiVersion: llm-d.ai/v1alpha1\nplugins:\n");
        for (kind, parameters, _) in plugins {
            yaml.push_str(&format!("- type: {kind}\n"));
            if !parameters.is_empty() {
                let indented = parameters.replace('\n', "\n    ");
                yaml.push_str(&format!("  parameters:\n    {indented}\n"));
            }
        }
        yaml.push_str("schedulingProfiles:\n- name: default\n  plugins:\n");
        for (kind, _, weight) in plugins {
            yaml.push_str(&format!("  - {{pluginRef: {kind}, weight: {weight}}}\n"));
        }
        Self::from_yaml(&yaml)
    }

    /// Any configuration.
    pub fn from_yaml(yaml: &str) -> Self {
        let options = LoadOptions { allow_experimental_plugins: true, ..LoadOptions::default() };
        let (pipeline, diagnostics) = load("test", Some(yaml), &options, ids());
        let pipeline = pipeline.unwrap_or_else(|| panic!("{yaml}\n{diagnostics}"));
        let rng = RefCell::new(fastrand::Rng::with_seed(7));
        let Pipeline { scheduler, hooks, pages, engines, .. } = pipeline;
        Self { scheduler, hooks, pages, engines, rng }
    }

    /// What the scheduler says to `request` at a time of its own.
    pub fn schedule(
        &self,
        request: &InferenceRequest,
        candidates: &[Candidate],
        options: DecisionOptions,
    ) -> Result<Decision, Refusal> {
        self.scheduler.schedule(Ask {
            request,
            candidates,
            data: RequestData::default(),
            now: Timestamp::START,
            rng: &self.rng,
            options,
        })
    }

    pub fn decide(&self, request: &InferenceRequest, candidates: &[Candidate]) -> Decision {
        let options =
            DecisionOptions { scores: true, explanation: true, ..DecisionOptions::default() };
        self.schedule(request, candidates, options).unwrap()
    }

    /// Sends `request` to one of `workers` as they are now.
    pub fn send(&self, request: &InferenceRequest, workers: &[Arc<Endpoint>]) -> Decision {
        self.decide(request, &candidates(workers))
    }

    /// Sends `request` to one worker alone, as a subset hint would, and ends it.
    pub fn send_to(&self, request: &InferenceRequest, worker: &Arc<Endpoint>) {
        self.send(request, std::slice::from_ref(worker));
    }

    /// The scores of `workers` for `request`, in order; the pick is let go of, but remembered by
    /// whoever remembers picks.
    pub fn scores(&self, request: &InferenceRequest, workers: &[Arc<Endpoint>]) -> Vec<f64> {
        self.send(request, workers).scores.iter().map(|(_, score)| *score).collect()
    }

    /// Which of `workers` a filter in first place leaves.
    pub fn kept(&self, request: &InferenceRequest, workers: &[Arc<Endpoint>]) -> Vec<u32> {
        let options = DecisionOptions { explanation: true, ..DecisionOptions::default() };
        match self.schedule(request, &candidates(workers), options) {
            Ok(decision) => explanation(&decision).profiles[0].filters[0].kept.clone(),
            Err(_) => Vec::new(),
        }
    }
}

pub fn explanation(decision: &Decision) -> Explanation {
    decision.trace.as_ref().unwrap().explanation()
}

/// The index in `workers` of the decision's target.
pub fn target(decision: &Decision, workers: &[Arc<Endpoint>]) -> usize {
    workers.iter().position(|w| Arc::ptr_eq(w, decision.target().unwrap())).unwrap()
}

/// A request that was sent, before anything has come of it.
pub fn routed<'a>(request: &'a InferenceRequest, decision: &'a Decision) -> RoutedRequest<'a> {
    let (answer, now) = (AnswerSoFar::default(), Timestamp::START);
    RoutedRequest { request, decision, served_by: None, answer, now }
}

pub fn candidates(workers: &[Arc<Endpoint>]) -> Vec<Candidate<'_>> {
    workers.iter().map(Candidate::new).collect()
}

pub fn worker(n: usize, labels: &[(&str, &str)], signals: SignalValues) -> Arc<Endpoint> {
    let spec = EndpointSpec {
        placement: Default::default(),
        namespace: "default".into(),
        name: format!("w{n}"),
        pod_name: format!("w{n}"),
        ip: [127, 0, 0, n as u8 + 1].into(),
        port: 8000,
        rank: 0,
        uid: String::new(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    };
    let endpoint = Endpoint::new(spec, ids());
    endpoint.signals.store(SignalValues { updated_at: Some(Timestamp::START), ..signals });
    Arc::new(endpoint)
}

/// Workers that differ in nothing.
pub fn workers(count: usize) -> Vec<Arc<Endpoint>> {
    (0..count).map(|n| worker(n, &[], SignalValues::default())).collect()
}

/// Workers by `(running, waiting, KV usage)`.
pub fn loaded(state: &[(u32, u32, f64)]) -> Vec<Arc<Endpoint>> {
    let one = |(n, &(running, waiting, kv_usage)): (usize, &(u32, u32, f64))| {
        worker(n, &[], SignalValues { running, waiting, kv_usage, ..SignalValues::default() })
    };
    state.iter().enumerate().map(one).collect()
}

/// Workers by `(running adapters, waiting adapters, max)`; adapters are letters.
pub fn with_adapters(state: &[(&str, &str, u32)]) -> Vec<Arc<Endpoint>> {
    let all = workers(state.len());
    let names = |letters: &str| letters.chars().map(String::from).collect();
    for (worker, &(running, waiting, max)) in all.iter().zip(state) {
        let lora = LoraSignals { running: names(running), waiting: names(waiting), max };
        worker.signals.store_lora(Some(lora));
    }
    all
}

/// A request for model `m` with this text as its prompt.
pub fn prompt(text: &str) -> InferenceRequest {
    request_for("m", text)
}

pub fn request_for(model: &str, text: &str) -> InferenceRequest {
    let mut b = PromptBuilder::new(Bytes::new());
    b.text(text.as_bytes());
    InferenceRequest { target_model: model.into(), prompt: b.finish(), ..Default::default() }
}

/// Text of this many tokens (four bytes each), different for every `seed` from the first token.
pub fn tokens(seed: u32, count: usize) -> String {
    (0..count).map(|i| format!("{:04}", (seed as usize * 7919 + i) % 10_000)).collect()
}

#[track_caller]
pub fn assert_scores(got: &[f64], expected: &[f64]) {
    let equal =
        got.len() == expected.len() && got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12);
    assert!(equal, "{got:?}, expected {expected:?}");
}

/// Keeps a request with this many uncached tokens in flight.
pub fn reserve(endpoint: Arc<Endpoint>, tokens: u32) -> Reservation {
    Reservation::new(endpoint, ReservationTerms { tokens, ..ReservationTerms::default() })
}
