//! Configurations in today's form: the text that comes out, and that it decides the same.

#[path = "../plugins/rig.rs"]
#[allow(dead_code)]
mod rig;

#[path = "../support/material.rs"]
mod material;

mod decisions;

use epp::endpoints::PoolIds;
use epp::loader::{LoadOptions, load};
use epp::migrate::migrate;

const HEAD: &str = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n";

/// `(before, after)` without the first two lines; each has to load before and after.
fn check(cases: &[(&str, &str)]) {
    for (before, after) in cases {
        let (before, after) = (format!("{HEAD}{before}"), format!("{HEAD}{after}"));
        let migrated = migrate(&before).expect(&before);
        assert_eq!(migrated.text, after, "{:#?}", migrated.changes);
        assert_eq!(migrated.changes.is_empty(), before == after);
        let again = migrate(&after).expect(&after);
        assert_eq!(again.text, after, "a second time: {:#?}", again.changes);
        for text in [before, after] {
            let options =
                LoadOptions { allow_experimental_plugins: true, ..LoadOptions::default() };
            let (pipeline, found) = load("f", Some(&text), &options, &PoolIds::default());
            assert!(pipeline.is_some(), "{text}\n{found}");
        }
    }
}

#[test]
fn the_envelope() {
    let migrated = migrate("# top\nplugins: []\n").expect("YAML");
    assert_eq!(
        migrated.text,
        "# top\nkind: EndpointPickerConfig\napiVersion: llm-d.ai/v1alpha1\nplugins: []\n"
    );
    let old =
        "kind: EndpointPickerConfig\napiVersion: inference.networking.x-k8s.io/v1alpha1 # old\n";
    assert_eq!(
        migrate(old).expect("YAML").text,
        "kind: EndpointPickerConfig\napiVersion: llm-d.ai/v1alpha1 # old\n"
    );
    // What llm-d v0.11 writes is not older.
    let newer = "apiVersion: llm-d.ai/v1\nkind: EndpointPickerConfig\n";
    assert_eq!(migrate(newer).expect("YAML").text, newer);
    check(&[
        // Gates that are gone.
        ("featureGates: [dataLayer, flowControl]\n", "featureGates: [flowControl]\n"),
        (
            "featureGates:\n- flowControl # on\n- dataLayer\nplugins: []\n",
            "featureGates:\n- flowControl # on\nplugins: []\n",
        ),
        ("featureGates:\n- prepareDataPlugins\nplugins: []\n", "plugins: []\n"),
        // Sections under their names and at their places of today.
        (
            "data: # where from\n  injectDefaults: true\n",
            "dataLayer: # where from\n  injectDefaults: true\n",
        ),
        (
            "parser:\n  pluginRef: openai-parser\nplugins:\n- type: openai-parser\n",
            "requestHandler:\n  parsers:\n  - pluginRef: openai-parser\nplugins:\n- type: openai-parser\n",
        ),
        (
            "saturationDetector: {pluginRef: utilization-detector}\nflowControl:\n  maxBytes: 1Gi # at most\n",
            "flowControl:\n  maxBytes: 1Gi # at most\n  saturationDetector:\n    pluginRef: utilization-detector\n",
        ),
        (
            "plugins:\n- type: queue-scorer\nschedulingProfiles:\n- name: default\n  plugins:\n  \
             - pluginRef: queue-scorer\nsaturationDetector:\n  queueDepthThreshold: 7\n  kvCacheUtilThreshold: 1\n",
            "plugins:\n- type: queue-scorer\n- type: utilization-detector\n  parameters:\n    queueDepthThreshold: 7\n\
             schedulingProfiles:\n- name: default\n  plugins:\n  - pluginRef: queue-scorer\n",
        ),
        // Without profiles the detector would be a filter too.
        (
            "plugins:\n- type: queue-scorer\nsaturationDetector:\n  queueDepthThreshold: 7\n",
            "plugins:\n- type: queue-scorer\nsaturationDetector:\n  queueDepthThreshold: 7\n",
        ),
    ]);
}

