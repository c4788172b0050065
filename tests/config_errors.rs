//! Every mistake in a configuration is reported with its place and what was meant.

use std::sync::LazyLock;

use epp::catalogue;
use epp::config::parse;
use epp::endpoints::PoolIds;
use epp::loader::{LoadOptions, load};

const HEAD: &str = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n";

fn findings(text: &str) -> Vec<String> {
    let (pipeline, diagnostics) =
        load("f", Some(text), &LoadOptions::default(), &PoolIds::default());
    assert_eq!(pipeline.is_none(), diagnostics.has_errors(), "{text}\n{diagnostics}");
    diagnostics.to_string().lines().map(str::to_owned).collect()
}

/// Cases of a document and its findings, in any order.
fn check_table(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        let mut got = findings(text);
        let mut expected: Vec<_> = expected.iter().map(|s| (*s).to_owned()).collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "\n{text}");
        check_schema(text, &got);
    }
}

/// What is wrong with a configuration as a whole, which no schema can tell.
const OF_THE_WHOLE: [&str; 12] = [
    " is called '",
    "duplicate plugin name",
    "has the name of type",
    "is configured twice",
    "is not a ",
    "is reserved",
    "one metrics source",
    "pickers:",
    "pluginRef: plugin type",
    "profiles need a profile handler",
    "there is a profile handler already",
    "two profiles are called",
];

/// The JSON Schema marks a configuration if the loader refuses it, unless only all of it tells what
/// is wrong; and it marks none that is right.
fn check_schema(text: &str, findings: &[String]) {
    static SCHEMA: LazyLock<jsonschema::Validator> =
        LazyLock::new(|| jsonschema::draft7::new(&catalogue::schema()).expect("a JSON Schema"));
    let Ok(Some(document)) = parse(text) else { return };
    let marks: Vec<String> = SCHEMA
        .iter_errors(&document.to_json())
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    let errors: Vec<&String> = findings.iter().filter(|f| !f.contains(": warning: ")).collect();
    if errors.is_empty() {
        assert!(marks.is_empty(), "marked without need: {marks:?}\n{text}");
    }
    let of_the_whole = |error: &&&String| OF_THE_WHOLE.iter().any(|p| error.contains(p));
    let others: Vec<_> = errors.iter().filter(|e| !of_the_whole(e)).collect();
    assert!(others.is_empty() || !marks.is_empty(), "not marked: {others:?}\n{text}");
}

/// The same for what follows the first two lines of a document.
fn check_bodies(cases: &[(&str, &[&str])]) {
    let documents: Vec<_> = cases.iter().map(|(body, _)| format!("{HEAD}{body}")).collect();
    let cases: Vec<_> =
        documents.iter().map(String::as_str).zip(cases.iter().map(|(_, e)| *e)).collect();
    check_table(&cases);
}

#[test]
fn the_envelope() {
    check_table(&[
        ("# nothing", &["f: has no document: expected an EndpointPickerConfig"]),
        ("~", &["f:1:1: must be an EndpointPickerConfig, found null"]),
        ("[]", &["f:1:1: must be a mapping, found a list"]),
        (
            "{}",
            &[
                "f:1:1: warning: apiVersion: is missing: taken for llm-d.ai/v1alpha1",
                "f:1:1: warning: kind: is missing: taken for EndpointPickerConfig",
            ],
        ),
        (
            "apiVersion: ''\nkind: ''",
            &[
                "f:1:1: warning: apiVersion: is missing: taken for llm-d.ai/v1alpha1",
                "f:2:1: warning: kind: is missing: taken for EndpointPickerConfig",
            ],
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\ndata: {}",
            &["f:2:7: kind: must be EndpointPickerConfig, found 'ConfigMap'"],
        ),
        (
            "apiVersion: llm-d.ai/v2\nkind: EndpointPickerConfig",
            &["f:1:13: apiVersion: must be llm-d.ai/v1alpha1 or \
               inference.networking.x-k8s.io/v1alpha1 or llm-d.ai/v1, found 'llm-d.ai/v2'"],
        ),
        (
            "apiVersion: 1\nkind: EndpointPickerConfig",
            &["f:1:13: apiVersion: must be a string, found an integer"],
        ),
        ("kind: [", &["f:2:1: while parsing a node, did not find expected node content"]),
        (
            "kind: EndpointPickerConfig\nkind: EndpointPickerConfig",
            &["f:2:1: key 'kind' stands twice, first on line 1"],
        ),
    ]);
}

