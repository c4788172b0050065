//! Requests served in stages: which endpoints, which headers, what is held where and until when.

use std::sync::Arc;

use epp::endpoints::{Endpoint, PoolIds, SignalValues};
use epp::error::Code;
use epp::loader::{LoadOptions, load};
use epp::scheduling::{Candidate, Decision, DecisionOptions, InferenceRequest, Refusal};

use crate::rig::*;

const ROLE: &str = "llm-d.ai/role";

/// Two endpoints of each role: `p0 p1 d0 d1 e0 e1`.
fn staged() -> Vec<Arc<Endpoint>> {
    ["prefill", "prefill", "decode", "decode", "encode", "encode"]
        .iter()
        .enumerate()
        .map(|(n, role)| worker(n, &[(ROLE, role)], SignalValues::default()))
        .collect()
}

const PROFILES: &str = "
schedulingProfiles:
- name: prefill
  plugins:
  - pluginRef: prefill-filter
  - {pluginRef: prefix-cache-scorer, weight: 2}
- name: decode
  plugins:
  - pluginRef: decode-filter
  - {pluginRef: prefix-cache-scorer, weight: 2}
- name: encode
  plugins:
  - pluginRef: encode-filter
";

/// A configuration with these plugins beside filters and scorers, and the profiles above.
fn yaml(plugins: &str) -> String {
    format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: prefill-filter
- type: decode-filter
- type: encode-filter
- type: prefix-cache-scorer
- {{type: approx-prefix-cache-producer, parameters: {{autoTune: false, blockSizeTokens: 64}}}}
- type: inflight-load-producer
{plugins}
{PROFILES}"
    )
}

fn decide(
    rig: &Rig,
    request: &InferenceRequest,
    endpoints: &[Arc<Endpoint>],
) -> Result<Decision, Refusal> {
    let candidates: Vec<Candidate<'_>> = endpoints.iter().map(Candidate::new).collect();
    rig.schedule(request, &candidates, DecisionOptions::default())
}

/// The stages that were chosen, in the order of profiles with the primary one first.
fn stages(decision: &Decision) -> Vec<&str> {
    decision.profiles.iter().map(|p| &*p.profile).collect()
}

fn header<'d>(decision: &'d Decision, name: &str) -> Option<&'d str> {
    let found = decision.directions.headers().iter().find(|(key, _)| key == name);
    found.map(|(_, value)| std::str::from_utf8(value).unwrap())
}

/// A request with an image in its prompt.
fn with_image(text: &str) -> InferenceRequest {
    let mut b = epp::scheduling::PromptBuilder::new(bytes::Bytes::new());
    b.text(text.as_bytes());
    b.media(7, 10);
    InferenceRequest { target_model: "m".into(), prompt: b.finish(), ..Default::default() }
}

