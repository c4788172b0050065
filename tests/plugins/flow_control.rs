//! Policies and detectors of flow control: what they say about their parameters. How they order
//! requests is beside them.

use epp::flow_control::{FairnessPolicy, OrderingPolicy, SaturationDetector, UsageLimit};

use crate::rig::*;

#[test]
fn every_type_plays_its_part_without_parameters() {
    for name in
        ["global-strict-fairness-policy", "round-robin-fairness-policy", "program-aware-fairness"]
    {
        assert!(build(name, "").capabilities.has::<dyn FairnessPolicy>(), "{name}");
    }
    for name in ["fcfs-ordering-policy", "edf-ordering-policy", "slo-deadline-ordering-policy"] {
        assert!(build(name, "").capabilities.has::<dyn OrderingPolicy>(), "{name}");
    }
    for name in ["static-usage-limit-policy", "soft-reflective-ceiling-policy"] {
        assert!(build(name, "").capabilities.has::<dyn UsageLimit>(), "{name}");
    }
    for name in ["utilization-detector", "concurrency-detector", "learned-saturation-detector"] {
        assert!(build(name, "").capabilities.has::<dyn SaturationDetector>(), "{name}");
    }
}

#[test]
fn mistakes_in_parameters_are_found() {
    type Case = (&'static str, &'static str, &'static [&'static str]);
    let cases: &[Case] = &[
        ("soft-reflective-ceiling-policy", "threshold: 1", &["threshold: unknown"]),
        ("learned-saturation-detector", "maxConcurrency: 1", &["maxConcurrency: unknown"]),
        ("static-usage-limit-policy", "threshold: 0.5", &[]),
        ("static-usage-limit-policy", "threshold: 0", &["threshold: must be over 0"]),
        ("priority-holdback-policy", "minCeiling: 0.4", &[]),
        ("priority-holdback-policy", "", &["minCeiling: is missing"]),
        (
            "priority-holdback-policy",
            "{minCeiling: 0.9, maxCeiling: 0.5, shape: curved}",
            &["shape: must be linear", "maxCeiling: must not be under"],
        ),
        (
            "priority-holdback-policy",
            "{minCeiling: 1, maxCeiling: 2, domain: size}",
            &["domain: must be", "minCeiling: must be from 0", "maxCeiling: must be over 0"],
        ),
        ("priority-holdback-policy", "{domain: explicit, ceilings: {100: 0.9, 0: 0.3}}", &[]),
        (
            "priority-holdback-policy",
            "{domain: explicit, ceilings: {100: 0.3, 0: 0.9}, minCeiling: 0.1}",
            &["ceilings: must not rise", "minCeiling: and the domain explicit"],
        ),
        (
            "priority-holdback-policy",
            "{domain: explicit, ceilings: {high: 0.3, 0: 2}}",
            &["ceilings: must map whole"],
        ),
        ("priority-holdback-policy", "domain: explicit", &["ceilings: is missing"]),
        (
            "program-aware-fairness",
            "{strategy: turn-priority, turnPriorityTimeWeight: 0.05, lasWeightService: 1}",
            &[],
        ),
        (
            "program-aware-fairness",
            "{strategy: rr, lasWeightService: -1, evictionSweepSeconds: 0, lasDecayFactor: 0.9}",
            &[
                "lasWeightService: must not be negative",
                "strategy: must be",
                "evictionSweepSeconds: must be longer",
                "lasDecayFactor: unknown",
            ],
        ),
        (
            "concurrency-detector",
            "{concurrencyMode: hybrid, maxConcurrency: 15, maxTokenConcurrency: 10, headroom: 0.2}",
            &[],
        ),
        (
            "concurrency-detector",
            "{concurrencyMode: both, maxConcurrency: 0, headroom: -1}",
            &["concurrencyMode: must be", "maxConcurrency: must be", "headroom: must not be"],
        ),
        ("probabilistic-admitter", "{power: 0, k: 5}", &["power: must be over 0"]),
    ];
    for (name, parameters, expected) in cases {
        let findings = build(name, parameters).findings;
        assert_eq!(findings.len(), expected.len(), "{name} {parameters}: {findings:?}");
        for words in *expected {
            let found = findings.iter().any(|f| f.starts_with(&format!("Error {words}")));
            assert!(found, "{name} {parameters}: {words} is not in {findings:?}");
        }
    }
}