#[test]
fn fields_are_strict_where_the_references_are() {
    check_bodies(&[
        ("Plugins: []", &["f:3:1: Plugins: unknown field 'Plugins'; did you mean 'plugins'?"]),
        ("plugins: {}", &["f:3:10: plugins: must be a list, found a mapping"]),
        (
            "plugins:\n- queue-scorer\n- ~",
            &[
                "f:4:3: plugins[0]: must be a mapping, found a string",
                "f:5:3: plugins[1]: must be a mapping, found null",
            ],
        ),
        (
            "plugins:\n- type: queue-scorer\n  param: {}",
            &["f:5:3: plugins[0].param: unknown field 'param'; did you mean 'parameters'?"],
        ),
        (
            "plugins:\n- type: queue-scorer\nschedulingProfiles:\n- name: a\n  plugins:\n  \
             - {pluginRef: queue-scorer, weigth: 2}\n  - {pluginRef: queue-scorer, weight: x}",
            &[
                "f:8:31: schedulingProfiles[0].plugins[0].weigth: unknown field 'weigth'; \
                 did you mean 'weight'?",
                "f:9:39: schedulingProfiles[0].plugins[1].weight: must be a number, found a string",
            ],
        ),
        (
            "plugins:\n- type: load-aware-scorer\n  parameters: {treshold: 3, THRESHOLD: x}",
            &[
                "f:5:16: plugins[0].parameters.treshold: unknown field 'treshold'; \
                 did you mean 'threshold'?",
                "f:5:40: plugins[0].parameters.threshold: must be an integer, found a string",
            ],
        ),
    ]);
}

#[test]
fn plugins_and_references() {
    check_bodies(&[
        (
            "plugins:\n- name: a\n- type: queue-scorrer\n- type: queue-scorer\n- type: queue-scorer",
            &[
                "f:4:3: plugins[0].type: is missing",
                "f:5:9: plugins[1].type: plugin type 'queue-scorrer' is unknown; \
                 did you mean 'queue-scorer'?",
                "f:7:9: plugins[3].name: duplicate plugin name 'queue-scorer', first on line 6",
            ],
        ),
        (
            "plugins:\n- type: multicluster-queue-scorer\n- type: multicluster-file-discovery",
            &[
                "f:4:9: plugins[0].type: plugin type 'multicluster-queue-scorer' of the reference \
                 is not available in this version",
                "f:5:9: plugins[1].type: plugin type 'multicluster-file-discovery' of the \
                 reference is not available in this version",
            ],
        ),
        // Names of types are for defaults.
        (
            "plugins:\n- {type: queue-scorer, name: max-score-picker}\n\
             - {type: queue-scorer, name: utilization-detector}\n\
             - {type: queue-scorer, name: openai-parser}",
            &[
                "f:4:30: plugins[0]: a plugin of type 'queue-scorer' has the name of type \
                 'max-score-picker', which must be added under that name; give it another",
                "f:5:30: plugins[1]: a plugin of type 'queue-scorer' has the name of type \
                 'utilization-detector', which must be added under that name; give it another",
                "f:6:30: plugins[2]: a plugin of type 'queue-scorer' has the name of type \
                 'openai-parser', which must be added under that name; give it another",
            ],
        ),
        // A plugin that could not be made is not missed a second time.
        (
            "plugins:\n- type: quue-scorer\n  name: q\nschedulingProfiles:\n- name: default\n  \
             plugins:\n  - pluginRef: q",
            &["f:4:9: plugins[0].type: plugin type 'quue-scorer' is unknown; \
               did you mean 'queue-scorer'?"],
        ),
        (
            "plugins:\n- {type: queue-scorer, name: queue}\nschedulingProfiles:\n- name: a\n  \
             plugins:\n  - pluginRef: quee\n  - pluginRef: random-picker\n  - pluginRef: ''\n  - {}",
            &[
                "f:4:30: warning: plugins[0]: plugin 'queue' has no effect: nothing refers to it",
                "f:8:16: schedulingProfiles[0].plugins[0].pluginRef: no plugin is called 'quee'; \
                 did you mean 'queue'?",
                "f:9:16: schedulingProfiles[0].plugins[1].pluginRef: no plugin is called \
                 'random-picker'; add '- type: random-picker' to plugins",
                "f:10:16: schedulingProfiles[0].plugins[2].pluginRef: is empty: name a plugin",
                "f:11:5: schedulingProfiles[0].plugins[3].pluginRef: is missing: name a plugin",
            ],
        ),
    ]);
}