#[test]
fn which_stages_run() {
    const ALWAYS: &str =
        "- type: always-disagg-pd-decider\n- type: always-disagg-multimodal-decider";
    const BY_PREFIX: &str = "- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 100}}";
    let long = prompt(&tokens(1, 200));
    let short = prompt(&tokens(2, 50));
    let image = with_image("what is this?");
    let handler =
        |parameters: &str| format!("- {{type: disagg-profile-handler, parameters: {parameters}}}");
    let all: &[&str] = &["decode", "prefill", "encode"];
    let (pd, decode): (&[&str], &[&str]) = (&["decode", "prefill"], &["decode"]);
    // (plugins, request, stages)
    for (plugins, request, expected) in [
        (format!("{ALWAYS}\n{}", handler("{}")), &long, decode),
        (
            format!("{ALWAYS}\n{}", handler("{deciders: {prefill: always-disagg-pd-decider}}")),
            &long,
            pd,
        ),
        (
            // A decider may stand after the handler that names it.
            format!(
                "{}\n{ALWAYS}",
                handler(
                    "{deciders: {prefill: always-disagg-pd-decider, encode: always-disagg-multimodal-decider}}"
                )
            ),
            &image,
            all,
        ),
        (
            format!(
                "{ALWAYS}\n{}",
                handler("{deciders: {encode: always-disagg-multimodal-decider}}")
            ),
            &image,
            &["decode", "encode"][..],
        ),
        (
            format!(
                "{ALWAYS}\n{}",
                handler("{deciders: {encode: always-disagg-multimodal-decider}}")
            ),
            &long,
            decode,
        ),
        (
            format!("{BY_PREFIX}\n{}", handler("{deciders: {prefill: prefix-based-pd-decider}}")),
            &long,
            pd,
        ),
        (
            format!("{BY_PREFIX}\n{}", handler("{deciders: {prefill: prefix-based-pd-decider}}")),
            &short,
            decode,
        ),
        (format!("{ALWAYS}\n{}", handler("{stageOrder: prefill-first}")), &short, pd),
        // The parameters of v0.7 and v0.8.
        (
            format!("{ALWAYS}\n{}", handler("{deciderPluginName: always-disagg-pd-decider}")),
            &short,
            pd,
        ),
        (
            format!(
                "{ALWAYS}\n{}",
                handler(
                    "{prefillDeciderPluginName: always-disagg-pd-decider, decodeProfile: decode}"
                )
            ),
            &short,
            pd,
        ),
        // The older handler, by itself, by threshold in bytes, and by a decider.
        ("- type: pd-profile-handler".to_owned(), &short, pd),
        ("- {type: pd-profile-handler, parameters: {threshold: 0}}".to_owned(), &short, pd),
        ("- {type: pd-profile-handler, parameters: {threshold: 300}}".to_owned(), &short, decode),
        ("- {type: pd-profile-handler, parameters: {threshold: 300}}".to_owned(), &long, pd),
        (format!("{BY_PREFIX}\n- type: pd-profile-handler"), &short, decode),
        (
            format!(
                "{ALWAYS}\n- {{type: pd-profile-handler, parameters: {{deciderPluginName: always-disagg-pd-decider}}}}"
            ),
            &short,
            pd,
        ),
    ] {
        let rig = Rig::from_yaml(&yaml(&plugins));
        let decision = decide(&rig, request, &staged()).unwrap();
        assert_eq!(stages(&decision), expected, "{plugins}");
    }
}

#[test]
fn what_is_cached_on_the_decode_endpoint_need_not_be_computed_elsewhere() {
    let rig = Rig::from_yaml(&yaml(
        "- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 100}}
- {type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider}}}",
    ));
    let endpoints = staged();
    let text = tokens(1, 640);
    let first = decide(&rig, &prompt(&text), &endpoints).unwrap();
    assert_eq!(stages(&first), ["decode", "prefill"]);
    // The prompt is remembered of both; its next turn is short of a hundred new tokens.
    let next = format!("{text}{}", tokens(2, 60));
    let second = decide(&rig, &prompt(&next), &endpoints).unwrap();
    assert_eq!(stages(&second), ["decode"]);
    assert_eq!(second.target().unwrap().id, first.target().unwrap().id);
    // A turn with more than that goes where the prompt was computed before.
    let long = format!("{text}{}", tokens(3, 200));
    let third = decide(&rig, &prompt(&long), &endpoints).unwrap();
    assert_eq!(stages(&third), ["decode", "prefill"]);
    let of = |d: &Decision| d.profile("prefill").unwrap().target().unwrap().id.clone();
    assert_eq!(of(&third), of(&first));
}

#[test]
fn headers_name_the_stages_endpoints() {
    let deciders = "- type: always-disagg-pd-decider\n- type: always-disagg-multimodal-decider";
    let endpoints = staged();
    for (handlers, encoders, says) in [
        (
            "- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider, encode: always-disagg-multimodal-decider}}}",
            true,
            true,
        ),
        ("- type: pd-profile-handler", false, false),
        ("- type: pd-profile-handler\n- type: prefill-header-handler", false, true),
        ("- type: pd-profile-handler\n- type: disagg-headers-handler", false, true),
    ] {
        let rig = Rig::from_yaml(&yaml(&format!("{deciders}\n{handlers}")));
        let decision = decide(&rig, &with_image("look"), &endpoints).unwrap();
        let of = |profile: &str| decision.profile(profile).map(|p| &*p.target().unwrap().host_port);
        let prefiller = header(&decision, "x-prefiller-host-port");
        assert_eq!(prefiller, of("prefill").filter(|_| says), "{handlers}");
        assert_eq!(header(&decision, "x-encoder-hosts-ports").is_some(), encoders, "{handlers}");
        assert!(of("decode").is_some_and(|d| Some(d) != prefiller));
    }
}

