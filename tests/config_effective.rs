//! What defaulting makes of a configuration, and that the result is a configuration that means
//! the same.

use std::time::Duration;

use epp::datalayer::config::{ENGINE_LABEL, EngineMap, Scheme};
use epp::endpoints::Labels;
use epp::endpoints::PoolIds;
use epp::flow_control::SaturationConfig;
use epp::loader::{LoadOptions, Pipeline, load};
use proptest::prelude::*;
use serde_json::{Value, json};

const HEAD: &str = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n";

/// What the default detector, data layer and parsers add to every document.
const USUAL_PLUGINS: &str = "\
- type: openai-parser
- type: anthropic-parser
- type: vllmhttp-parser
- type: passthrough-parser
- type: utilization-detector
- type: metrics-data-source
- type: core-metrics-extractor
";
const USUAL_DATA_LAYER: &str = "\
dataLayer:
  sources:
  - pluginRef: metrics-data-source
    extractors:
    - pluginRef: core-metrics-extractor
";
const USUAL_REST: &str = "\
flowControl:
  saturationDetector:
    pluginRef: utilization-detector
requestHandler:
  parsers:
  - pluginRef: openai-parser
  - pluginRef: anthropic-parser
  - pluginRef: vllmhttp-parser
  - pluginRef: passthrough-parser
";

fn usable(text: &str, options: &LoadOptions) -> Pipeline {
    let (pipeline, diagnostics) = load("f", Some(text), options, &PoolIds::default());
    pipeline.unwrap_or_else(|| panic!("{text}\n{diagnostics}"))
}

fn effective(text: &str) -> String {
    usable(text, &LoadOptions::default()).effective.to_yaml().unwrap()
}

#[test]
fn defaults_are_written_out() {
    // A document without its head; the plugins and profiles it comes to.
    let cases = [
        // No profiles: one of all that can be in one, in their order.
        (
            "plugins:\n- type: queue-scorer\n- type: openai-parser\n- type: decode-filter",
            "plugins:\n- type: queue-scorer\n- type: openai-parser\n- type: decode-filter\n\
             - type: max-score-picker\n- type: single-profile-handler\n- type: anthropic-parser\n\
             - type: vllmhttp-parser\n- type: passthrough-parser\n- type: utilization-detector\n\
             - type: metrics-data-source\n- type: core-metrics-extractor\n\
             schedulingProfiles:\n- name: default\n  plugins:\n  - pluginRef: queue-scorer\n    \
             weight: 1\n  - pluginRef: decode-filter\n  - pluginRef: max-score-picker\n"
                .to_owned(),
        ),
        // A picker that is configured goes where none is named; weights may be fractions.
        (
            "plugins:\n- {type: random-picker, name: pick, parameters: {maxNumOfEndpoints: 2}}\n\
             - type: queue-scorer\nschedulingProfiles:\n- name: a\n  plugins:\n  \
             - {pluginRef: queue-scorer, weight: 0.5}",
            format!(
                "plugins:\n- type: random-picker\n  name: pick\n  parameters:\n    \
                 maxNumOfEndpoints: 2\n- type: queue-scorer\n- type: single-profile-handler\n\
                 {USUAL_PLUGINS}schedulingProfiles:\n- name: a\n  plugins:\n  \
                 - pluginRef: queue-scorer\n    weight: 0.5\n  - pluginRef: pick\n"
            ),
        ),
        // A profile may name what defaulting adds.
        (
            "schedulingProfiles:\n- name: a\n  plugins:\n  - pluginRef: max-score-picker",
            format!(
                "plugins:\n- type: max-score-picker\n- type: single-profile-handler\n\
                 {USUAL_PLUGINS}schedulingProfiles:\n- name: a\n  plugins:\n  \
                 - pluginRef: max-score-picker\n"
            ),
        ),
        // The producer that a scorer reads comes last, and only if it reads it.
        (
            "plugins:\n- type: prefix-cache-scorer",
            format!(
                "plugins:\n- type: prefix-cache-scorer\n- type: max-score-picker\n\
                 - type: single-profile-handler\n{USUAL_PLUGINS}\
                 - type: approx-prefix-cache-producer\nschedulingProfiles:\n- name: default\n  \
                 plugins:\n  - pluginRef: prefix-cache-scorer\n    weight: 1\n  \
                 - pluginRef: max-score-picker\n"
            ),
        ),
        (
            "plugins:\n- type: token-load-scorer",
            format!(
                "plugins:\n- type: token-load-scorer\n- type: max-score-picker\n\
                 - type: single-profile-handler\n{USUAL_PLUGINS}\
                 - type: inflight-load-producer\nschedulingProfiles:\n- name: default\n  \
                 plugins:\n  - pluginRef: token-load-scorer\n    weight: 1\n  \
                 - pluginRef: max-score-picker\n"
            ),
        ),
        // Old names are written in the new form.
        (
            "plugins:\n- type: kv-cache-scorer",
            format!(
                "plugins:\n- type: kv-cache-utilization-scorer\n  name: kv-cache-scorer\n\
                 - type: max-score-picker\n- type: single-profile-handler\n{USUAL_PLUGINS}\
                 schedulingProfiles:\n- name: default\n  plugins:\n  \
                 - pluginRef: kv-cache-scorer\n    weight: 1\n  - pluginRef: max-score-picker\n"
            ),
        ),
    ];
    for (body, expected) in cases {
        let got = effective(&format!("{HEAD}{body}"));
        assert_eq!(got, format!("{HEAD}{expected}{USUAL_DATA_LAYER}{USUAL_REST}"), "\n{body}");
    }
}