#[test]
fn profiles_pickers_and_handlers() {
    check_bodies(&[
        (
            "plugins:\n- type: max-score-picker\n- type: random-picker\nschedulingProfiles:\n\
             - name: a\n  plugins:\n  - pluginRef: max-score-picker\n  - pluginRef: random-picker",
            &["f:7:9: schedulingProfiles[0]: profile 'a' has 2 pickers: \
               'max-score-picker', 'random-picker'"],
        ),
        (
            "plugins:\n- type: max-score-picker\n- type: random-picker",
            &["f: schedulingProfiles: profile 'default' has 2 pickers: \
               'max-score-picker', 'random-picker'"],
        ),
        (
            "schedulingProfiles:\n- name: a\n- name: a\n- plugins: []",
            &[
                "f:5:9: schedulingProfiles[1].name: two profiles are called 'a'",
                "f:6:3: schedulingProfiles[2].name: is missing",
                "f: schedulingProfiles: 3 profiles need a profile handler among the plugins that \
                 says which run",
            ],
        ),
        (
            "plugins:\n- type: single-profile-handler\n- {type: single-profile-handler, name: b}",
            &["f:5:40: plugins[1]: there is a profile handler already, 'single-profile-handler'"],
        ),
        (
            "plugins:\n- type: queue-scorer\n- type: token-producer\n- type: max-score-picker\n\
             schedulingProfiles:\n- name: a\n  plugins:\n  - {pluginRef: max-score-picker, weight: 2}\n  \
             - pluginRef: openai-parser",
            &[
                "f:4:9: warning: plugins[0]: plugin 'queue-scorer' has no effect: \
                 nothing refers to it",
                "f:10:17: warning: schedulingProfiles[0].plugins[0].pluginRef: the weight has no \
                 effect: plugin 'max-score-picker' is not a scorer",
                "f:11:16: schedulingProfiles[0].plugins[1].pluginRef: no plugin is called \
                 'openai-parser'; add '- type: openai-parser' to plugins",
            ],
        ),
        (
            "plugins:\n- type: openai-parser\nschedulingProfiles:\n- name: a\n  plugins:\n  \
             - pluginRef: openai-parser",
            &[
                "f:8:16: warning: schedulingProfiles[0].plugins[0].pluginRef: plugin 'openai-parser' \
               has no effect here: it is no part of a profile",
            ],
        ),
    ]);
}

#[test]
fn what_defaulting_adds_can_be_named() {
    check_bodies(&[(
        "schedulingProfiles:\n- name: a\n  plugins:\n  - pluginRef: utilization-detector\n  \
         - pluginRef: max-score-picker\n  - pluginRef: single-profile-handler",
        &["f:8:16: warning: schedulingProfiles[0].plugins[2].pluginRef: plugin \
           'single-profile-handler' has no effect here: it is no part of a profile"],
    )]);
}

#[test]
fn yaml_as_the_reference_reads_it() {
    check_bodies(&[
        (
            "plugins:\n- &scorer {type: load-aware-scorer, parameters: {threshold: 0x10}}\n\
             - {<<: *scorer, name: b}\n- {type: approx-prefix-cache-producer, \
             parameters: {autoTune: off, blockSizeTokens: 1_000}}",
            &[],
        ),
        (
            "plugins:\n- {type: queue-scorer, name: on}\n\
             - {type: load-aware-scorer, parameters: {threshold: 10000000000000000000000}}",
            &[
                "f:4:30: plugins[0].name: must be a string (put it in quotes), found a boolean",
                "f:5:53: plugins[1].parameters.threshold: is too large for an integer",
            ],
        ),
        ("plugins:\n- <<: 3", &["f:4:7: what '<<' takes over must be a mapping"]),
    ]);
}