#[test]
fn prompt_is_held_on_prefill_and_the_answer_on_decode() {
    let rig = Rig::from_yaml(
        &yaml(
            "- type: always-disagg-pd-decider
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}",
        )
        .replace(
            "- type: inflight-load-producer",
            "- {type: inflight-load-producer, parameters: {addEstimatedOutputTokens: true, outputRatio: 0.5}}",
        ),
    );
    let endpoints = staged();
    let mut decision = decide(&rig, &prompt(&tokens(1, 200)), &endpoints).unwrap();
    let prefill = decision.profile("prefill").unwrap().target().unwrap().clone();
    let decode = decision.target().unwrap().clone();
    let held = |e: &Endpoint| (e.in_flight.requests(), e.in_flight.tokens());
    // Blocks count whole: 200 tokens are four blocks of 64.
    assert_eq!((held(&prefill), held(&decode)), ((1, 256), (1, 100)));
    decision.answer_begins();
    assert_eq!((held(&prefill), held(&decode)), ((0, 0), (1, 100)));
    drop(decision);
    assert_eq!((held(&prefill), held(&decode)), ((0, 0), (0, 0)));
}

#[test]
fn a_missing_stage_is_gone_without_but_for_decode() {
    let plugins = "- type: always-disagg-pd-decider
- {type: utilization-detector, parameters: {queueDepthThreshold: 5}}
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}";
    let rig = Rig::from_yaml(&yaml(plugins));
    let all = staged();
    let request = prompt("hello");
    let without_prefill = decide(&rig, &request, &all[2..]).unwrap();
    assert_eq!(stages(&without_prefill), ["decode"]);
    assert_eq!(header(&without_prefill, "x-prefiller-host-port"), None);
    // No decode endpoint exists.
    let refusal = decide(&rig, &request, &all[..2]).unwrap_err();
    assert_eq!(refusal.error.code, Code::ServiceUnavailable);
    assert!(refusal.error.message.contains("decode"), "{}", refusal.error.message);
}

#[test]
fn busy_decode_endpoints_are_429_and_missing_ones_503() {
    let plugins = "- type: always-disagg-pd-decider
- type: header-based-testing-filter
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}";
    let busy = yaml(plugins).replace(
        "- pluginRef: decode-filter",
        "- pluginRef: decode-filter\n  - pluginRef: header-based-testing-filter",
    );
    let rig = Rig::from_yaml(&busy);
    let all = staged();
    // The testing filter leaves nothing where its header is missing, as a filter of busy
    // endpoints would.
    for (endpoints, code) in
        [(&all[..], Code::ResourceExhausted), (&all[..2], Code::ServiceUnavailable)]
    {
        let refusal = decide(&rig, &prompt("hello"), endpoints).unwrap_err();
        assert_eq!(refusal.error.code, code);
    }
}

#[test]
fn the_primary_port_is_connected_to_and_the_rank_is_named() {
    let endpoints: Vec<Arc<Endpoint>> =
        (0..2).map(|n| worker(n, &[], SignalValues::default())).collect();
    let rig = Rig::from_yaml(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: data-parallel-profile-handler, parameters: {primaryPort: 9000}}
- type: random-picker
schedulingProfiles:
- name: default
  plugins: [{pluginRef: random-picker}]
",
    );
    let decision = decide(&rig, &prompt("x"), &endpoints).unwrap();
    assert_eq!(decision.directions.port(), Some(9000));
    let target = decision.target().unwrap().host_port.clone();
    assert_eq!(header(&decision, "x-data-parallel-host-port"), Some(&*target));
}

