//! The filters of GIE v0.5, alone and as a decision tree.

use crate::rig::*;

#[test]
fn queues() {
    let all = loaded(&[(0, 10, 0.0), (0, 12, 0.0), (0, 19, 0.0), (0, 129, 0.0)]);
    let cases: [(&str, &str, &[u32]); 4] = [
        ("low-queue-filter", "", &[0, 1, 2]),
        ("low-queue-filter", "threshold: 11", &[0]),
        ("low-queue-filter", "threshold: 9", &[]),
        // From 10 to 10 + 119 / 4.
        ("least-queue-filter", "", &[0, 1, 2]),
    ];
    for (filter, parameters, expected) in cases {
        let rig = Rig::new(&[(filter, parameters, 1.0)]);
        assert_eq!(rig.kept(&prompt("hi"), &all), expected, "{filter} {parameters}");
    }
    // The range is divided as integers: from 1 to 1 + 2 / 3.
    let rig = Rig::new(&[("least-queue-filter", "", 1.0)]);
    assert_eq!(rig.kept(&prompt("hi"), &loaded(&[(0, 1, 0.0), (0, 2, 0.0), (0, 3, 0.0)])), [0]);
}

#[test]
fn kv_caches() {
    let rig = Rig::new(&[("least-kv-cache-filter", "", 1.0)]);
    // From 0.1 to 0.1 + 0.8 / 4.
    let all = loaded(&[(0, 0, 0.1), (0, 0, 0.29), (0, 0, 0.31), (0, 0, 0.9)]);
    assert_eq!(rig.kept(&prompt("hi"), &all), [0, 1]);
}

#[test]
fn adapters() {
    let all = with_adapters(&[("a", "", 2), ("b", "a", 2), ("b", "", 2), ("bc", "", 2)]);
    let cases: [(&str, f64, &[u32]); 4] =
        [("a", 1.0, &[0, 1]), ("a", 0.0, &[2]), ("d", 1.0, &[0, 2]), ("c", 0.0, &[0, 2])];
    for (adapter, threshold, expected) in cases {
        let parameters = format!("threshold: {threshold}");
        let rig = Rig::new(&[("lora-affinity-filter", &parameters, 1.0)]);
        let kept = rig.kept(&request_for(adapter, "hi"), &all);
        assert_eq!(kept, expected, "{adapter} at {threshold}");
    }
    // Endpoints that say nothing about adapters can serve none.
    let rig = Rig::new(&[("lora-affinity-filter", "", 1.0)]);
    assert_eq!(rig.kept(&request_for("a", "hi"), &workers(2)), [0_u32; 0]);
}

/// The default of GIE v0.5: a low queue if any, the shortest otherwise, then the emptiest cache.
const TREE: &str = "
kind: EndpointPickerConfig
apiVersion: inference.networking.x-k8s.io/v1alpha1
plugins:
- {type: low-queue-filter, parameters: {threshold: 50}}
- type: least-queue-filter
- type: least-kv-cache-filter
- type: decision-tree-filter
  name: tree
  parameters:
    current: {pluginRef: low-queue-filter}
    nextOnSuccess: {pluginRef: least-kv-cache-filter}
    nextOnFailure:
      decisionTree:
        current: {pluginRef: least-queue-filter}
        nextOnSuccessOrFailure: {pluginRef: least-kv-cache-filter}
- type: random-picker
schedulingProfiles:
- name: default
  plugins: [{pluginRef: tree}, {pluginRef: random-picker}]
";

#[test]
fn a_tree_goes_where_results_lead() {
    let rig = Rig::from_yaml(TREE);
    type Load = &'static [(u32, u32, f64)];
    let cases: [(Load, &[u32]); 3] = [
        // The emptiest of those with a low queue.
        (&[(0, 60, 0.0), (0, 40, 0.9), (0, 50, 0.2)], &[2]),
        // No low queue: the shortest ones of all that came in, and the emptier of these.
        (&[(0, 60, 0.5), (0, 60, 0.1), (0, 99, 0.0)], &[1]),
        (&[(0, 99, 0.3)], &[0]),
    ];
    for (state, expected) in cases {
        assert_eq!(rig.kept(&prompt("hi"), &loaded(state)), expected, "{state:?}");
    }
}

#[test]
fn a_tree_says_what_is_wrong_with_it() {
    let cases = [
        ("{}", "current: is missing: the filter to begin with"),
        ("current: {}", "current: must have either a pluginRef or a decisionTree"),
        (
            "current: {pluginRef: a, decisionTree: {current: {pluginRef: b}}}",
            "current: must have either a pluginRef or a decisionTree",
        ),
        (
            "{current: {pluginRef: a}, nextOnSuccess: {pluginRef: b}, \
              nextOnSuccessOrFailure: {pluginRef: b}}",
            "nextOnSuccessOrFailure: excludes nextOnSuccess and nextOnFailure",
        ),
    ];
    for (parameters, expected) in cases {
        let findings = build("decision-tree-filter", parameters).findings;
        assert!(findings.iter().any(|f| f.ends_with(expected)), "{parameters}: {findings:?}");
    }
}
