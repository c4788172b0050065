//! Requests kept on one revision while a deployment is rolled out.

use std::sync::Arc;
use std::time::Duration;

use epp::clock::Timestamp;
use epp::endpoints::{EndpointSpec, Pool};
use epp::scheduling::{
    BoxFuture, Candidate, Directions, InferenceRequest, MetricValue, ResponseHook, Runtime,
};

use crate::rig::*;

#[derive(Debug)]
struct Still;

impl Runtime for Still {
    fn now(&self) -> Timestamp {
        Timestamp::START
    }

    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }

    fn spawn(&self, _: BoxFuture<()>) {}
}

const REVISION: &str = "disaggregatedset.x-k8s.io/revision";
const ROLE: &str = "disaggregatedset.x-k8s.io/role";
const SELECTORS: &str =
    "[{name: rev, headerName: X-Rev, labelKey: disaggregatedset.x-k8s.io/revision, mode: strict}]";

/// A pool of pods by `revision role`, in the set `s` where nothing else is said.
fn pool(pods: &[(&str, &str)]) -> Arc<Pool> {
    let pool = Arc::new(Pool::new());
    let spec = |(n, (revision, role)): (usize, &(&str, &str))| {
        let set = if role.starts_with('!') { "other" } else { "s" };
        let role = role.trim_start_matches('!');
        let labels = [(REVISION, *revision), (ROLE, role), ("set", set)];
        EndpointSpec { ..worker(n, &labels, Default::default()).spec.clone() }
    };
    pool.replace(pods.iter().enumerate().map(spec).collect());
    pool
}

/// How often each revision is chosen in a hundred requests, as a share; empty where all are 503.
fn chosen(gating: &str, pool: &Arc<Pool>, header: Option<&str>) -> Vec<(String, f64)> {
    let rig = rig(gating, SELECTORS, pool);
    let snapshot = pool.snapshot();
    let candidates: Vec<Candidate<'_>> = snapshot.endpoints.iter().map(Candidate::new).collect();
    let mut request = prompt("hi");
    if let Some(revision) = header {
        request.headers.set("x-rev".into(), revision.to_owned().into());
    }
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..1000 {
        if let Ok(decision) = rig.schedule(&request, &candidates, Default::default()) {
            let labels = decision.target().unwrap().labels();
            *seen.entry(labels[REVISION].clone()).or_insert(0.0) += 0.001;
        }
    }
    seen.into_iter().collect()
}

fn rig(gating: &str, selectors: &str, pool: &Arc<Pool>) -> Rig {
    let rig = Rig::from_yaml(&format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: disaggregatedset-rollout-screener
  parameters:
    scope: {{labelSelector: set=s}}
    headerSelectors: {selectors}
    revisionGating: {gating}
"
    ));
    let runtime: Arc<dyn Runtime> = Arc::new(Still);
    rig.hooks.lifecycles.iter().for_each(|l| l.start(pool, &runtime));
    rig
}

const SUM: &str = "{mode: sum, requireRoles: {values: [prefill, decode]}}";
const LARGEST: &str = "{mode: max-role, requireRoles: {values: [prefill, decode]}}";
const DISABLED: &str = "{mode: disabled}";

#[test]
fn revisions_get_requests_by_their_pods() {
    let two = [
        ("a", "prefill"),
        ("a", "decode"),
        ("a", "decode"),
        ("a", "decode"),
        ("b", "prefill"),
        ("b", "decode"),
    ];
    let half = [("a", "prefill"), ("a", "decode"), ("b", "decode"), ("b", "decode")];
    let none = [("a", "prefill"), ("b", "decode")];
    let others = [("a", "prefill"), ("a", "decode"), ("b", "prefill"), ("b", "!decode")];
    type Shares = &'static [(&'static str, f64)];
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Option<&'a str>, Shares);
    let cases: [Case<'_>; 10] = [
        ("by all pods", SUM, &two, None, &[("a", 4.0 / 6.0), ("b", 2.0 / 6.0)]),
        ("by the largest role", LARGEST, &two, None, &[("a", 0.75), ("b", 0.25)]),
        ("an incomplete one gets none", SUM, &half, None, &[("a", 1.0)]),
        ("none is complete", SUM, &none, None, &[]),
        ("pods out of scope do not count", SUM, &others, None, &[("a", 1.0)]),
        ("the one that is asked for", SUM, &two, Some("b"), &[("b", 1.0)]),
        ("an incomplete one that is asked for", SUM, &half, Some("b"), &[]),
        ("one that is not there", SUM, &two, Some("c"), &[]),
        ("any", DISABLED, &none, None, &[("a", 0.5), ("b", 0.5)]),
        ("the one that is asked for, complete or not", DISABLED, &none, Some("b"), &[("b", 1.0)]),
    ];
    for (what, gating, pods, header, expected) in cases {
        let got = chosen(gating, &pool(pods), header);
        let near = |(got, expected): (&(String, f64), &(&str, f64))| {
            got.0 == expected.0 && (got.1 - expected.1).abs() < 0.1
        };
        let equal = got.len() == expected.len() && got.iter().zip(expected).all(near);
        assert!(equal, "{what}: {got:?}, expected {expected:?}");
    }
}