#[test]
fn a_header_names_the_profile() {
    let rig = Rig::from_yaml(&yaml("- type: header-profile-handler"));
    let endpoints = staged();
    for (header, expected) in [
        (None, Some("decode")),
        (Some(""), Some("decode")),
        (Some("prefill"), Some("prefill")),
        (Some("encode"), Some("encode")),
        (Some("nonsense"), None),
    ] {
        let mut request = prompt("x");
        if let Some(value) = header {
            request.headers.set("EPP-Profile".into(), value.to_owned().into());
        }
        match (decide(&rig, &request, &endpoints), expected) {
            (Ok(decision), Some(profile)) => assert_eq!(stages(&decision), [profile]),
            (Err(refusal), None) => assert_eq!(refusal.error.code, Code::ResourceExhausted),
            (other, _) => panic!("{header:?}: {other:?}"),
        }
    }
}

/// What loading says of these plugins, a line each: severity, field, message.
fn findings(plugins: &str) -> Vec<String> {
    let options = LoadOptions { allow_experimental_plugins: true, ..LoadOptions::default() };
    let (_, found) = load("f", Some(&yaml(plugins)), &options, &PoolIds::default());
    let line = |d: &epp::config::Diagnostic| format!("{:?} {}: {}", d.severity, d.field, d.message);
    found.findings().iter().map(line).collect()
}

#[test]
fn mistakes_are_found_at_load() {
    for (plugins, expected) in [
        (
            "- type: disagg-profile-handler\n- type: pd-profile-handler",
            "Error plugins[7]: there is a profile handler already, 'disagg-profile-handler'",
        ),
        (
            "- {type: disagg-profile-handler, parameters: {deciders: {prefill: nobody}}}",
            "Error plugins[6].parameters.deciders.prefill: no plugin is called 'nobody'",
        ),
        (
            "- {type: disagg-profile-handler, parameters: {deciders: {prefill: decode-filter}}}",
            "Error plugins[6].parameters.deciders.prefill: plugin 'decode-filter' of type 'decode-filter' is not a disaggregation decider",
        ),
        (
            "- {type: disagg-profile-handler, parameters: {profiles: {decode: decod}}}",
            "Error plugins[6].parameters.profiles.decode: no scheduling profile is called 'decod'; did you mean 'decode'?",
        ),
        (
            "- {type: disagg-profile-handler, parameters: {profiles: {prefill: prefil}}}",
            "Warning plugins[6].parameters.profiles.prefill: no scheduling profile is called 'prefil'; did you mean 'prefill'?",
        ),
        (
            "- {type: disagg-profile-handler, parameters: {stageOrder: sideways}}",
            "Error plugins[6].parameters.stageOrder: must be decode-first or prefill-first",
        ),
        (
            "- type: always-disagg-pd-decider\n- {type: disagg-profile-handler, parameters: {stageOrder: prefill-first, deciders: {prefill: always-disagg-pd-decider}}}",
            "Error plugins[7].parameters.deciders.prefill: has no place with stageOrder prefill-first: prefill always runs then",
        ),
        (
            "- type: always-disagg-pd-decider\n- {type: disagg-profile-handler, parameters: {decodeProfile: decode, deciders: {prefill: always-disagg-pd-decider}}}",
            "Error plugins[7].parameters.decodeProfile: cannot stand together with profiles, deciders or stageOrder",
        ),
        (
            "- {type: data-parallel-profile-handler, parameters: {primaryPort: 70000}}",
            "Error plugins[6].parameters.primaryPort: must be from 1 to 65535, found 70000",
        ),
        (
            "- {type: pd-profile-handler, parameters: {threshold: -1}}",
            "Error plugins[6].parameters.threshold: must be at least 0, found -1",
        ),
        (
            "- {type: header-profile-handler, parameters: {defaultProfile: decoder}}",
            "Error plugins[6].parameters.defaultProfile: no scheduling profile is called 'decoder', which requests without the header 'epp-profile' get",
        ),
        (
            "- {type: prefix-based-pd-decider}\n- {type: disagg-profile-handler, parameters: {deciders: {prefill: prefix-based-pd-decider}}}",
            "Warning plugins[6].parameters.nonCachedTokens: is 0: no prompt is ever computed by another endpoint",
        ),
    ] {
        let found = findings(plugins);
        assert!(found.iter().any(|f| f == expected), "{plugins}\n{found:#?}");
    }
}