#[test]
fn producers() {
    check_bodies(&[
        (
            "plugins:\n- {type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: ''}}\n\
             - {type: active-request-scorer, parameters: {inFlightLoadProducerName: ''}}",
            &[],
        ),
        (
            "plugins:\n- {type: inflight-load-producer, name: mine}\n\
             - {type: active-request-scorer, parameters: {inFlightLoadProducerName: mine}}\n\
             - {type: token-load-scorer, parameters: {inFlightLoadProducerName: mein}}\n\
             - {type: queue-scorer, name: q}\n\
             - {type: prefix-cache-affinity-filter, parameters: {inFlightLoadProducerName: q}}",
            &[
                "f:6:68: plugins[2].parameters.inFlightLoadProducerName: no plugin is called \
                 'mein'; did you mean 'mine'?",
                "f:8:79: plugins[4].parameters.inFlightLoadProducerName: plugin 'q' of type \
                 'queue-scorer' is not a producer of what is in flight",
            ],
        ),
        (
            "plugins:\n- type: prefix-cache-scorer\n  parameters:\n    \
             prefixMatchInfoProducerName: approx-prefix-cache-producr\n\
             - type: approx-prefix-cache-producer",
            &["f:6:34: plugins[0].parameters.prefixMatchInfoProducerName: no plugin is called \
               'approx-prefix-cache-producr'; did you mean 'approx-prefix-cache-producer'?"],
        ),
        (
            "plugins:\n- type: prefix-cache-scorer\n  parameters:\n    \
             prefixMatchInfoProducerName: queue-scorer\n- type: queue-scorer",
            &[
                "f:6:34: plugins[0].parameters.prefixMatchInfoProducerName: plugin 'queue-scorer' of \
               type 'queue-scorer' is not a prefix producer",
            ],
        ),
        // The producer exists in the reference: its absence is reported once.
        (
            "plugins:\n- type: prefix-cache-scorer\n  parameters:\n    \
             prefixMatchInfoProducerName: multicluster-approx-prefix-cache-producer\n\
             - type: multicluster-approx-prefix-cache-producer",
            &[
                "f:7:9: plugins[1].type: plugin type 'multicluster-approx-prefix-cache-producer' of \
               the reference is not available in this version",
            ],
        ),
    ]);
}

#[test]
fn feature_gates() {
    check_bodies(&[
        ("featureGates: [flowControl=false, 'haPopulateNonLeaderDatastore= T ']", &[]),
        (
            "featureGates: [' flowControl=false']",
            &["f:3:16: featureGates[0]: feature gate ' flowControl' is unknown; did you mean \
               'flowControl'?"],
        ),
        (
            "featureGates:\n- flowControl\n- flowcontrol\n- dataLayer\n- flowControl=maybe\n- 3",
            &[
                "f:5:3: featureGates[1]: feature gate 'flowcontrol' is unknown; \
                 did you mean 'flowControl'?",
                "f:6:3: warning: featureGates[2]: gate 'dataLayer' has no effect: the reference \
                 removed it",
                "f:7:3: featureGates[3]: the value of gate 'flowControl' must be true or false, \
                 found 'flowControl=maybe'",
                "f:8:3: featureGates[4]: must be a string such as name=true, found an integer",
            ],
        ),
        (
            "featureGates: [haPopulateNonLeaderDatastore=false]",
            &["f:3:16: warning: featureGates[0]: gate 'haPopulateNonLeaderDatastore' has no \
               effect: every replica keeps its endpoints up to date"],
        ),
    ]);
}