#[test]
fn the_data_layer_by_default_and_by_wish() {
    // A document without its head; its data layer afterwards.
    let cases = [
        ("", USUAL_DATA_LAYER),
        ("dataLayer: {injectDefaults: false}", "dataLayer:\n  injectDefaults: false\n"),
        (
            "plugins: [{type: metrics-data-source, name: m}, {type: core-metrics-extractor, name: e}]",
            "dataLayer:\n  sources:\n  - pluginRef: m\n    extractors:\n    - pluginRef: e\n",
        ),
        (
            "plugins: [{type: metrics-data-source, name: m}]\n\
             data: {sources: [{pluginRef: m}]}",
            "dataLayer:\n  sources:\n  - pluginRef: m\n    extractors:\n    \
             - pluginRef: core-metrics-extractor\n",
        ),
        (
            "plugins: [{type: model-server-protocol-metrics}]",
            "dataLayer:\n  sources:\n  - pluginRef: metrics-data-source\n    extractors:\n    \
             - pluginRef: model-server-protocol-metrics\n",
        ),
        (
            "plugins: [{type: file-discovery, parameters: {path: e.yaml}}]\n\
             dataLayer: {discovery: {pluginRef: file-discovery}}",
            "dataLayer:\n  sources:\n  - pluginRef: metrics-data-source\n    extractors:\n    \
             - pluginRef: core-metrics-extractor\n  discovery:\n    pluginRef: file-discovery\n",
        ),
    ];
    for (body, expected) in cases {
        let got = effective(&format!("{HEAD}{body}"));
        let from = got.find("dataLayer:").unwrap();
        let to = got.find("flowControl:").unwrap();
        assert_eq!(&got[from..to], expected, "\n{body}");
    }
}

#[test]
fn parsers_in_their_order() {
    use epp::plugins::ParserKind::{Anthropic, OpenAi, Passthrough, SglangHttp, VllmHttp};
    let cases: &[(&str, &[_])] = &[
        ("", &[OpenAi, Anthropic, VllmHttp, Passthrough]),
        ("requestHandler: {parsers: [{pluginRef: sglanghttp-parser}]}", &[SglangHttp]),
        (
            "plugins: [{type: openai-parser, name: o}]\n\
             requestHandler: {parsers: [{pluginRef: passthrough-parser}, {pluginRef: o}]}",
            &[Passthrough, OpenAi],
        ),
        ("parser: {pluginRef: anthropic-parser}", &[Anthropic]),
        (
            "parser: {pluginRef: anthropic-parser}\n\
             requestHandler: {parsers: [{pluginRef: openai-parser}]}",
            &[OpenAi],
        ),
    ];
    for (body, expected) in cases {
        let pipeline = usable(&format!("{HEAD}{body}"), &LoadOptions::default());
        assert_eq!(pipeline.parsers, *expected, "{body}");
    }
}

#[test]
fn thresholds_of_saturation() {
    let cases = [
        ("", (5.0, 0.8, 200)),
        (
            "saturationDetector: {queueDepthThreshold: 7, kvCacheUtilThreshold: 1.5, \
             metricsStalenessThreshold: 2s}",
            (7.0, 0.8, 2000),
        ),
        (
            "plugins: [{type: utilization-detector, name: d, parameters: {queuedepththreshold: 9}}]\n\
             flowControl: {saturationDetector: {pluginRef: d}}",
            (9.0, 0.8, 200),
        ),
        (
            "plugins: [{type: utilization-detector, parameters: {kvCacheUtilThreshold: 1.0}}]",
            (5.0, 1.0, 200),
        ),
    ];
    for (body, (queue, kv, age)) in cases {
        let expected = SaturationConfig {
            queue_depth_threshold: queue,
            kv_cache_util_threshold: kv,
            metrics_staleness_threshold: Duration::from_millis(age),
            headroom: 0.0,
        };
        for document in [format!("{HEAD}{body}"), effective(&format!("{HEAD}{body}"))] {
            let found = usable(&document, &LoadOptions::default()).saturation;
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{document}");
        }
    }
}