#[test]
fn types_and_parameters() {
    check(&[
        (
            "plugins:\n- type: kv-cache-scorer # free\n- {type: by-label-selector, name: kv-cache-utilization-scorer}\n",
            "plugins:\n- type: kv-cache-utilization-scorer # free\n  name: kv-cache-scorer\n\
             - {type: label-selector-filter, name: kv-cache-utilization-scorer}\n",
        ),
        (
            "plugins:\n- type: kv-cache-scorer\nschedulingProfiles:\n- name: a\n  plugins:\n  \
             - {pluginRef: kv-cache-scorer, weight: 2} # twice\n",
            "plugins:\n- type: kv-cache-utilization-scorer\nschedulingProfiles:\n- name: a\n  plugins:\n  \
             - {pluginRef: kv-cache-utilization-scorer, weight: 2} # twice\n",
        ),
        (
            "plugins:\n- type: load-aware-scorer\n  parameters:\n    Threshold: 100 # requests\n",
            "plugins:\n- type: load-aware-scorer\n  parameters:\n    threshold: 100 # requests\n",
        ),
        (
            "plugins:\n- type: no-hit-lru-scorer\n  parameters:\n    # where from\n    \
             prefixPluginName: x\n    lruSize: 9\n- parameters: {prefixPluginType: y}\n  type: no-hit-lru-scorer\n  name: b\n",
            "plugins:\n- type: no-hit-lru-scorer\n  parameters:\n    # where from\n    lruSize: 9\n\
             - type: no-hit-lru-scorer\n  name: b\n",
        ),
        (
            "plugins:\n- type: approx-prefix-cache-producer\n  parameters: {blockSize: 128, autoTune: false}\n",
            "plugins:\n- type: approx-prefix-cache-producer\n  parameters: {blockSizeTokens: 128, autoTune: false}\n",
        ),
        (
            "plugins:\n- type: prefix-cache-scorer\n  parameters:\n    mode: estimate\n",
            "plugins:\n- type: prefix-cache-scorer\n",
        ),
        (
            "plugins:\n- type: by-label\n  name: here\n  parameters:\n    label: zone\n    validValues: [a, b]\n",
            "plugins:\n- type: label-selector-filter\n  name: here\n  parameters:\n    matchExpressions:\n    \
             - key: zone\n      operator: In\n      values:\n      - a\n      - b\n",
        ),
    ]);
}

#[test]
fn stages() {
    const PROFILES: &str = "schedulingProfiles:\n- name: decode\n  plugins:\n  - pluginRef: decode-filter\n\
        - name: prefill\n  plugins:\n  - pluginRef: prefill-filter\n";
    let cases = [
        (
            "plugins:\n- type: prefill-header-handler\n- type: pd-profile-handler\n  parameters:\n    \
             threshold: 10 # bytes\n    hashBlockSize: 5\n- type: decode-filter\n- type: prefill-filter\n",
            "plugins:\n- type: disagg-profile-handler\n  parameters:\n    deciders:\n      prefill: prefix-based-pd-decider # bytes\n\
             - type: prefix-based-pd-decider\n  parameters:\n    nonCachedTokens: 3\n- type: decode-filter\n- type: prefill-filter\n",
        ),
        (
            "plugins:\n- type: prefill-header-handler\n- type: pd-profile-handler # splits\n- type: decode-filter\n- type: prefill-filter\n",
            "plugins:\n- type: disagg-profile-handler # splits\n  parameters:\n    deciders:\n      prefill: always-disagg-pd-decider\n\
             - type: always-disagg-pd-decider\n- type: decode-filter\n- type: prefill-filter\n",
        ),
        // Nothing writes the header, so nothing shall.
        (
            "plugins:\n- type: pd-profile-handler\n- type: decode-filter\n- type: prefill-filter\n",
            "plugins:\n- type: pd-profile-handler\n- type: decode-filter\n- type: prefill-filter\n",
        ),
        (
            "plugins:\n- type: disagg-headers-handler\n- type: always-disagg-pd-decider\n- type: disagg-profile-handler\n  \
             parameters: {deciderPluginName: always-disagg-pd-decider, decodeProfile: decode}\n- type: decode-filter\n- type: prefill-filter\n",
            "plugins:\n- type: always-disagg-pd-decider\n- type: disagg-profile-handler\n  \
             parameters:\n    deciders:\n      prefill: always-disagg-pd-decider\n    profiles:\n      decode: decode\n- type: decode-filter\n- type: prefill-filter\n",
        ),
    ];
    let whole =
        cases.map(|(before, after)| (format!("{before}{PROFILES}"), format!("{after}{PROFILES}")));
    check(&whole.each_ref().map(|(before, after)| (before.as_str(), after.as_str())));
}

