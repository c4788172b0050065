//! What plugins say about their parameters.

use epp::config::Placed;
use epp::plugins::{Dependencies, find, type_names};
use epp::scheduling::{PrefixMatch, Producer, ProfileHandler, RequestDatum, TokenLoad};

use crate::rig::*;

const TYPES: [&str; 24] = [
    "active-request-scorer",
    "approx-prefix-cache-producer",
    "by-label",
    "decode-filter",
    "encode-filter",
    "inflight-load-producer",
    "kv-cache-utilization-scorer",
    "label-selector-filter",
    "load-aware-scorer",
    "lora-affinity-scorer",
    "max-score-picker",
    "no-hit-lru-scorer",
    "precise-prefix-cache-producer",
    "precise-prefix-cache-scorer",
    "prefill-filter",
    "prefix-cache-affinity-filter",
    "prefix-cache-scorer",
    "queue-scorer",
    "random-picker",
    "running-requests-size-scorer",
    "single-profile-handler",
    "token-load-scorer",
    "token-producer",
    "weighted-random-picker",
];

/// Types that the reference gives no parameters: it does not look at them.
const WITHOUT_PARAMETERS: [&str; 8] = [
    "decode-filter",
    "encode-filter",
    "kv-cache-utilization-scorer",
    "lora-affinity-scorer",
    "prefill-filter",
    "queue-scorer",
    "running-requests-size-scorer",
    "single-profile-handler",
];

#[test]
fn all_types_are_there_under_all_their_names() {
    for name in TYPES {
        assert_eq!(find(name).map(|t| t.name), Some(name));
        assert!(type_names().any(|t| t == name));
    }
    let aliases = [
        ("kv-cache-scorer", "kv-cache-utilization-scorer"),
        ("by-label-selector", "label-selector-filter"),
        ("tokenizer", "token-producer"),
    ];
    for (alias, name) in aliases {
        assert_eq!(find(alias).map(|t| t.name), Some(name));
    }
    assert!(find("no-such-type").is_none());
}

#[test]
fn nothing_is_said_where_no_parameters_are_given() {
    for name in TYPES.into_iter().filter(|n| *n != "by-label") {
        assert_eq!(build(name, "").findings, [""; 0], "{name}");
    }
}

#[test]
fn an_unknown_parameter_is_an_error_unless_the_type_takes_none() {
    for name in TYPES {
        let findings = build(name, "noSuchParameter: 1").findings;
        if WITHOUT_PARAMETERS.contains(&name) {
            assert_eq!(findings.len(), 1, "{name}");
            assert!(findings[0].starts_with("Warning : this type takes no"), "{findings:?}");
        } else {
            let named = findings.iter().filter(|f| f.starts_with("Error noSuchParameter: unknown"));
            assert_eq!(named.count(), 1, "{name}: {findings:?}");
        }
    }
}