#[test]
fn flow_control_is_checked_though_it_is_off() {
    check_bodies(&[
        ("flowControl:\n  saturationDetector: {pluginRef: utilization-detector}", &[]),
        ("flowControl:\n  saturationDetector: {}", &[]),
        (
            "flowControl:\n  maxBytes: 1Gi\n  maxRequests: 500\n  defaultRequestTTL: 0s\n  \
             defaultPriorityBand: {fairnessPolicyRef: x}\n  \
             priorityBands: [{priority: 1, maxBytes: '5M'}, {priority: -1}]",
            &["f:4:3: warning: flowControl: has no effect, apart from saturationDetector: the \
               feature gate flowControl is off"],
        ),
        (
            "flowControl:\n  maxBytes: -1\n  maxRequests: 1Zi\n  defaultRequestTTL: 5\n  \
             enableEviction: 1\n  priorityBands: [{priority: 1}, {priority: 1, maxByte: 1}]\n  \
             saturationDetector: {pluginRef: queue-scorer}",
            &[
                "f:4:3: warning: flowControl: has no effect, apart from saturationDetector: the \
                 feature gate flowControl is off",
                "f:4:3: warning: flowControl.maxBytes: must not be negative",
                "f:5:16: flowControl.maxRequests: must be a quantity such as 500 or 1Gi",
                "f:6:22: flowControl.defaultRequestTTL: must be a duration such as 50ms or 2m30s, \
                 found an integer",
                "f:7:19: flowControl.enableEviction: must be true or false, found an integer",
                "f:8:35: warning: flowControl.priorityBands[1].priority: priority 1 has two bands",
                "f:8:48: flowControl.priorityBands[1].maxByte: unknown field 'maxByte'; \
                 did you mean 'maxBytes'?",
                "f:9:35: flowControl.saturationDetector.pluginRef: no plugin is called \
                 'queue-scorer'; add '- type: queue-scorer' to plugins",
            ],
        ),
    ]);
}

#[test]
fn flow_control_that_is_on() {
    check_bodies(&[
        (
            "featureGates: [flowControl]\nflowControl:\n  maxBytes: 10Gi\n  maxRequests: 1k\n  \
             defaultRequestTTL: 0s\n  noEndpointRequestTTL: 5m\n  enableEviction: true\n  \
             priorityBands:\n  - {priority: 100, maxRequests: '500', maxBytes: 0, \
             defaultRequestTTL: 9000s, orderingPolicyRef: o}\n  - {priority: -1, \
             fairnessPolicyRef: program-aware-fairness}\n  defaultNegativePriorityBand: \
             {fairnessPolicyRef: global-strict-fairness-policy}\n  usageLimitPolicyPluginRef: u\n\
             plugins:\n- type: program-aware-fairness\n- {type: edf-ordering-policy, name: o}\n\
             - {type: static-usage-limit-policy, name: u, parameters: {threshold: 0.9}}",
            &[],
        ),
        (
            "featureGates: [flowControl]\nflowControl:\n  maxBytes: -1\n  priorityBands: \
             [{priority: 1}, {priority: 1}, {priority: 99999999999}]\n  \
             usageLimitPolicyPluginRef: nope\n  defaultPriorityBand: {orderingPolicyRef: d, \
             fairnessPolicyRef: d}\n  saturationDetector: {pluginRef: d}\n\
             plugins: [{type: utilization-detector, name: d}]",
            &[
                "f:5:13: flowControl.maxBytes: must not be negative",
                "f:6:45: flowControl.priorityBands[1].priority: priority 1 has two bands",
                "f:6:60: flowControl.priorityBands[2].priority: must be a number of 32 bits",
                "f:7:30: flowControl.usageLimitPolicyPluginRef: no plugin is called 'nope'",
                "f:8:44: flowControl.defaultPriorityBand.orderingPolicyRef: plugin 'd' of type \
                 'utilization-detector' is not a ordering policy",
                "f:8:66: flowControl.defaultPriorityBand.fairnessPolicyRef: plugin 'd' of type \
                 'utilization-detector' is not a fairness policy",
            ],
        ),
    ]);
}

#[test]
fn saturation_detectors() {
    check_bodies(&[
        (
            "saturationDetector: {pluginRef: utilization-detector}",
            &["f:3:1: warning: saturationDetector: is deprecated: write \
               flowControl.saturationDetector"],
        ),
        (
            "saturationDetector:\n  queueDepthThreshold: 0\n  kvCacheUtilThreshold: 1\n  \
             metricsStalenessThreshold: 1s\n  other: 1",
            &[
                "f:3:1: warning: saturationDetector: is deprecated: give the thresholds to a \
                 plugin of type utilization-detector",
                "f:4:3: warning: saturationDetector.queueDepthThreshold: is out of range; \
                 the default is used",
                "f:5:3: warning: saturationDetector.kvCacheUtilThreshold: is out of range; \
                 the default is used",
                "f:7:3: saturationDetector.other: unknown field 'other'; known here: \
                 pluginRef, queueDepthThreshold, kvCacheUtilThreshold, metricsStalenessThreshold",
            ],
        ),
        (
            "plugins:\n- type: queue-scorer\nflowControl:\n  saturationDetector:\n    \
             pluginRef: queue-scorer",
            &["f:7:16: flowControl.saturationDetector.pluginRef: plugin 'queue-scorer' of type \
               'queue-scorer' is not a saturation detector"],
        ),
        (
            "plugins:\n- type: utilization-detector\n  parameters: {queueDepthThreshold: 0, \
             kvCacheUtilThreshold: 1.5, metricsStalenessThreshold: 0s, headroom: -1}",
            &[
                "f:5:37: plugins[0].parameters.queueDepthThreshold: must be at least 1, found 0",
                "f:5:62: plugins[0].parameters.kvCacheUtilThreshold: must be over 0 and up to 1, \
                 found 1.5",
                "f:5:94: plugins[0].parameters.metricsStalenessThreshold: must be longer than 0",
                "f:5:108: plugins[0].parameters.headroom: must not be negative, found -1",
            ],
        ),
    ]);
}

