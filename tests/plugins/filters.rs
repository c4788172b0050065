//! Which workers filters keep.

use std::sync::Arc;

use epp::endpoints::{Endpoint, SignalValues};

use crate::rig::*;

const ROLES: [&str; 8] = [
    "",
    "decode",
    "prefill-decode",
    "both",
    "encode-prefill-decode",
    "prefill",
    "encode-prefill",
    "encode",
];

fn with_roles() -> Vec<Arc<Endpoint>> {
    let one = |(n, role): (usize, &&str)| {
        let labels = [("llm-d.ai/role", *role)];
        worker(n, if role.is_empty() { &[] } else { &labels }, SignalValues::default())
    };
    ROLES.iter().enumerate().map(one).collect()
}

#[test]
fn roles() {
    let cases: [(&str, &[&str]); 3] = [
        ("decode-filter", &["", "decode", "prefill-decode", "both", "encode-prefill-decode"]),
        (
            "prefill-filter",
            &["prefill-decode", "both", "encode-prefill-decode", "prefill", "encode-prefill"],
        ),
        ("encode-filter", &["encode-prefill-decode", "encode-prefill", "encode"]),
    ];
    let all = with_roles();
    for (filter, expected) in cases {
        let rig = Rig::new(&[(filter, "", 1.0)]);
        let kept = rig.kept(&prompt("hi"), &all);
        let names: Vec<&str> = kept.iter().map(|&i| ROLES[i as usize]).collect();
        assert_eq!(names, expected, "{filter}");
    }
}

#[test]
fn labels() {
    let plain = SignalValues::default();
    let all = [
        worker(0, &[("gpu", "h200"), ("tier", "gold")], plain),
        worker(1, &[("gpu", "h100"), ("tier", "silver")], plain),
        worker(2, &[("gpu", "h100"), ("tier", "")], plain),
        worker(3, &[], plain),
    ];
    let in_both = "{matchLabels: {gpu: h100}, \
                   matchExpressions: [{key: tier, operator: In, values: [gold, silver]}]}";
    let cases: [(&str, &str, &[u32]); 15] = [
        ("label-selector-filter", "", &[0, 1, 2, 3]),
        ("label-selector-filter", "{}", &[0, 1, 2, 3]),
        ("label-selector-filter", "matchLabels: {gpu: h100}", &[1, 2]),
        ("label-selector-filter", "matchLabels: {tier: ''}", &[2]),
        ("label-selector-filter", "matchLabels: {gpu: h100, tier: silver}", &[1]),
        ("by-label-selector", "MatchLabels: {gpu: h100}", &[1, 2]),
        ("label-selector-filter", in_both, &[1]),
        (
            "label-selector-filter",
            "matchExpressions: [{key: gpu, operator: NotIn, values: [h100]}]",
            &[0, 3],
        ),
        ("label-selector-filter", "matchExpressions: [{key: gpu, operator: Exists}]", &[0, 1, 2]),
        ("label-selector-filter", "matchExpressions: [{key: gpu, operator: DoesNotExist}]", &[3]),
        ("label-selector-filter", "matchLabels: {gpu: b200}", &[]),
        ("by-label", "{label: gpu, validValues: [h200, b200]}", &[0]),
        ("by-label", "{label: gpu, validValues: [h200], allowsNoLabel: true}", &[0, 3]),
        ("by-label", "{label: gpu, allowsNoLabel: true}", &[3]),
        ("by-label", "{label: tier, validValues: ['']}", &[2, 3]),
    ];
    for (filter, parameters, expected) in cases {
        let rig = Rig::new(&[(filter, parameters, 1.0)]);
        assert_eq!(rig.kept(&prompt("hi"), &all), expected, "{filter} {parameters}");
    }
}

/// Four workers, of which the first holds the whole prompt of 100 tokens and the second the first
/// 64 of them; `in_flight` tokens each. What the filter keeps.
fn sticky(parameters: &str, in_flight: [u32; 4]) -> Vec<u32> {
    let all = workers(4);
    let rig = Rig::new(&[("prefix-cache-affinity-filter", parameters, 1.0)]);
    let text = tokens(1, 100);
    rig.send_to(&prompt(&text), &all[0]);
    rig.send_to(&prompt(&text[..4 * 64]), &all[1]);
    let _held: Vec<_> = all.iter().zip(in_flight).map(|(w, n)| reserve(w.clone(), n)).collect();
    rig.kept(&prompt(&text), &all)
}

#[test]
fn prefix_affinity() {
    let everyone: &[u32] = &[0, 1, 2, 3];
    // At 1000 tokens a second and a penalty of 500 ms, 500 tokens more are still worth it.
    let slow = "{peakPrefillThroughput: 1000, maxTTFTPenaltyMs: 500}";
    let cases = [
        ("", [0; 4], &[0][..]),
        ("affinityThreshold: 0.5", [0; 4], &[0, 1]),
        ("affinityThreshold: 1", [0; 4], &[0]),
        ("affinityThreshold: 0", [0; 4], everyone),
        ("explorationProbability: 1", [0; 4], everyone),
        (slow, [500, 9, 0, 9], &[0]),
        (slow, [501, 9, 0, 9], everyone),
        (slow, [700, 900, 200, 300], &[0]),
        ("{peakPrefillThroughput: 1000, maxTTFTPenaltyMs: 0}", [9999, 0, 0, 0], &[0]),
        ("", [286_704, 0, 0, 0], &[0]),
        ("", [286_705, 0, 0, 0], everyone),
    ];
    for (parameters, in_flight, expected) in cases {
        assert_eq!(sticky(parameters, in_flight), expected, "{parameters} {in_flight:?}");
    }
}

#[test]
fn prefix_affinity_without_a_sticky_worker_or_with_one_worker_keeps_all() {
    let all = workers(3);
    let rig = Rig::new(&[("prefix-cache-affinity-filter", "", 1.0)]);
    let request = prompt(&tokens(1, 100));
    assert_eq!(rig.kept(&request, &all), [0, 1, 2]);
    assert_eq!(rig.kept(&prompt(""), &all), [0, 1, 2]);
    assert_eq!(rig.kept(&prompt(&tokens(2, 100)), &all[..1]), [0]);
    // Where all are sticky there is nobody to compare with.
    let rig = Rig::new(&[("prefix-cache-affinity-filter", "maxTTFTPenaltyMs: 1", 1.0)]);
    all.iter().for_each(|w| rig.send_to(&request, w));
    let _busy = reserve(all[0].clone(), 1_000_000);
    assert_eq!(rig.kept(&request, &all), [0, 1, 2]);
}