/// (type, parameters, the findings: severity, field, and words of the message)
#[test]
fn mistakes_and_things_of_the_past() {
    const E: &str = "Error";
    const W: &str = "Warning";
    type Case = (&'static str, &'static str, &'static [(&'static str, &'static str, &'static str)]);
    let cases: &[Case] = &[
        ("load-aware-scorer", "threshold: 2.5", &[(E, "threshold", "an integer")]),
        ("load-aware-scorer", "threshold: '2'", &[(E, "threshold", "an integer")]),
        ("load-aware-scorer", "Threshold: 2", &[]),
        ("load-aware-scorer", "threshold: 4294967296", &[]),
        ("token-load-scorer", "queueThresholdTokens: 9223372036854775807", &[]),
        ("max-score-picker", "maxNumOfEndpoints: 9223372036854775807", &[]),
        ("load-aware-scorer", "threshhold: 2", &[(E, "threshhold", "did you mean 'threshold'")]),
        ("max-score-picker", "maxNumOfEndpoints: many", &[(E, "maxNumOfEndpoints", "an integer")]),
        (
            "active-request-scorer",
            "{requestTimeout: 2m, maxBusyScore: 2}",
            &[(W, "requestTimeout", "no effect"), (W, "maxBusyScore", "1 is used")],
        ),
        ("active-request-scorer", "inFlightLoadProducerName: inflight-load-producer", &[]),
        ("token-load-scorer", "inFlightLoadProducerName: mine", &[]),
        (
            "no-hit-lru-scorer",
            "{prefixPluginName: a, prefixPluginType: b}",
            &[(W, "prefixPluginName", "no effect"), (W, "prefixPluginType", "no effect")],
        ),
        ("prefix-cache-scorer", "mode: estimate", &[(W, "mode", "no effect")]),
        ("prefix-cache-scorer", "mode: ''", &[]),
        ("prefix-cache-scorer", "mode: guess", &[(E, "mode", "must be")]),
        (
            "prefix-cache-scorer",
            "{mode: cache_tracking, kvEventsConfig: {}, indexerConfig: {}}",
            &[],
        ),
        (
            "prefix-cache-scorer",
            "{mode: cache_tracking, indexerConfig: {tokenProcessorConfig: {blockSize: 64, hashSeed: '42'}, \
             kvBlockIndexConfig: {enableMetrics: true}, prefixStoreConfig: {cacheSize: 5}}}",
            &[
                (W, "indexerConfig.tokenProcessorConfig.hashSeed", "never recomputed"),
                (W, "indexerConfig.prefixStoreConfig", "no effect"),
            ],
        ),
        (
            "precise-prefix-cache-producer",
            "{speculativeIndexing: true, speculativeTTL: 500ms}",
            &[],
        ),
        (
            "precise-prefix-cache-producer",
            "tokenProcessorConfig: {blockSizeTokens: 0, hashAlgorithm: md5, x: 1}",
            &[
                (E, "tokenProcessorConfig.blockSizeTokens", "from 1"),
                (E, "tokenProcessorConfig.hashAlgorithm", "must be"),
                (E, "tokenProcessorConfig.x", "unknown field"),
            ],
        ),
        (
            "precise-prefix-cache-producer",
            "indexerConfig: {tokenizersPoolConfig: {modelName: m}}",
            &[(E, "indexerConfig.tokenizersPoolConfig", "token-producer")],
        ),
        (
            "precise-prefix-cache-producer",
            "indexerConfig: {kvBlockIndexConfig: {inMemoryConfig: {size: 1}, redisConfig: {address: a}}}",
            &[
                (E, "indexerConfig.kvBlockIndexConfig", "at most one"),
                (W, "indexerConfig.kvBlockIndexConfig.redisConfig", "in this process"),
            ],
        ),
        (
            "precise-prefix-cache-producer",
            "indexerConfig: {kvBlockIndexConfig: {costAwareMemoryConfig: {size: 2 apples}}}",
            &[(E, "indexerConfig.kvBlockIndexConfig.costAwareMemoryConfig.size", "quantity")],
        ),
        (
            "precise-prefix-cache-producer",
            "indexerConfig: {kvCacheBackendConfigs: [{name: gpu, weight: 1}, {weight: -1}, {weight: 2}]}",
            &[
                (E, "indexerConfig.kvCacheBackendConfigs[1].weight", "negative"),
                (E, "indexerConfig.kvCacheBackendConfigs[2].name", "missing"),
            ],
        ),
        (
            "precise-prefix-cache-producer",
            "kvEventsConfig: {zmqEndpoint: 'udp://x', engineType: other, podDiscoveryConfig: {socketPort: 0}}",
            &[
                (E, "kvEventsConfig.engineType", "must be"),
                (E, "kvEventsConfig.podDiscoveryConfig.socketPort", "from 1"),
                (E, "kvEventsConfig.zmqEndpoint", "tcp://"),
            ],
        ),
        (
            "precise-prefix-cache-producer",
            "kvEventsConfig: {zmqEndpoint: 'tcp://*:5557', topicFilter: kv@, concurrency: 4, discoverPods: true}",
            &[(W, "kvEventsConfig.discoverPods", "no effect")],
        ),
        ("precise-prefix-cache-producer", "other: 1", &[(E, "other", "unknown field")]),
        (
            "precise-prefix-cache-scorer",
            "{tokenProcessorConfig: {blockSize: 16, hashSeed: '42'}, kvEventsConfig: {zmqEndpoint: 'tcp://*:5557'}, \
             indexerConfig: {tokenizersPoolConfig: {modelName: m}}}",
            &[
                (W, "tokenProcessorConfig.hashSeed", "never recomputed"),
                (W, "indexerConfig.tokenizersPoolConfig", "endpoints are asked"),
            ],
        ),
        ("prefix-cache-scorer", "kvEventsConfig: {}", &[(W, "kvEventsConfig", "no effect")]),
        ("prefix-cache-scorer", "hashBlockSize: 0", &[(E, "hashBlockSize", "from 1")]),
        ("prefix-cache-scorer", "matchLengthWeight: 1.5", &[(E, "matchLengthWeight", "0 to 1")]),
        (
            "prefix-cache-scorer",
            "{matchLengthWeight: 0.5, matchLengthScaleTokens: 0}",
            &[(E, "matchLengthScaleTokens", "above 0")],
        ),
        ("prefix-cache-scorer", "matchLengthScaleTokens: 0", &[]),
        (
            "prefix-cache-scorer",
            "{hashBlockSize: 64, prefixMatchInfoProducerName: x}",
            &[(E, "prefixMatchInfoProducerName", "cannot stand together")],
        ),
        (
            "prefix-cache-scorer",
            "{hashBlockSize: 64, blockSize: 64, blockSizeTokens: 16}",
            &[(W, "hashBlockSize", "successor"), (W, "blockSize", "blockSizeTokens")],
        ),
        ("approx-prefix-cache-producer", "blockSizeTokens: 0", &[]),
        (
            "approx-prefix-cache-producer",
            "{autoTune: false, blockSizeTokens: 0}",
            &[(E, "blockSizeTokens", "at least 1")],
        ),
        (
            "approx-prefix-cache-producer",
            "maxPrefixTokensToMatch: -1",
            &[(E, "maxPrefixTokensToMatch", "at least 0")],
        ),
        ("approx-prefix-cache-producer", "blockSize: 32", &[(W, "blockSize", "as tokens")]),
        (
            "approx-prefix-cache-producer",
            "{blockSize: 32, blockSizeTokens: 128}",
            &[(W, "blockSize", "ignored")],
        ),
        (
            "approx-prefix-cache-producer",
            "maxPrefixBlocksToMatch: 256",
            &[(W, "maxPrefixBlocksToMatch", "must be 0")],
        ),
        (
            "approx-prefix-cache-producer",
            "maxPrefixBlocksToMatch: -3",
            &[(W, "maxPrefixBlocksToMatch", "must be 0")],
        ),
        (
            "approx-prefix-cache-producer",
            "{maxPrefixTokensToMatch: 0, maxPrefixBlocksToMatch: -3}",
            &[(E, "maxPrefixBlocksToMatch", "at least 0")],
        ),
        (
            "approx-prefix-cache-producer",
            "{blockSizeTokens: 10000000, lruCapacityPerServer: 99999999999}",
            &[],
        ),
        ("inflight-load-producer", "outputRatio: -1", &[(E, "outputRatio", "negative")]),
        (
            "inflight-load-producer",
            "maxEstimatedOutputTokens: -1",
            &[(E, "maxEstimatedOutputTokens", "at least 0")],
        ),
        (
            "inflight-load-producer",
            "syncCrossReplicaState: true",
            &[(W, "syncCrossReplicaState", "replicas")],
        ),
        ("inflight-load-producer", "syncCrossReplicaState: false", &[]),
        ("token-producer", "modelName: m", &[(W, "modelName", "no model")]),
        (
            "token-producer",
            "{modelName: m, vllm: {url: 'http://x', timeout: 1s, mmTimeout: 2s}}",
            &[],
        ),
        ("token-producer", "vllm: {url: 'http://x'}", &[(E, "modelName", "required")]),
        (
            "token-producer",
            "{modelName: m, vllm: {url: 'https://x'}}",
            &[(E, "vllm.url", "http://")],
        ),
        ("token-producer", "{modelName: m, vllm: {}, estimate: {}}", &[(E, "", "at most one")]),
        (
            "tokenizer",
            "udsTokenizerConfig: {}",
            &[(W, "udsTokenizerConfig", "endpoints are asked")],
        ),
        ("token-producer", "estimate: {}", &[]),
        (
            "token-producer",
            "estimate: {image: {mode: static}, sound: {}}",
            &[(W, "estimate.image", "default sizes"), (E, "estimate.sound", "unknown field")],
        ),
        ("by-label", "validValues: [a]", &[(E, "label", "required")]),
        ("by-label", "label: a", &[(E, "validValues", "must not be empty")]),
        (
            "prefix-cache-affinity-filter",
            "{affinityThreshold: 1.1, explorationProbability: 2, peakPrefillThroughput: 0}",
            &[
                (E, "affinityThreshold", "at most 1"),
                (E, "explorationProbability", "from 0 to 1"),
                (E, "peakPrefillThroughput", "above 0"),
            ],
        ),
        (
            "prefix-cache-affinity-filter",
            "{ttftSource: latencyPredictor, latencyPredictionInfoProducerName: p}",
            &[
                (E, "ttftSource", "latency predictor"),
                (W, "latencyPredictionInfoProducerName", "no effect"),
            ],
        ),
        ("prefix-cache-affinity-filter", "ttftSource: x", &[(E, "ttftSource", "must be")]),
        (
            "prefix-cache-affinity-filter",
            "maxTTFTPenaltyMs: -5",
            &[(E, "maxTTFTPenaltyMs", "must not be negative")],
        ),
        (
            "label-selector-filter",
            "matchExpressions: [{key: a, operator: in, values: [x]}]",
            &[(E, "matchExpressions[0].operator", "did you mean 'In'")],
        ),
        (
            "label-selector-filter",
            "matchExpressions: [{key: a, operator: In}, {key: a, operator: Exists, values: [x]}]",
            &[
                (E, "matchExpressions[0].values", "must not be empty"),
                (E, "matchExpressions[1].values", "must be empty"),
            ],
        ),
        ("label-selector-filter", "matchLabels: {a b: x}", &[(E, "matchLabels", "no label key")]),
        ("label-selector-filter", "matchLabels: {A_b/c: x}", &[(E, "matchLabels", "DNS name")]),
        ("label-selector-filter", "matchLabels: {a: x-}", &[(E, "matchLabels", "no label value")]),
        ("label-selector-filter", "matchLabels: {llm-d.ai/role: both}", &[]),
    ];
    for (kind, parameters, expected) in cases {
        let findings = build(kind, parameters).findings;
        assert_eq!(findings.len(), expected.len(), "{kind} {parameters}: {findings:?}");
        for (severity, field, words) in *expected {
            let start = format!("{severity} {field}: ");
            let found = findings.iter().any(|f| f.starts_with(&start) && f.contains(words));
            assert!(found, "{kind} {parameters}: no {start}...{words} in {findings:?}");
        }
    }
}

