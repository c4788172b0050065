//! Both texts on the same pools, with the same requests and the same dice.

use epp::endpoints::{LoraSignals, PoolIds, SignalValues};
use epp::loader::{LoadOptions, load};
use epp::migrate::migrate;
use epp::scheduling::{Decision, DecisionOptions, Refusal};

use super::material::{files, root, shared};
use super::rig::{Rig, candidates, request_for, tokens, worker};

/// Where every request of a fixed stream goes, and with which scores and headers.
fn decisions(yaml: &str, seed: u64) -> Vec<String> {
    let rig = Rig::from_yaml(yaml);
    let mut dice = fastrand::Rng::with_seed(seed);
    let roles = ["decode", "prefill", "both", "encode", "prefill-decode", ""];
    let pool: Vec<_> = (0..8)
        .map(|n| {
            let role = dice.choice(roles).unwrap_or_default();
            let labels = [("llm-d.ai/role", role), ("zone", "a")];
            let labels = if role.is_empty() { &labels[1..] } else { &labels[..] };
            let signals = SignalValues {
                running: dice.u32(0..20),
                waiting: dice.u32(0..150),
                kv_usage: dice.f64(),
                ..SignalValues::default()
            };
            let worker = worker(n, labels, signals);
            let running = if dice.bool() { vec!["m".to_owned()] } else { Vec::new() };
            worker.signals.store_lora(Some(LoraSignals { running, waiting: Vec::new(), max: 2 }));
            worker
        })
        .collect();
    let mut held = Vec::new();
    (0..40)
        .map(|_| {
            let text = tokens(dice.u32(0..4), dice.usize(1..600));
            let request = request_for("m", &text);
            let options = DecisionOptions { scores: true, ..DecisionOptions::default() };
            let decided = rig.schedule(&request, &candidates(&pool), options);
            let told = told(&decided);
            held.extend(decided.ok().filter(|_| dice.bool()));
            told
        })
        .collect()
}

fn told(decided: &Result<Decision, Refusal>) -> String {
    let decision = match decided {
        Ok(decision) => decision,
        Err(refusal) => return format!("{:?}", refusal.error.code),
    };
    let profiles: Vec<_> = decision
        .profiles
        .iter()
        .map(|p| (&*p.profile, p.endpoints.iter().map(|e| &*e.host_port).collect::<Vec<_>>()))
        .collect();
    let mut headers = decision.directions.headers().to_vec();
    headers.sort();
    format!("{profiles:?} {:?} {headers:?} {:?}", decision.scores, decision.directions.port())
}

/// How many changes were made.
fn check(name: &str, text: &str) -> usize {
    let options = LoadOptions { allow_experimental_plugins: true, ..LoadOptions::default() };
    let (before, _) = load(name, Some(text), &options, &PoolIds::default());
    let Some(before) = before else { return 0 };
    let Ok(migrated) = migrate(text) else { return 0 };
    let (after, found) = load(name, Some(&migrated.text), &options, &PoolIds::default());
    let after = after.unwrap_or_else(|| panic!("{name}: {found}\n{}", migrated.text));
    assert_eq!(before.parsers, after.parsers, "{name}");
    assert_eq!(before.flow_control.is_some(), after.flow_control.is_some(), "{name}");
    assert_eq!(format!("{:?}", before.saturation), format!("{:?}", after.saturation), "{name}");
    assert_eq!(format!("{:?}", before.scrape), format!("{:?}", after.scrape), "{name}");
    assert_eq!(format!("{:?}", before.engines), format!("{:?}", after.engines), "{name}");
    for seed in 0..2 {
        let (old, new) = (decisions(text, seed), decisions(&migrated.text, seed));
        for (n, (old, new)) in old.iter().zip(&new).enumerate() {
            let changes = &migrated.changes;
            assert_eq!(old, new, "{name}, request {n}: {changes:#?}\n{}", migrated.text);
        }
    }
    let again = migrate(&migrated.text).expect("what was written");
    assert_eq!(again.changes, Vec::<String>::new(), "{name}: a second time");
    migrated.changes.len()
}

#[test]
fn our_samples_decide_as_before() {
    let paths = files(&root().join("config"));
    for path in paths.iter().filter(|path| !path.ends_with("endpoints.yaml")) {
        let text = std::fs::read_to_string(path).expect("a text");
        check(&path.display().to_string(), &text);
    }
}

const OLD: [&str; 4] = [
    "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n\
     plugins:\n- type: prefill-header-handler\n- type: prefix-cache-scorer\n  parameters: {hashBlockSize: 5}\n\
     - type: prefill-filter\n- type: decode-filter\n- type: max-score-picker\n- type: kv-cache-scorer\n\
     - type: pd-profile-handler\n  parameters: {threshold: 1000, hashBlockSize: 5}\n\
     schedulingProfiles:\n- name: prefill\n  plugins:\n  - pluginRef: prefill-filter\n  - pluginRef: max-score-picker\n  \
     - {pluginRef: prefix-cache-scorer, weight: 2}\n\
     - name: decode\n  plugins:\n  - pluginRef: decode-filter\n  - pluginRef: max-score-picker\n  \
     - {pluginRef: prefix-cache-scorer, weight: 2}\n  - {pluginRef: kv-cache-scorer, weight: 1}\n",
    "kind: EndpointPickerConfig\nplugins:\n- type: precise-prefix-cache-scorer\n  parameters:\n    \
     indexerConfig: {tokenProcessorConfig: {blockSize: 32}}\n- type: queue-scorer\n- type: no-hit-lru-scorer\n  \
     parameters: {prefixMatchInfoProducerName: precise-prefix-cache-scorer}\n\
     parser: {pluginRef: openai-parser}\nsaturationDetector: {pluginRef: utilization-detector}\n",
    "plugins:\n- type: low-queue-filter\n  parameters: {threshold: 60}\n- type: least-queue-filter\n- type: decision-tree-filter\n  parameters:\n    \
     current: {pluginRef: least-queue-filter}\n    nextOnSuccessOrFailure: {pluginRef: low-queue-filter}\n\
     - type: random-picker\nschedulingProfiles:\n- name: default\n  plugins:\n  - pluginRef: decision-tree-filter\n  - pluginRef: random-picker\n",
    "plugins:\n- type: by-label\n  parameters: {label: llm-d.ai/role, validValues: [decode, both]}\n- type: weighted-random-picker\n\
     - type: lora-affinity-scorer\n",
];

#[test]
fn old_configurations_decide_as_before() {
    for (n, text) in OLD.iter().enumerate() {
        assert!(check(&format!("case {n}"), text) > 1, "{text}");
    }
}

#[test]
fn configurations_of_others_decide_as_before() {
    let Some(corpus) = shared("reference-configs") else { return };
    let paths = files(&corpus);
    let mut changed = 0;
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        changed += usize::from(check(&path.display().to_string(), &text) > 0);
    }
    assert!(changed > 50, "only {changed} were rewritten");
}

#[test]
fn texts_that_end_anywhere_are_read_or_refused() {
    for text in OLD {
        for (at, _) in text.char_indices() {
            // Whatever it is, it is no reason to panic, and what comes out is YAML.
            if let Ok(migrated) = migrate(&text[..at]) {
                assert!(epp::config::parse(&migrated.text).is_ok(), "{}", migrated.text);
            }
        }
    }
}
