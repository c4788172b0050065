//! A scheduler made of a few lines of YAML, and workers made of a few numbers.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use epp::clock::Timestamp;
use epp::config::{Diagnostics, Fields, parse};
use epp::endpoints::{Endpoint, EndpointSpec, LoraSignals, SignalValues};
use epp::plugins::{Build, DEFAULT_PREFIX_PRODUCER, Links, Roles, find};
use epp::scheduling::{
    Candidate, Decision, DecisionOptions, Explanation, InferenceRequest, Profile, PromptBuilder,
    Scheduler, WeightedScorer,
};

/// What building one plugin gave.
pub struct Built {
    pub roles: Roles,
    pub links: Links,
    /// One line a finding, without places.
    pub findings: Vec<String>,
}

/// Builds one plugin of `kind` under `name`; `parameters` is YAML, empty for none.
pub fn build_in(
    links: &mut Links,
    kind: &str,
    name: &str,
    parameters: &str,
) -> (Roles, Vec<String>) {
    let node = parse(parameters).unwrap_or_else(|e| panic!("{parameters}: {e:?}"));
    let diagnostics = Diagnostics::new("test");
    let fields = Fields::new(node.as_ref(), "", &diagnostics).any_case();
    let plugin = find(kind).unwrap_or_else(|| panic!("no plugin type {kind}"));
    let roles = (plugin.build)(Build { name, parameters: fields, links });
    let findings = diagnostics
        .findings()
        .iter()
        .map(|d| format!("{:?} {}: {}", d.severity, d.field, d.message))
        .collect();
    (roles, findings)
}

pub fn build(kind: &str, parameters: &str) -> Built {
    let mut links = Links::default();
    let (roles, findings) = build_in(&mut links, kind, kind, parameters);
    Built { roles, links, findings }
}

/// One profile's plugins and everything they need, as the loader would put them together.
pub struct Rig {
    pub scheduler: Scheduler,
    pub rng: RefCell<fastrand::Rng>,
}

impl Rig {
    /// `plugins` are `(type, parameters, weight)`. The default picker, profile handler and
    /// producers are added where they are missing.
    pub fn new(plugins: &[(&str, &str, f64)]) -> Self {
        let mut links = Links::default();
        let mut made: Vec<(String, Roles, f64)> = Vec::new();
        let mut add = |links: &mut Links, kind: &str, parameters: &str, weight| {
            let (roles, findings) = build_in(links, kind, kind, parameters);
            let errors: Vec<_> = findings.iter().filter(|f| f.starts_with("Error")).collect();
            assert!(errors.is_empty(), "{kind}: {errors:?}");
            made.push((kind.to_owned(), roles, weight));
        };
        for &(kind, parameters, weight) in plugins {
            add(&mut links, kind, parameters, weight);
        }
        let has = |name: &str| plugins.iter().any(|p| p.0 == name);
        let mut missing = vec!["single-profile-handler"];
        if !plugins.iter().any(|p| p.0.ends_with("-picker")) {
            missing.push("max-score-picker");
        }
        if links.wants_in_flight() && !has("inflight-load-producer") {
            missing.push("inflight-load-producer");
        }
        if links.prefix_producers().any(|p| p == DEFAULT_PREFIX_PRODUCER)
            && !has(DEFAULT_PREFIX_PRODUCER)
        {
            missing.push(DEFAULT_PREFIX_PRODUCER);
        }
        for kind in missing {
            add(&mut links, kind, "", 1.0);
        }

        let roles = || made.iter().map(|(_, roles, _)| roles);
        let profile = Profile {
            name: "default".into(),
            filters: made
                .iter()
                .filter_map(|(name, r, _)| Some((name.clone(), r.filter.clone()?)))
                .collect(),
            scorers: made
                .iter()
                .filter_map(|(name, r, weight)| {
                    let scorer = r.scorer.clone()?;
                    Some(WeightedScorer { name: name.clone(), scorer, weight: *weight })
                })
                .collect(),
            picker: roles().find_map(|r| r.picker.clone()).unwrap(),
        };
        let mut producers: Vec<_> = roles().filter_map(|r| r.producer.clone()).collect();
        producers.sort_by_key(|p| p.stage());
        let scheduler = Scheduler {
            profiles: vec![profile],
            handler: roles().find_map(|r| r.profile_handler.clone()).unwrap(),
            producers,
            observers: roles().filter_map(|r| r.observer.clone()).collect(),
        };
        Self { scheduler, rng: RefCell::new(fastrand::Rng::with_seed(7)) }
    }

    pub fn decide(&self, request: &InferenceRequest, candidates: &[Candidate]) -> Decision {
        let wants = DecisionOptions { scores: true, explanation: true };
        self.scheduler.schedule(request, candidates, Timestamp::START, &self.rng, wants).unwrap()
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
        let wants = DecisionOptions { explanation: true, ..DecisionOptions::default() };
        let candidates = candidates(workers);
        match self.scheduler.schedule(request, &candidates, Timestamp::START, &self.rng, wants) {
            Ok(decision) => explanation(&decision).profiles[0].filters[0].kept.clone(),
            Err(_) => Vec::new(),
        }
    }
}

pub fn explanation(decision: &Decision) -> &Explanation {
    decision.explanation.as_deref().unwrap()
}

/// The index in `workers` of the decision's target.
pub fn target(decision: &Decision, workers: &[Arc<Endpoint>]) -> usize {
    workers.iter().position(|w| Arc::ptr_eq(w, &decision.endpoints[0])).unwrap()
}

pub fn candidates(workers: &[Arc<Endpoint>]) -> Vec<Candidate<'_>> {
    workers.iter().map(Candidate::new).collect()
}

pub fn worker(n: usize, labels: &[(&str, &str)], signals: SignalValues) -> Arc<Endpoint> {
    let endpoint = Endpoint::new(EndpointSpec {
        namespace: "default".into(),
        name: format!("w{n}"),
        pod_name: format!("w{n}"),
        ip: [127, 0, 0, n as u8 + 1].into(),
        port: 8000,
        rank: 0,
        uid: String::new(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    });
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