#[test]
fn the_response_says_which_revision_served() {
    let pool = pool(&[("a", "prefill"), ("a", "decode")]);
    let selectors = "[{name: rev, headerName: X-Rev, labelKey: disaggregatedset.x-k8s.io/revision, mode: prefer}, {name: slice, headerName: x-slice, labelKey: slice, mode: prefer}]";
    let rig = rig(SUM, selectors, &pool);
    let request = InferenceRequest::default();
    let snapshot = pool.snapshot();
    let decision = rig.send(&request, &snapshot.endpoints);
    let routed = routed(&request, &decision);
    let mut directions = Directions::default();
    let hooks: &[Arc<dyn ResponseHook>] = &rig.hooks.response;
    hooks.iter().for_each(|hook| hook.response_headers(&routed, Some(200), &mut directions));
    assert_eq!(directions.headers(), [("x-rev".into(), "a".into())], "an absent label is not told");
}

#[test]
fn what_is_counted() {
    let pool = pool(&[("a", "prefill"), ("a", "decode"), ("b", "decode")]);
    let rig = rig(SUM, SELECTORS, &pool);
    let snapshot = pool.snapshot();
    let candidates: Vec<Candidate<'_>> = snapshot.endpoints.iter().map(Candidate::new).collect();
    let mut request = prompt("hi");
    request.headers.set("x-rev".into(), "none".into());
    let refusal = rig.schedule(&request, &candidates, Default::default()).unwrap_err();
    assert_eq!(refusal.error.code.http_status(), 503);
    let families = rig.hooks.metrics.iter().flat_map(|plugin| plugin.families());
    let mut lines: Vec<String> = families
        .flat_map(|family| family.samples.into_iter().map(move |sample| (family.name, sample)))
        .map(|(name, sample)| {
            let value =
                |key| sample.labels.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str());
            let what = value("revision").or(value("selector")).unwrap_or_default().to_owned();
            let MetricValue::Number(number) = sample.value else { panic!("{sample:?}") };
            format!("{} {what} {number}", name.trim_start_matches("llm_d_epp_disaggregatedset_"))
        })
        .collect();
    lines.sort();
    let expected = [
        "revision_gating_share a 1",
        "revision_gating_share b 0",
        "strict_header_no_match_total rev 1",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn mistakes() {
    let scope = "scope: {labelSelector: a=b}";
    let cases = [
        ("revisionGating: {mode: disabled}".to_owned(), "scope.labelSelector: is required"),
        (
            "scope: {labelSelector: 'a in b'}\nrevisionGating: {mode: disabled}".to_owned(),
            "scope.labelSelector: expected a list",
        ),
        (scope.to_owned(), "revisionGating.mode: must be one of sum, max-role, disabled"),
        (
            format!("{scope}\nrevisionGating: {{mode: sum}}"),
            "revisionGating.requireRoles.values: is required",
        ),
        (
            format!("{scope}\nrevisionGating: {{mode: sum, requireRoles: {{values: [a, a]}}}}"),
            "revisionGating.requireRoles.values: role 'a' is there twice",
        ),
        (
            format!(
                "{scope}\nrevisionGating: {{mode: disabled}}\nheaderSelectors: [{{name: x, headerName: h, labelKey: k}}]"
            ),
            "headerSelectors[0].mode: must be strict or prefer",
        ),
        (
            format!(
                "{scope}\nrevisionGating: {{mode: disabled}}\nheaderSelectors: [{{name: x, labelKey: k, mode: prefer}}]"
            ),
            "headerSelectors[0].headerName: is required",
        ),
    ];
    for (parameters, expected) in cases {
        let findings = build("disaggregatedset-rollout-screener", &parameters).findings;
        let found = findings.iter().any(|f| f.starts_with(&format!("Error {expected}")));
        assert!(found && findings.len() == 1, "{parameters}: {findings:?}");
    }
}