#[test]
fn parsers() {
    check_bodies(&[
        (
            "requestHandler:\n  parsers:\n  - pluginRef: openai-parser\n  - pluginRef: openai-parser",
            &[
                "f:6:16: warning: requestHandler.parsers[1].pluginRef: plugin 'openai-parser' has no \
               effect: 'openai-parser' comes first",
            ],
        ),
        (
            "plugins:\n- type: queue-scorer\nrequestHandler:\n  parsers:\n  - pluginRef: opnai-parser\n  \
             - pluginRef: multicluster-metrics-extractor\n  - pluginRef: queue-scorer",
            &[
                "f:7:16: requestHandler.parsers[0].pluginRef: no parser is called 'opnai-parser'; \
                 did you mean 'openai-parser'?",
                "f:8:16: requestHandler.parsers[1].pluginRef: plugin type \
                 'multicluster-metrics-extractor' of the reference is not available in this \
                 version",
                "f:9:16: requestHandler.parsers[2].pluginRef: plugin 'queue-scorer' of type \
                 'queue-scorer' is not a parser",
            ],
        ),
        (
            "parser: {pluginRef: anthropic-parser}",
            &["f:3:1: warning: parser: is deprecated: write requestHandler.parsers"],
        ),
    ]);
}

#[test]
fn data_layer() {
    check_bodies(&[
        // Other pages than metrics.
        (
            "plugins:\n- {type: models-data-source, parameters: {port: 1}}\n\
             - type: models-data-extractor\n- type: core-metrics-extractor\ndataLayer:\n  sources:\n  \
             - pluginRef: models-data-source\n    extractors: [{pluginRef: core-metrics-extractor}]",
            &[
                "f:4:43: plugins[0].parameters.port: unknown field 'port'; known here: scheme, path, \
                 insecureSkipVerify, caCertPath, clientCertPath, clientKeyPath, interval",
                "f:5:9: warning: plugins[1]: plugin 'models-data-extractor' has no effect: no data \
                 source names it",
                "f:10:30: dataLayer.sources[0].extractors[0].pluginRef: plugin \
                 'core-metrics-extractor' of type 'core-metrics-extractor' is not a reader of \
                 what this source asks for",
            ],
        ),
        (
            "plugins:\n- type: models-data-source\ndataLayer:\n  sources:\n  \
             - pluginRef: models-data-source",
            &[
                "f:7:16: warning: dataLayer.sources[0].pluginRef: has no effect: no extractor reads \
               what it asks for",
            ],
        ),
        (
            "plugins:\n- {type: k8s-notification-source, parameters: {version: v1}}\n\
             - {type: k8s-notification-source, name: b, parameters: {version: v1, kind: Node}}",
            &[
                "f:4:47: plugins[0].parameters.kind: is required: which objects are meant",
                "f:4:10: warning: plugins[0]: plugin 'k8s-notification-source' has no effect: nothing \
                 refers to it",
                "f:5:41: warning: plugins[1]: plugin 'b' has no effect: nothing refers to it",
                "f:5:70: warning: plugins[1].parameters.kind: no plugin listens to objects of this \
                 kind: nothing is watched",
            ],
        ),
        ("data: {sources: []}", &["f:3:1: warning: data: is the old name of dataLayer"]),
        (
            "data: {sources: []}\ndataLayer: {sources: []}",
            &["f:3:7: data: is the old name of dataLayer, which is given as well"],
        ),
        (
            "dataLayer: {injectDefaults: false}",
            &["f: warning: dataLayer: no metrics are collected, but these plugins read them: \
               utilization-detector"],
        ),
        (
            "plugins:\n- type: queue-scorer\n- type: metrics-data-source\n\
             - {type: metrics-data-source, name: second}\n- type: core-metrics-extractor\n\
             dataLayer:\n  sources:\n  - pluginRef: metrics-data-source\n    extractors:\n    \
             - pluginRef: core-metrics-extractor\n    - pluginRef: queue-scorer\n  \
             - pluginRef: second\n  - pluginRef: queue-scorer",
            &[
                "f:13:18: dataLayer.sources[0].extractors[1].pluginRef: plugin 'queue-scorer' of \
                 type 'queue-scorer' is not a metrics extractor",
                "f:14:16: dataLayer.sources[1].pluginRef: one metrics source is all there can be",
                "f:15:16: dataLayer.sources[2].pluginRef: plugin 'queue-scorer' of type \
                 'queue-scorer' is not a data source",
            ],
        ),
        (
            "dataLayer:\n  discovery: {pluginRef: file-discovery}\n  peerDiscovery: {pluginRef: x}\n  \
             crossReplicaSyncInterval: 1s",
            &[
                "f:4:26: dataLayer.discovery.pluginRef: no plugin is called 'file-discovery'; \
                 add '- type: file-discovery' to plugins",
                "f:5:18: dataLayer.peerDiscovery: replicas do not exchange state in this version",
                "f:6:3: warning: dataLayer.crossReplicaSyncInterval: has no effect: replicas do \
                 not exchange state in this version",
            ],
        ),
        (
            "plugins:\n- type: file-discovery\n- {type: file-discovery, name: b, parameters: {path: ''}}\n\
             dataLayer: {discovery: {pluginRef: file-discovery}}",
            &[
                "f:4:9: plugins[0].parameters.path: is missing: name the file that lists the endpoints",
                "f:5:54: plugins[1].parameters.path: must not be empty",
                "f:5:32: warning: plugins[1]: plugin 'b' has no effect: nothing refers to it",
            ],
        ),
        (
            "plugins:\n- type: metrics-data-source\n  parameters: {scheme: ftp, path: metrics, port: 0, \
             caCertPath: a, clientCertPath: b, interval: 1ms, insecureSkipVerify: 'no'}",
            &[
                "f:5:24: plugins[0].parameters.scheme: must be http or https, found 'ftp'",
                "f:5:50: plugins[0].parameters.port: must be from 1 to 65535, found 0",
                "f:5:84: plugins[0].parameters.clientCertPath: needs clientKeyPath beside it",
                "f:5:87: warning: plugins[0].parameters.interval: is less than 50ms; 50ms is used",
                "f:5:122: plugins[0].parameters.insecureSkipVerify: must be true or false, \
                 found a string",
            ],
        ),
        (
            "plugins:\n- type: core-metrics-extractor\n  parameters:\n    defaultEngine: vlm\n    \
             engineConfigs:\n    - {name: mine, queuedRequestsSpec: 'a b', \
             customMetrics: [{attributeKey: x, metricSpec: z}]}\n    - name: default\n    - name: mine",
            &[
                "f:6:20: plugins[0].parameters.defaultEngine: no engine is called 'vlm'; \
                 did you mean 'vllm'?",
                "f:8:40: plugins[0].parameters.engineConfigs[0].queuedRequestsSpec: 'a b' is not a \
                 metric name",
                "f:9:13: plugins[0].parameters.engineConfigs[1].name: 'default' is reserved; use \
                 the engine's name and defaultEngine",
                "f:10:13: plugins[0].parameters.engineConfigs[2].name: engine 'mine' is configured \
                 twice",
            ],
        ),
    ]);
}

#[test]
fn flags_that_name_metrics() {
    let options = LoadOptions {
        kv_cache_usage_percentage_metric: Some("9".into()),
        lora_info_metric: Some("  ".into()),
        ..LoadOptions::default()
    };
    let (pipeline, diagnostics) = load("f", None, &options, &PoolIds::default());
    assert!(pipeline.is_none());
    assert_eq!(
        diagnostics.to_string(),
        "f: --kv-cache-usage-percentage-metric: '9' is not a metric name\n"
    );
}
