//! Stages of a request near each other.

use std::sync::Arc;

use epp::endpoints::{Endpoint, EndpointSpec, Placement};
use epp::scheduling::{DecisionOptions, InferenceRequest};

use crate::rig::*;

const ROLE: &str = "llm-d.ai/role";

/// A worker of a role; `labels` are `host/rack/zone/region`, in short, with `-` for none.
fn at(n: usize, role: &str, labels: &str, placement: Placement) -> Arc<Endpoint> {
    let keys = ["kubernetes.io/hostname", "topology.kubernetes.io/rack"]
        .into_iter()
        .chain(["topology.kubernetes.io/zone", "topology.kubernetes.io/region"]);
    let places = keys.zip(labels.split('/')).filter(|(_, value)| *value != "-");
    let mut all: Vec<(&str, &str)> = places.collect();
    all.push((ROLE, role));
    let spec = EndpointSpec { placement, ..worker(n, &all, Default::default()).spec.clone() };
    Arc::new(Endpoint::new(spec, ids()))
}

fn rig(order: &str, near: &str) -> Rig {
    Rig::from_yaml(&format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: prefill-filter
- type: decode-filter
- type: topology-extractor
{near}
- type: always-disagg-pd-decider
- type: disagg-profile-handler
  parameters: {order}
schedulingProfiles:
- name: prefill
  plugins: [{{pluginRef: prefill-filter}}, {{pluginRef: near}}]
- name: decode
  plugins: [{{pluginRef: decode-filter}}, {{pluginRef: near}}]
"
    ))
}

const DECODE_FIRST: &str = "{deciders: {prefill: always-disagg-pd-decider}}";
const PREFILL_FIRST: &str = "{stageOrder: prefill-first}";

/// The scores or the places of the second stage's endpoints.
fn second_stage(rig: &Rig, profile: &str, all: &[Arc<Endpoint>]) -> Vec<usize> {
    let candidates = candidates(all);
    let options = DecisionOptions { explanation: true, ..DecisionOptions::default() };
    let decision = rig.schedule(&InferenceRequest::default(), &candidates, options).unwrap();
    let profiles = &explanation(&decision).profiles;
    let ran = profiles.iter().find(|p| p.name == profile).expect("the profile ran");
    ran.filters.last().unwrap().kept.iter().map(|&c| c as usize).collect()
}

#[test]
fn a_prefill_endpoint_near_the_decode_endpoint() {
    let none = Placement::default;
    let near = |level: &str| {
        format!(
            "- {{type: topology-affinity-filter, name: near, parameters: {{minAffinity: {level}}}}}"
        )
    };
    // The decode endpoint is 0; the others can prefill.
    let places =
        ["h1/r1/z1/g1", "h2/r2/z2/g1", "h3/r3/z1/g1", "h4/r1/z1/g1", "h1/r1/z1/g1", "-/-/-/-"];
    let cases: [(&str, &[usize]); 4] =
        [("host", &[4]), ("rack", &[3, 4]), ("zone", &[2, 3, 4]), ("region", &[1, 2, 3, 4])];
    for (level, expected) in cases {
        let all: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(n, p)| at(n, if n == 0 { "decode" } else { "prefill" }, p, none()))
            .collect();
        assert_eq!(second_stage(&rig(DECODE_FIRST, &near(level)), "prefill", &all), expected);
        // Where none is near, all are as good.
        let far: Vec<_> = [&all[..1], &all[5..]].concat();
        assert_eq!(second_stage(&rig(DECODE_FIRST, &near(level)), "prefill", &far), [1], "{level}");
    }
}

#[test]
fn a_decode_endpoint_near_the_prefill_endpoint() {
    let near = "- {type: topology-affinity-filter, name: near}";
    let roles = ["prefill", "decode", "decode"];
    let places = ["h1/-/-/-", "h2/-/-/-", "h1/-/-/-"];
    let all: Vec<_> = (0..3).map(|n| at(n, roles[n], places[n], Placement::default())).collect();
    assert_eq!(second_stage(&rig(PREFILL_FIRST, near), "decode", &all), [2]);
}

#[test]
fn nearness_is_rated() {
    let near = "- {type: topology-affinity-scorer, name: near}";
    let places =
        ["h1/r1/z1/g1", "h1/r1/z1/g1", "h2/r1/z1/g1", "h3/r2/z1/g1", "h4/r3/z2/g1", "h5/r4/z3/g2"];
    let scores = [1.0, 0.2, 0.05, 0.02, 0.0];
    for (n, expected) in scores.into_iter().enumerate() {
        let rig = rig(PREFILL_FIRST, near);
        let all = [
            at(0, "prefill", places[0], Placement::default()),
            at(n + 1, "decode", places[n + 1], Placement::default()),
        ];
        let decision = rig.send(&prompt("hi"), &all);
        let scores: Vec<f64> = decision.scores.iter().map(|(_, score)| *score).collect();
        assert_scores(&scores, &[expected]);
    }
}

/// What stands in for the label of a pod that has none.
#[test]
fn the_host_of_a_pod_without_the_label() {
    let near = "- {type: topology-affinity-filter, name: near}";
    let place = |ip: Option<[u8; 4]>, hostname: Option<&str>| Placement {
        node_ip: ip.map(Into::into),
        hostname: hostname.map(str::to_owned),
    };
    let nowhere = place(None, None);
    let node = place(Some([10, 0, 0, 1]), None);
    type Case<'a> = (&'a str, [(&'a str, &'a Placement); 2], bool);
    let cases: [Case<'_>; 7] = [
        ("nothing is known", [("-", &nowhere), ("-", &nowhere)], false),
        ("the same node", [("-", &node), ("-", &node)], true),
        ("other nodes", [("-", &node), ("-", &place(Some([10, 0, 0, 2]), None))], false),
        (
            "the same hostname",
            [("-", &place(None, Some("h"))), ("-", &place(None, Some("h")))],
            true,
        ),
        ("a label and a hostname", [("h", &nowhere), ("-", &place(None, Some("h")))], true),
        ("other labels on one node", [("h", &node), ("i", &node)], false),
        ("empty labels", [("", &nowhere), ("", &nowhere)], false),
    ];
    for (what, [prefill, decode], together) in cases {
        let far = place(Some([10, 9, 9, 9]), Some("far"));
        let all = [
            at(0, "prefill", &format!("{}/-/-/-", prefill.0), prefill.1.clone()),
            at(1, "decode", &format!("{}/-/-/-", decode.0), decode.1.clone()),
            at(2, "decode", "elsewhere/-/-/-", far),
        ];
        let kept = second_stage(&rig(PREFILL_FIRST, near), "decode", &all);
        assert_eq!(kept, if together { vec![1] } else { vec![1, 2] }, "{what}");
    }
}