#[test]
fn consumers_ask_for_their_producers() {
    // (type, parameters, prefix producers asked for, in-flight tokens asked for)
    type Case = (&'static str, &'static str, &'static [&'static str], bool);
    const DEFAULT: &str = "approx-prefix-cache-producer";
    let cases: [Case; 11] = [
        ("prefix-cache-scorer", "", &[DEFAULT], false),
        ("prefix-cache-scorer", "prefixMatchInfoProducerName: p", &["p"], false),
        ("prefix-cache-scorer", "hashBlockSize: 64", &["prefix-cache-scorer"], false),
        ("no-hit-lru-scorer", "", &[DEFAULT], false),
        ("prefix-cache-affinity-filter", "", &[DEFAULT], true),
        ("prefix-cache-affinity-filter", "maxTTFTPenaltyMs: 0", &[DEFAULT], false),
        ("token-load-scorer", "", &[], true),
        ("active-request-scorer", "", &[], false),
        ("inflight-load-producer", "", &[], false),
        ("inflight-load-producer", "prefixMatchInfoProducerName: p", &["p"], false),
        ("queue-scorer", "", &[], false),
    ];
    for (kind, parameters, prefix, in_flight) in cases {
        let built = build(kind, parameters);
        let read: Vec<&str> = read_of(&built.dependencies, PrefixMatch::PRODUCER);
        let load = read_of(&built.dependencies, TokenLoad::PRODUCER);
        assert_eq!((read.as_slice(), !load.is_empty()), (prefix, in_flight), "{kind}");
    }
}

