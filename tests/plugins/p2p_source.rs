//! From which endpoint another one pulls KV blocks.

use std::sync::Arc;

use epp::endpoints::{Endpoint, SignalValues};
use epp::scheduling::Decision;

use crate::rig::*;

const HEADER: &str = "x-kv-cache-source-host-port";

fn source(decision: &Decision) -> Option<&str> {
    let found = decision.directions.headers().iter().find(|(key, _)| key == HEADER);
    found.map(|(_, value)| std::str::from_utf8(value).unwrap())
}

/// Requests go to the endpoint with the shortest queue, whatever it holds.
fn rig(parameters: &str) -> Rig {
    Rig::new(&[
        ("p2p-source-producer", parameters, 1.0),
        ("approx-prefix-cache-producer", "{autoTune: false, blockSizeTokens: 64}", 1.0),
        ("queue-scorer", "", 1.0),
    ])
}

fn with_queues(waiting: &[u32]) -> Vec<Arc<Endpoint>> {
    let one = |(n, &waiting)| worker(n, &[], SignalValues { waiting, ..SignalValues::default() });
    waiting.iter().enumerate().map(one).collect()
}

#[test]
fn who_holds_more_than_the_one_that_computes() {
    // Tokens of the prompt that workers 0, 1 and 2 hold; the request goes to 2. Blocks are 64.
    let cases: [(&str, &str, [usize; 3], Option<&str>); 8] = [
        ("nobody holds anything", "", [0, 0, 0], None),
        ("one does", "", [640, 0, 0], Some("127.0.0.1:8000")),
        ("the one that holds most", "", [640, 1280, 0], Some("127.0.0.2:8000")),
        ("more than the computing one", "", [640, 0, 320], Some("127.0.0.1:8000")),
        ("as much", "", [640, 0, 640], None),
        ("less", "", [320, 0, 640], None),
        ("not enough more", "minCachedTokenDelta: 512", [640, 0, 192], None),
        ("enough more", "minCachedTokenDelta: 512", [640, 0, 128], Some("127.0.0.1:8000")),
    ];
    for (what, parameters, held, expected) in cases {
        let rig = rig(parameters);
        let all = with_queues(&[1, 1, 0]);
        for (worker, held) in all.iter().zip(held).filter(|(_, held)| *held > 0) {
            rig.send_to(&prompt(&tokens(1, held)), worker);
        }
        let decision = rig.send(&prompt(&tokens(1, 1280)), &all);
        assert_eq!(target(&decision, &all), 2, "{what}");
        assert_eq!(source(&decision), expected, "{what}");
    }
}

#[test]
fn those_that_hold_about_the_same_take_turns_by_their_queues() {
    // Worker 1 holds one block less than worker 0, and has the shorter queue: 1/(1+3) beside
    // 1/(1+1), so that two in three go there.
    let all = with_queues(&[3, 1, 0]);
    let mut at_one = 0;
    for n in 0..600 {
        let rig = rig("");
        rig.send_to(&prompt(&tokens(1, 640)), &all[0]);
        rig.send_to(&prompt(&tokens(1, 576)), &all[1]);
        let mut request = prompt(&tokens(1, 1280));
        request.id = format!("request-{n}");
        let decision = rig.send(&request, &all);
        at_one += u32::from(source(&decision) == Some("127.0.0.2:8000"));
    }
    assert!((350..450).contains(&at_one), "{at_one}");
}

#[test]
fn the_endpoint_of_the_prefill_profile_computes() {
    let rig = Rig::from_yaml(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: prefill-filter
- type: decode-filter
- {type: approx-prefix-cache-producer, parameters: {autoTune: false, blockSizeTokens: 64}}
- type: p2p-source-producer
- type: queue-scorer
- type: always-disagg-pd-decider
- type: disagg-profile-handler
  parameters: {deciders: {prefill: always-disagg-pd-decider}}
schedulingProfiles:
- {name: prefill, plugins: [{pluginRef: prefill-filter}, {pluginRef: queue-scorer}]}
- {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: queue-scorer}]}
",
    );
    let of = |n, role, waiting| {
        worker(n, &[("llm-d.ai/role", role)], SignalValues { waiting, ..SignalValues::default() })
    };
    // Prefill goes to 1, which lacks what 0 and the decode endpoint 2 hold.
    let all = [of(0, "prefill", 5), of(1, "prefill", 0), of(2, "decode", 0)];
    let text = tokens(1, 640);
    rig.send(&prompt(&text), &[all[0].clone(), all[2].clone()]);
    let decision = rig.send(&prompt(&text), &all);
    assert_eq!(decision.profile("prefill").unwrap().target().unwrap().id, all[1].id);
    let source = source(&decision).expect("prefill pulls");
    assert!(["127.0.0.1:8000", "127.0.0.3:8000"].contains(&source), "{source}");
}
