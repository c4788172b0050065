//! Numbers told to the gateway at the end of a response.

use epp::scheduling::{Directions, MetadataValue, ResponseHook, TokenUsage};

use crate::rig::*;

const USAGE: TokenUsage = TokenUsage { prompt: 30, completion: 12, cached: None };

/// `namespace/key=value` of what a reporter with this attribute writes.
fn reported(attribute: &str, usage: Option<TokenUsage>) -> Vec<String> {
    let built = build("request-attribute-reporter", &format!("attributes: [{attribute}]"));
    assert_eq!(built.findings, Vec::<String>::new(), "{attribute}");
    let hook = built.capabilities.get::<dyn ResponseHook>().expect("hears responses");
    let rig = Rig::new(&[("random-picker", "", 1.0)]);
    let request = prompt("hi");
    let decision = rig.send(&request, &workers(1));
    let routed = routed(&request, &decision);
    let mut directions = Directions::default();
    hook.response_end(&routed, usage.as_ref(), &mut directions);
    let entry = |entry: &epp::scheduling::MetadataEntry| {
        let MetadataValue::Number(value) = entry.value else { panic!("{entry:?}") };
        format!("{}/{}={value}", entry.namespace, entry.key)
    };
    directions.metadata().iter().map(entry).collect()
}

#[test]
fn values_of_expressions() {
    let with_cached = TokenUsage { cached: Some(10), ..USAGE };
    let cases: [(&str, TokenUsage, Option<f64>); 13] = [
        ("usage.prompt_tokens", USAGE, Some(30.0)),
        ("usage.prompt_tokens + usage.completion_tokens", USAGE, Some(42.0)),
        ("usage.total_tokens", USAGE, Some(42.0)),
        // Counts are doubles, as the numbers of JSON are.
        ("usage.completion_tokens * 3.0 + usage.prompt_tokens", USAGE, Some(66.0)),
        ("usage.prompt_tokens / 4.0", USAGE, Some(7.0)),
        ("-usage.prompt_tokens", USAGE, Some(-30.0)),
        ("int(usage.prompt_tokens) % 7", USAGE, Some(2.0)),
        ("usage.prompt_tokens > 20.0 ? 1 : 0", USAGE, Some(1.0)),
        ("usage.prompt_tokens > 50.0 ? 1 : 0", USAGE, None),
        (
            "usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens",
            with_cached,
            Some(20.0),
        ),
        (
            "has(usage.prompt_tokens_details) ? usage.prompt_tokens_details.cached_tokens : 1.0",
            USAGE,
            Some(1.0),
        ),
        ("usage.prompt_tokens", TokenUsage::default(), None),
        ("usage.prompt_tokens + 5.0", TokenUsage::default(), Some(5.0)),
    ];
    for (expression, usage, expected) in cases {
        let attribute = format!("{{key: {{name: cost}}, expression: '{expression}'}}");
        let expected: Vec<String> =
            expected.iter().map(|value| format!("envoy.lb/cost={value}")).collect();
        assert_eq!(reported(&attribute, Some(usage)), expected, "{expression}");
        if usage == TokenUsage::default() {
            // A response without usage is one of nothing.
            assert_eq!(reported(&attribute, None), expected, "{expression}");
        }
    }
}

#[test]
fn conditions_and_places() {
    let cases = [
        ("has(usage.prompt_tokens) && has(usage.completion_tokens)", true),
        ("has(usage.something_else)", false),
        ("usage.completion_tokens > 100.0", false),
        ("", true),
    ];
    for (condition, holds) in cases {
        let attribute = format!(
            "{{key: {{namespace: io.example, name: x-cost}}, expression: usage.total_tokens, \
             condition: '{condition}'}}"
        );
        let expected: &[&str] = if holds { &["io.example/x-cost=42"] } else { &[] };
        assert_eq!(reported(&attribute, Some(USAGE)), expected, "{condition}");
    }
}

#[test]
fn mistakes() {
    let one = |attribute: &str| format!("attributes: [{attribute}]");
    let cases = [
        ("", "Error attributes: must have exactly one entry, found 0"),
        ("attributes: [{}, {}]", "Error attributes: must have exactly one entry, found 2"),
        (
            &one("{key: {name: x}}"),
            "Error attributes[0].expression: is required: what the value is, in CEL",
        ),
        (
            &one("{key: {}, expression: usage.total_tokens}"),
            "Error attributes[0].key.name: is required: the key to write the value under",
        ),
        (
            &one("{key: {name: x}, expression: request.total_tokens}"),
            "Error attributes[0].expression: reads 'request', but there is only 'usage'",
        ),
        (
            &one("{key: {name: x}, expression: usage.total_tokens, condition: 'usage.'}"),
            "Error attributes[0].condition: is no CEL expression: ",
        ),
        (
            &one("{key: {name: x}, expression: usage.prompt_tokens * 2}"),
            "Warning attributes[0].expression: fails on a usual response: ",
        ),
        (
            &one("{key: {name: x}, expression: '\"text\"'}"),
            "Warning attributes[0].expression: fails on a usual response: gives no number",
        ),
        (
            &one("{key: {name: x}, expression: usage.total_tokens, conditon: 'true'}"),
            "Error attributes[0].conditon: unknown field 'conditon'; did you mean 'condition'?",
        ),
    ];
    for (parameters, expected) in cases {
        let findings = build("request-attribute-reporter", parameters).findings;
        let found = findings.iter().any(|finding| finding.starts_with(expected));
        assert!(found && findings.len() == 1, "{parameters}: {findings:?}");
    }
    // However deep it nests, it is refused or read, and the stack holds.
    let nested = |n: usize| format!("{}usage.total_tokens{}", "(".repeat(n), ")".repeat(n));
    let chosen = |n: usize| format!("{}1.0", "usage.total_tokens > 1.0 ? 1.0 : ".repeat(n));
    let selected = |n: usize| format!("usage{}", ".a".repeat(n));
    let added = |n: usize| format!("1.0{}", "+1.0".repeat(n));
    let (listed, negated) = ("[".repeat(1000), format!("{}1.0", "-".repeat(1500)));
    let deep = [nested(40), nested(41), nested(900), chosen(20), chosen(60), selected(900)]
        .into_iter()
        .chain([added(40), added(480), listed, negated, added(5000)]);
    for expression in deep {
        let attribute = one(&format!("{{key: {{name: x}}, expression: '{expression}'}}"));
        let findings = build("request-attribute-reporter", &attribute).findings;
        assert!(findings.len() <= 1, "{findings:?}");
    }
}