/// Names of the producers of a kind whose results are required or given.
fn read_of<'d>(dependencies: &'d Dependencies, kind: &str) -> Vec<&'d str> {
    let counts = |s: &&epp::plugins::DataSlot| {
        s.kind == kind && (s.provided_by.is_some() || s.readers.iter().any(|r| r.required))
    };
    let slots = dependencies.data().iter().filter(counts);
    slots.filter(|s| s.kind == kind && !is_own_load(s)).map(|s| s.producer.as_str()).collect()
}

/// The load producer gives what the others read.
fn is_own_load(slot: &epp::plugins::DataSlot) -> bool {
    slot.kind == TokenLoad::PRODUCER && slot.provided_by.is_some()
}

#[test]
fn prefix_producers_are_those_that_consumers_can_name() {
    let cases = [
        ("approx-prefix-cache-producer", "", true),
        ("prefix-cache-scorer", "hashBlockSize: 64", true),
        ("prefix-cache-scorer", "", false),
        ("inflight-load-producer", "", false),
    ];
    for (kind, parameters, expected) in cases {
        let built = build(kind, parameters);
        let gives =
            |s: &epp::plugins::DataSlot| s.kind == PrefixMatch::PRODUCER && s.provided_by.is_some();
        assert_eq!(built.dependencies.data().iter().any(gives), expected, "{kind}");
        let produces = built.capabilities.has::<dyn Producer>();
        assert_eq!(produces, expected || kind == "inflight-load-producer", "{kind}");
    }
    // A consumer and its producer meet in one place, whichever is built first.
    let mut dependencies = Dependencies::default();
    let name = Placed { value: "p", at: None, field: String::new() };
    let read = dependencies.read::<PrefixMatch>(Some(name));
    let given = dependencies.provide::<PrefixMatch>("p");
    assert_eq!(format!("{read:?}"), format!("{given:?}"));
}

#[test]
fn the_single_profile_handler_wants_one_profile() {
    let built = build("single-profile-handler", "");
    let handler = built.capabilities.get::<dyn ProfileHandler>().unwrap();
    assert!(handler.bind(&["a"]).is_ok());
    assert!(handler.bind(&["a", "b"]).unwrap_err()[0].message.contains("has 2"));
}