#[test]
fn scraping_by_parameters_then_flags_then_defaults() {
    let flags = LoadOptions {
        model_server_metrics_scheme: Some(Scheme::Https),
        model_server_metrics_path: Some("/flag".into()),
        model_server_metrics_port: Some(9),
        model_server_metrics_https_insecure_skip_verify: Some(false),
        ..LoadOptions::default()
    };
    let zero = LoadOptions {
        model_server_metrics_port: Some(0),
        model_server_metrics_path: Some(String::new()),
        ..LoadOptions::default()
    };
    let parameters = "plugins: [{type: metrics-data-source, parameters: {scheme: HTTP, path: /p, \
                      port: 7, insecureSkipVerify: true, caCertPath: /ca, interval: 1s}}]";
    for (body, options, expected) in [
        ("", &LoadOptions::default(), (Scheme::Http, "/metrics", None, true, None)),
        ("", &zero, (Scheme::Http, "/metrics", None, true, None)),
        ("", &flags, (Scheme::Https, "/flag", Some(9), false, None)),
        (parameters, &flags, (Scheme::Http, "/p", Some(7), true, Some(1))),
    ] {
        let scrape = usable(&format!("{HEAD}{body}"), options).scrape.unwrap();
        let seconds = scrape.interval.map(|i| i.as_secs());
        let got = (scrape.scheme, &*scrape.path, scrape.port, scrape.insecure_skip_verify, seconds);
        assert_eq!(got, expected, "{body}");
    }
}