#[test]
fn scorers_that_follow_engines() {
    check(&[
        (
            "plugins:\n- type: precise-prefix-cache-scorer\n  parameters:\n    kvEventsConfig: {topicFilter: kv@} # all\n    \
             indexerConfig:\n      tokenizersPoolConfig: {modelName: m}\n\
             - type: no-hit-lru-scorer\n  parameters: {prefixMatchInfoProducerName: precise-prefix-cache-scorer}\n\
             schedulingProfiles:\n- name: a\n  plugins:\n  - pluginRef: precise-prefix-cache-scorer\n    weight: 2\n  - pluginRef: no-hit-lru-scorer\n",
            "plugins:\n- type: precise-prefix-cache-producer\n  parameters:\n    kvEventsConfig: {topicFilter: kv@} # all\n\
             - type: prefix-cache-scorer\n  parameters:\n    prefixMatchInfoProducerName: precise-prefix-cache-producer\n\
             - type: no-hit-lru-scorer\n  parameters: {prefixMatchInfoProducerName: precise-prefix-cache-producer}\n\
             schedulingProfiles:\n- name: a\n  plugins:\n  - pluginRef: prefix-cache-scorer\n    weight: 2\n  - pluginRef: no-hit-lru-scorer\n",
        ),
        (
            "plugins:\n- {type: precise-prefix-cache-producer, name: p}\n- type: precise-prefix-cache-scorer\n",
            "plugins:\n- {type: precise-prefix-cache-producer, name: p}\n- type: prefix-cache-scorer\n  parameters:\n    prefixMatchInfoProducerName: p\n",
        ),
    ]);
}

#[test]
fn trees_that_are_rows() {
    const REST: &str = "schedulingProfiles:\n- name: a\n  plugins:\n";
    let cases = [
        (
            "plugins:\n- type: low-queue-filter\n- type: least-kv-cache-filter\n- type: decision-tree-filter\n  name: tree\n  parameters:\n    \
             current: {pluginRef: low-queue-filter}\n    nextOnSuccess:\n      decisionTree:\n        current: {pluginRef: least-kv-cache-filter}\n",
            "  - pluginRef: tree # first\n",
            "plugins:\n- type: low-queue-filter\n- type: least-kv-cache-filter\n",
            "  - pluginRef: low-queue-filter # first\n  - pluginRef: least-kv-cache-filter\n",
        ),
        // A failure that goes on elsewhere.
        (
            "plugins:\n- type: low-queue-filter\n- type: least-queue-filter\n- type: decision-tree-filter\n  parameters:\n    \
             current: {pluginRef: low-queue-filter}\n    nextOnFailure: {pluginRef: least-queue-filter}\n",
            "  - pluginRef: decision-tree-filter\n",
            "plugins:\n- type: low-queue-filter\n- type: least-queue-filter\n- type: decision-tree-filter\n  parameters:\n    \
             current: {pluginRef: low-queue-filter}\n    nextOnFailure: {pluginRef: least-queue-filter}\n",
            "  - pluginRef: decision-tree-filter\n",
        ),
    ];
    let whole = cases.map(|(a, b, c, d)| (format!("{a}{REST}{b}"), format!("{c}{REST}{d}")));
    check(&whole.each_ref().map(|(before, after)| (before.as_str(), after.as_str())));
}

#[test]
fn what_is_left_is_told() {
    let text = format!(
        "{HEAD}plugins:\n- type: prefix-cache-scorer\n  parameters: {{hashBlockSize: 64}}\n\
         - type: by-label\n  parameters: {{label: l, validValues: [a], allowsNoLabel: true}}\n\
         - type: pd-profile-handler\n"
    );
    let migrated = migrate(&text).expect("YAML");
    assert_eq!(migrated.text, text);
    let starts: Vec<&str> =
        migrated.left.iter().map(|l| l.split(" left: ").next().unwrap()).collect();
    assert_eq!(
        starts,
        [
            "plugins[0] (prefix-cache-scorer): hashBlockSize:",
            "plugins[1] (by-label): by-label is",
            "plugins[2] (pd-profile-handler): pd-profile-handler is",
        ]
    );
}
