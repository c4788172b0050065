//! What keeps requests to certain endpoints: sessions, labels, lengths, limits.

use std::sync::Arc;

use bytes::Bytes;
use epp::endpoints::{Endpoint, SignalValues};
use epp::scheduling::{DecisionOptions, Directions, InferenceRequest, PromptBuilder};

use crate::rig::*;

fn with_headers(headers: &[(&str, &str)]) -> InferenceRequest {
    let mut request = prompt("hi");
    for (name, value) in headers {
        request
            .headers
            .set(Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    }
    request
}

/// `default/w1`, as the reference writes it.
const TOKEN_OF_W1: &str = "ZGVmYXVsdC93MQ==";

#[test]
fn a_token_names_the_endpoint() {
    let all = workers(3);
    type Sent<'a> = &'a [(&'static str, &'static str)];
    let cases: [(&str, Sent<'_>, [f64; 3]); 6] = [
        ("", &[("x-session-token", TOKEN_OF_W1)], [0.0, 1.0, 0.0]),
        ("", &[], [0.0; 3]),
        ("", &[("x-session-token", "not base64!")], [0.0; 3]),
        ("", &[("x-session-token", "ZGVmYXVsdC93OQ==")], [0.0; 3]),
        ("encodedEndpointHeaderConfig: {header: X-My}", &[("x-my", TOKEN_OF_W1)], [0.0, 1.0, 0.0]),
        ("headerName: x-my", &[("x-session-token", TOKEN_OF_W1)], [0.0; 3]),
    ];
    for (parameters, headers, expected) in cases {
        let rig = Rig::new(&[("session-affinity-scorer", parameters, 1.0)]);
        assert_scores(&rig.scores(&with_headers(headers), &all), &expected);
    }
    let rig = Rig::new(&[("session-affinity-filter", "", 1.0)]);
    let request = with_headers(&[("x-session-token", TOKEN_OF_W1)]);
    assert_eq!(rig.kept(&request, &all), [1]);
    assert_eq!(rig.kept(&request, &all[..1]), [0], "all where it is not there");
}

#[test]
fn the_response_says_which_endpoint_served() {
    let all = workers(2);
    let rig = Rig::new(&[("session-affinity-scorer", "", 1.0)]);
    let request = with_headers(&[]);
    let decision = rig.send(&request, &all[1..]);
    let routed = routed(&request, &decision);
    let mut directions = Directions::default();
    for hook in &rig.hooks.response {
        hook.response_headers(&routed, Some(200), &mut directions);
    }
    let expected = (Bytes::from("x-session-token"), Bytes::from(TOKEN_OF_W1));
    assert_eq!(directions.headers(), [expected]);
}

#[test]
fn a_session_stays_where_it_was() {
    let by_cookie = "
- type: session-id-producer
  parameters: {cookieName: sid}
- type: session-affinity-filter
  parameters:
    strategy: session_id
    sessionIdConfig: {sources: [{attribute: SessionID, producer: session-id-producer}]}";
    let by_header = "
- type: session-affinity-filter
  parameters: {strategy: session_id}";
    let cases = [
        (by_header, ("x-session-id", "a"), ("x-session-id", "b")),
        (by_cookie, ("cookie", "theme=dark; sid=a"), ("cookie", "sid=b; theme=dark")),
    ];
    for (plugins, one, other) in cases {
        let all = workers(4);
        let rig = Rig::from_yaml(&format!(
            "kind: EndpointPickerConfig\napiVersion: llm-d.ai/v1alpha1\nplugins:{plugins}\n\
             schedulingProfiles:\n- name: default\n  plugins: [{{pluginRef: session-affinity-filter}}]\n"
        ));
        let (one, other) = (with_headers(&[one]), with_headers(&[other]));
        rig.send_to(&one, &all[2]);
        assert_eq!(rig.kept(&one, &all), [2], "{plugins}");
        assert_eq!(rig.kept(&other, &all[..1]), [0]);
        assert_eq!(rig.kept(&other, &all), [0], "the first pick bound it");
        // Without its endpoint it moves, and stays there.
        rig.send_to(&one, &all[3]);
        assert_eq!(rig.kept(&one, &all), [3]);
        assert_eq!(rig.kept(&with_headers(&[]), &all), [0, 1, 2, 3]);
    }
}

#[test]
fn a_session_id_that_cannot_be_one_is_refused() {
    let all = workers(1);
    let long = "x".repeat(10_240);
    let cases = [("", "x-session-token"), ("strategy: session_id", "x-session-id")];
    for (parameters, header) in cases {
        let rig = Rig::new(&[("session-affinity-scorer", parameters, 1.0)]);
        let request = with_headers(&[(header, &long)]);
        let refusal = rig
            .schedule(&request, &candidates(&all), DecisionOptions::default())
            .expect_err(parameters);
        assert_eq!(refusal.error.code.http_status(), 400);
        assert!(!refusal.error.message.contains("xx"));
    }
}

#[test]
fn labels_with_the_value_of_a_header() {
    let plain = SignalValues::default();
    let all = [worker(0, &[("tenant", "a")], plain), worker(1, &[("tenant", "b")], plain)];
    let rig = Rig::new(&[(
        "header-label-affinity-scorer",
        "{headerName: X-Tenant, labelKey: tenant}",
        1.0,
    )]);
    assert_scores(&rig.scores(&with_headers(&[("x-tenant", "b")]), &all), &[0.0, 1.0]);
    assert_scores(&rig.scores(&with_headers(&[("x-tenant", "c")]), &all), &[0.0, 0.0]);
    assert_scores(&rig.scores(&with_headers(&[]), &all), &[0.0, 0.0]);
}

fn with_ranges(ranges: &[&str]) -> Vec<Arc<Endpoint>> {
    let one = |(n, range): (usize, &&str)| {
        let labels = [("llm-d.ai/context-length-range", *range)];
        worker(n, if range.is_empty() { &[] } else { &labels }, SignalValues::default())
    };
    ranges.iter().enumerate().map(one).collect()
}

#[test]
fn lengths_of_prompts() {
    let all = with_ranges(&["", "0-1000", "500-500", "1000-2000", " 0 - 400 ", "x-y", "9-1", "7"]);
    let request = prompt(&tokens(3, 500));
    let rig = Rig::new(&[("context-length-aware", "", 1.0)]);
    let within = 0.3 + 0.7 * (0.7 / (1.0 + 1000.0 / 10_000.0) + 0.3 * 500.0 / 1000.0);
    let expected = [0.5, within, 1.0, 0.3 / 1.5, 0.3 / 1.1, 0.0, 0.0, 0.0];
    assert_scores(&rig.scores(&request, &all), &expected);
    let everyone: Vec<u32> = (0..8).collect();
    assert_eq!(rig.kept(&request, &all), everyone);
    let filtering = Rig::new(&[("context-length-aware", "enableFiltering: true", 1.0)]);
    assert_eq!(filtering.kept(&request, &all), [0, 1, 2]);
}

#[test]
fn limits_of_utilization() {
    // Running, waiting, KV usage.
    let all = loaded(&[(1, 0, 0.1), (8, 1, 0.25), (3, 2, 0.5), (4, 8, 0.9)]);
    let _held = [reserve(all[2].clone(), 0), reserve(all[2].clone(), 0)];
    let cases: [(&str, &[u32]); 7] = [
        ("conditions: [{metric: running-requests, maxValue: 3}]", &[0, 2]),
        ("conditions: [{metric: waiting-queue, maxValue: 1}]", &[0, 1]),
        ("conditions: [{metric: kv-cache-utilization, maxValue: 0.5}]", &[0, 1, 2]),
        ("conditions: [{metric: active-requests, maxValue: 1}]", &[0, 1, 3]),
        (
            "conditions: [{metric: waiting-queue, maxValue: 2}, {metric: running-requests, maxValue: 3}]",
            &[0, 2],
        ),
        ("{conditions: [{metric: running-requests, maxValue: 0}]}", &[]),
        (
            "{conditions: [{metric: running-requests, maxValue: 0}], fallbackOnEmpty: true}",
            &[0, 1, 2, 3],
        ),
    ];
    for (parameters, expected) in cases {
        let rig = Rig::new(&[("utilization-filter", parameters, 1.0)]);
        assert_eq!(rig.kept(&prompt("hi"), &all), expected, "{parameters}");
    }
}

#[test]
fn new_tokens_times_the_batch() {
    let all = workers(2);
    let rig = Rig::new(&[("lmetric-scorer", "", 1.0)]);
    let text = tokens(4, 128);
    rig.send_to(&prompt(&text), &all[0]);
    // All of it is cached at the first, which counts as a block of 16; the other has 128 to do.
    assert_scores(&rig.scores(&prompt(&text), &all), &[1.0, 16.0 / 128.0]);
    let _held: Vec<_> = (0..15).map(|_| reserve(all[0].clone(), 0)).collect();
    assert_scores(&rig.scores(&prompt(&text), &all), &[0.5, 1.0]);
}

#[test]
fn mistakes_in_parameters() {
    let cases = [
        ("session-id-producer", "", "exactly one"),
        ("session-id-producer", "{headerName: a, cookieName: b}", "exactly one"),
        ("session-affinity-scorer", "strategy: sticky", "'session_id'"),
        ("session-affinity-filter", "sessionIdConfig: {sources: [{}]}", "exactly one"),
        ("session-affinity-filter", "sessionIdConfig: {evictionTtlSeconds: 0}", "from 1 to"),
        ("header-label-affinity-scorer", "headerName: a", "labelKey"),
        ("context-length-aware", "label: ''", "must not be empty"),
        ("utilization-filter", "", "conditions"),
        (
            "utilization-filter",
            "conditions: [{metric: gpu, maxValue: 1}]",
            "one of active-requests",
        ),
        (
            "utilization-filter",
            "conditions: [{metric: kv-cache-utilization, maxValue: 2}]",
            "at most 1",
        ),
        ("latency-scorer", "ttftWeight: -1", "negative"),
        ("latency-scorer", "headroomSelectionStrategy: all", "'least'"),
        ("slo-headroom-tier-filter", "epsilonExploreNeg: 2", "from 0 to 1"),
        ("predicted-latency-producer", "sloBufferFactor: 0", "above 0"),
        ("predicted-latency-scorer", "headroomSelectionStrategy: all", "composite-only"),
        ("probabilistic-admitter", "power: 0", "above 0"),
        ("latency-slo-admitter", "nope: 1", "unknown field"),
    ];
    for (kind, parameters, expected) in cases {
        let findings = build(kind, parameters).findings;
        let told = |f: &String| f.starts_with("Error") && f.contains(expected);
        assert!(findings.iter().any(told), "{kind} {parameters}: {findings:?}");
    }
}

/// A request with these media items, by the tokens that stand for them.
fn with_media(items: &[u32]) -> InferenceRequest {
    let mut builder = PromptBuilder::new(Bytes::new());
    builder.text(b"What is this?");
    items.iter().for_each(|&item| builder.media(item, 100));
    InferenceRequest { prompt: builder.finish(), ..prompt("") }
}

#[test]
fn media_items_that_were_encoded_before() {
    let all = workers(2);
    let rig = Rig::from_yaml(
        "kind: EndpointPickerConfig\napiVersion: llm-d.ai/v1alpha1\nplugins:\n\
         - type: mm-embeddings-cache-producer\n  parameters: {cacheSizeInMBPerServer: 8}\n\
         - type: mm-embeddings-cache-scorer\nschedulingProfiles:\n- name: default\n  plugins:\n  \
         - pluginRef: mm-embeddings-cache-scorer\n",
    );
    assert_scores(&rig.scores(&with_media(&[]), &all), &[0.0, 0.0]);
    rig.send_to(&with_media(&[1, 2]), &all[0]);
    rig.send_to(&with_media(&[3]), &all[1]);
    let scores = |items: &[u32]| rig.scores(&with_media(items), &all);
    // The same item twice is one item. What is asked here is sent to one of them, too.
    assert_scores(&scores(&[1, 1]), &[1.0, 0.0]);
    assert_scores(&scores(&[3]), &[0.0, 1.0]);
    // Room for four: the oldest, 2, has to go.
    rig.send_to(&with_media(&[4, 5, 6]), &all[0]);
    assert_scores(&scores(&[1]), &[1.0, 0.0]);
    assert_scores(&scores(&[2]), &[0.0, 0.0]);
}