#[test]
fn engines_by_flags_and_by_parameters() {
    let of = |options: &LoadOptions, body: &str, engine: &str| -> EngineMap {
        let labels = Labels::from([(ENGINE_LABEL.to_owned(), engine.to_owned())]);
        usable(&format!("{HEAD}{body}"), options).engines.for_labels(&labels).clone()
    };
    let kv = |map: &EngineMap| {
        let name = |spec: &Option<epp::datalayer::config::MetricSpec>| {
            spec.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        (name(&map.kv_usage), name(&map.kv_usage_fallback))
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let flag = |name: &str| LoadOptions {
        kv_cache_usage_percentage_metric: Some(name.into()),
        ..LoadOptions::default()
    };
    let (new, old) = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc");
    let none = LoadOptions::default();
    assert_eq!(kv(&of(&none, "", "vllm")), pair(new, old));
    assert_eq!(kv(&of(&flag(old), "", "vllm")), pair(old, new));
    assert_eq!(kv(&of(&flag("mine{a=b}"), "", "vllm")), pair("mine{a=\"b\"}", ""));
    assert_eq!(kv(&of(&flag("mine"), "", "sglang")), pair("sglang:token_usage", ""));
    let body = "plugins: [{type: core-metrics-extractor, parameters: {defaultEngine: mine, \
                engineConfigs: [{name: mine, kvUsageSpec: kv}, {name: vllm}]}}]";
    assert_eq!(kv(&of(&none, body, "no-such-engine")), pair("kv", ""));
    assert_eq!(kv(&of(&flag(old), body, "vllm")), pair("", ""));
    assert_eq!(kv(&of(&none, body, "sglang")), pair("sglang:token_usage", ""));
}

/// A plugin entry of a type that has no required parameters, some with parameters.
fn any_plugin() -> impl Strategy<Value = Value> {
    let plain = proptest::sample::select(vec![
        "queue-scorer",
        "kv-cache-utilization-scorer",
        "kv-cache-scorer",
        "running-requests-size-scorer",
        "lora-affinity-scorer",
        "prefix-cache-scorer",
        "no-hit-lru-scorer",
        "token-load-scorer",
        "active-request-scorer",
        "decode-filter",
        "prefix-cache-affinity-filter",
        "max-score-picker",
        "random-picker",
        "single-profile-handler",
        "approx-prefix-cache-producer",
        "inflight-load-producer",
        "metrics-data-source",
        "core-metrics-extractor",
        "utilization-detector",
        "openai-parser",
        "passthrough-parser",
    ])
    .prop_map(|name| json!({ "type": name }));
    let with_parameters = prop_oneof![
        (1..9000i64)
            .prop_map(|t| json!({"type": "load-aware-scorer", "parameters": {"threshold": t}})),
        (1..512i64).prop_map(
            |b| json!({"type": "prefix-cache-scorer", "parameters": {"hashBlockSize": b}})
        ),
        (0.01..1.0f64).prop_map(
            |t| json!({"type": "utilization-detector", "parameters": {"kvCacheUtilThreshold": t}})
        ),
        ("\\PC{1,9}", "\\PC{0,9}").prop_map(|(key, value)| json!({
            "type": "label-selector-filter", "parameters": {"matchLabels": {key: value}}
        })),
    ];
    let name = proptest::option::weighted(
        0.3,
        "[a-c]|[1-9]|true|null|'x'|~|max-score-picker|openai-parser",
    );
    (prop_oneof![4 => plain, 2 => with_parameters], name).prop_map(|(mut plugin, name)| {
        if let Some(name) = name {
            plugin["name"] = json!(name);
        }
        plugin
    })
}

fn any_document() -> impl Strategy<Value = Value> {
    let plugins = proptest::collection::vec(any_plugin(), 0..7);
    let picks = proptest::collection::vec((0usize..7, proptest::option::of(-2.0..9.0f64)), 0..5);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (plugins, proptest::option::of(picks), flags).prop_map(
        |(plugins, picks, (old_group, inject, gate))| {
            let name = |plugin: &Value| {
                plugin.get("name").or(plugin.get("type")).cloned().unwrap_or_default()
            };
            let mut document = json!({
                "apiVersion": if old_group { "inference.networking.x-k8s.io/v1alpha1" }
                              else { "llm-d.ai/v1alpha1" },
                "kind": "EndpointPickerConfig",
                "dataLayer": {"injectDefaults": inject},
            });
            if gate {
                document["featureGates"] = json!([format!("flowControl={inject}")]);
            }
            if let Some(picks) = picks {
                let references: Vec<_> = picks
                    .iter()
                    .filter_map(|(i, weight)| {
                        let mut reference = json!({"pluginRef": name(plugins.get(*i)?)});
                        if let Some(weight) = weight {
                            reference["weight"] = json!(weight);
                        }
                        Some(reference)
                    })
                    .collect();
                document["schedulingProfiles"] = json!([{"name": "p", "plugins": references}]);
            }
            document["plugins"] = json!(plugins);
            document
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_effective_configuration_means_the_same(document in any_document()) {
        let text = document.to_string();
        let options = LoadOptions::default();
        let (first, diagnostics) = load("f", Some(&text), &options, &PoolIds::default());
        prop_assert_eq!(first.is_some(), !diagnostics.has_errors());
        let Some(first) = first else { return Ok(()) };
        let written = first.effective.to_yaml().unwrap();
        let (second, diagnostics) = load("f", Some(&written), &options, &PoolIds::default());
        // That nothing is collected though somebody reads it stays true.
        let findings = diagnostics.findings();
        prop_assert!(
            findings.iter().all(|d| d.message.starts_with("no metrics are collected")),
            "{}\n{}", diagnostics, written
        );
        let second = second.unwrap();
        let detector = |pipeline: &Pipeline| format!("{:?}", pipeline.saturation);
        prop_assert_eq!(detector(&second), detector(&first));
        prop_assert_eq!(second.effective.to_yaml().unwrap(), written);
        prop_assert_eq!(second.summary, first.summary);
        prop_assert_eq!(second.needs, first.needs);
        prop_assert_eq!(second.scrape, first.scrape);
        prop_assert_eq!(second.parsers, first.parsers);
        prop_assert_eq!(second.wants_prompt, first.wants_prompt);
    }

    #[test]
    fn any_text_is_loaded_or_refused(
        text in "\\PC{0,99}|[-a-z:{}\\[\\],'\"&*!\n ]{0,99}",
        cut in 0usize..600, insert in "[-a-z:{}\\[\\],'\"0-9\n ]{0,4}",
    ) {
        let options = LoadOptions::default();
        load("f", Some(&text), &options, &PoolIds::default());
        let sample = include_str!("../config/standalone.yaml");
        let cut = cut.min(sample.len());
        let damaged = format!("{}{insert}{}", &sample[..cut], &sample[cut..]);
        let (pipeline, diagnostics) = load("f", Some(&damaged), &options, &PoolIds::default());
        prop_assert_eq!(pipeline.is_some(), !diagnostics.has_errors());
    }
}
