//! Plugins that stand on predictions of latency, taught by outcomes as an exchange tells them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use epp::clock::Timestamp;
use epp::endpoints::{Endpoint, SignalValues};
use epp::exchange::{Ending, Kept, Outcome, Response, Times};
use epp::scheduling::{DecisionOptions, InferenceRequest, TokenUsage};

use crate::rig::*;

/// What an answer of 11 tokens took.
#[derive(Clone, Copy)]
struct Took {
    ttft: Duration,
    tpot: Duration,
}

/// Sends `request` to `worker` alone and tells the plugins what came of it.
fn answered(rig: &Rig, request: &InferenceRequest, worker: &Arc<Endpoint>, took: Took) {
    let decision = rig.send(request, std::slice::from_ref(worker));
    let first_byte = Timestamp::START + took.ttft;
    let usage = TokenUsage { prompt: 0, completion: 11, cached: None };
    let response =
        Response { status: Some(200), streaming: true, usage: Some(usage), ..Response::default() };
    let outcome = Outcome {
        request,
        has_body: true,
        endpoint: Some(worker),
        decision: Some(&decision),
        refusal: None,
        rewritten_by: None,
        times: Times {
            decided: Some(Timestamp::START),
            first_byte: Some(first_byte),
            ended: first_byte + took.tpot * 10,
            ..Times::default()
        },
        response: &response,
        ending: Ending::Complete,
        kept: &Kept::default(),
    };
    for listener in &rig.hooks.outcomes {
        listener.answer_begins(&outcome);
        listener.ended(&outcome);
    }
}

/// Workers of which the second takes twice as long and the third four times; the first takes
/// 20 ms and 20 us a token, then 5 ms for each further one.
fn taught(rig: &Rig) -> Vec<Arc<Endpoint>> {
    let busy = SignalValues { running: 3, kv_usage: 0.5, ..SignalValues::default() };
    let all: Vec<_> = (0..3).map(|n| worker(n, &[], busy)).collect();
    for i in 0..1500 {
        let count = 100 * (1 + i % 10);
        let text = tokens(1000 + i as u32, count);
        let factor = [1, 2, 4][i % 3];
        let ttft = Duration::from_micros(20_000 + 20 * count as u64) * factor;
        let took = Took { ttft, tpot: Duration::from_millis(5) * factor };
        answered(rig, &prompt(&text), &all[i % 3], took);
    }
    all
}

/// A request of 100 tokens that nobody holds, with limits as headers say them.
fn limited(headers: &[(&'static str, &'static str)]) -> InferenceRequest {
    let mut request = prompt(&tokens(7, 100));
    for &(name, value) in headers {
        request.headers.set(Bytes::from(name), Bytes::from(value));
    }
    request
}

const STREAMING: (&str, &str, f64) = ("predicted-latency-producer", "streamingMode: true", 1.0);

/// As [`Rig::new`], with a producer for streams that no profile names.
fn rig(plugin: (&str, &str)) -> Rig {
    let mut yaml = format!(
        "kind: EndpointPickerConfig\napiVersion: llm-d.ai/v1alpha1\nplugins:\n\
         - type: {}\n  parameters: {{{}}}\n- type: {}\n",
        STREAMING.0, STREAMING.1, plugin.0
    );
    if !plugin.1.is_empty() {
        yaml.push_str(&format!("  parameters: {{{}}}\n", plugin.1));
    }
    let is_admitter = plugin.0.ends_with("admitter");
    let named = if is_admitter { "[]".into() } else { format!("[{{pluginRef: {}}}]", plugin.0) };
    yaml.push_str(&format!("schedulingProfiles:\n- name: default\n  plugins: {named}\n"));
    Rig::from_yaml(&yaml)
}

#[test]
fn before_anything_is_learnt_signals_count() {
    // Waiting 0, 1, 2, 8 and KV usage 0.1, 0.25, 0.5, 0.9, nothing cached.
    let all = loaded(&[(1, 0, 0.1), (2, 1, 0.25), (3, 2, 0.5), (4, 8, 0.9)]);
    let cases = [
        ("", [0.63, 0.54, 0.42, 0.03]),
        ("compositeQueueWeight: 0, compositePrefixWeight: 0", [0.9, 0.75, 0.5, 0.1]),
        ("compositeKVWeight: 0, compositePrefixWeight: 0", [1.0, 0.88, 0.75, 0.0]),
        (
            "compositeKVWeight: 0, compositePrefixWeight: 0, compositeQueueWeight: 0",
            [0.9, 0.75, 0.5, 0.1],
        ),
    ];
    for (parameters, expected) in cases {
        let scores = rig(("latency-scorer", parameters)).scores(&limited(&[]), &all);
        assert_scores(&scores, &expected);
    }
}

#[test]
fn the_endpoint_that_answers_sooner_scores_more() {
    let rig = rig(("latency-scorer", ""));
    let all = taught(&rig);
    let _held: Vec<_> = all.iter().map(|w| reserve(w.clone(), 0)).collect();
    // No limit is kept by anybody: the one that misses it by the least.
    let scores = rig.scores(&limited(&[]), &all);
    assert!(scores[0] == 1.0 && scores[0] > scores[1] && scores[1] > scores[2], "{scores:?}");
    // All keep it: the one that keeps it by the least, so that the others stay free.
    let easy = limited(&[("x-llm-d-slo-ttft-ms", "10000"), ("x-llm-d-slo-tpot-ms", "1000")]);
    let scores = rig.scores(&easy, &all);
    assert!(scores[2] == 1.0 && scores[2] > scores[1] && scores[1] > scores[0], "{scores:?}");
    // Only the first keeps it; the others are not scored.
    let hard = limited(&[("x-slo-ttft-ms", "32"), ("x-slo-tpot-ms", "1000")]);
    let scores = rig.scores(&hard, &all);
    assert!(scores[0] > 0.0 && scores[1..] == [0.0, 0.0], "{scores:?}");
}

#[test]
fn the_filter_keeps_who_keeps_the_limits() {
    let rig = rig(("slo-headroom-tier-filter", "epsilonExploreNeg: 0"));
    let all = taught(&rig);
    let tpot = ("x-llm-d-slo-tpot-ms", "1000");
    type Sent<'a> = &'a [(&'static str, &'static str)];
    let cases: [(Sent<'_>, &[u32]); 6] = [
        (&[("x-llm-d-slo-ttft-ms", "10000"), tpot], &[0, 1, 2]),
        (&[("x-llm-d-slo-ttft-ms", "64"), tpot], &[0, 1]),
        (&[("x-llm-d-slo-ttft-ms", "10000"), ("x-llm-d-slo-tpot-ms", "7.5")], &[0]),
        (&[("x-llm-d-slo-ttft-ms", "1"), tpot], &[0, 1, 2]),
        (&[], &[0, 1, 2]),
        (&[("x-llm-d-slo-ttft-ms", "soon"), tpot], &[0, 1, 2]),
    ];
    for (headers, expected) in cases {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| -> (&'static str, &'static str) { (name, value) })
            .collect();
        assert_eq!(rig.kept(&limited(&headers), &all), expected, "{headers:?}");
    }
}

#[test]
fn the_strictest_stream_of_an_endpoint_counts_for_all_there() {
    let rig = rig(("slo-headroom-tier-filter", "epsilonExploreNeg: 0"));
    let all = taught(&rig);
    let easy = [("x-llm-d-slo-ttft-ms", "10000"), ("x-llm-d-slo-tpot-ms", "1000")];
    let strict = limited(&[("x-llm-d-slo-ttft-ms", "10000"), ("x-llm-d-slo-tpot-ms", "2")]);
    let _decision = rig.send(&strict, &all[..1]);
    assert_eq!(rig.kept(&limited(&easy), &all), [1, 2]);
}

#[test]
fn the_admitter_refuses_what_nobody_can_answer_in_time() {
    let rig = rig(("latency-slo-admitter", ""));
    let all = taught(&rig);
    let impossible = [("x-llm-d-slo-ttft-ms", "1"), ("x-llm-d-slo-tpot-ms", "1")];
    let possible = [("x-llm-d-slo-ttft-ms", "10000"), ("x-llm-d-slo-tpot-ms", "1000")];
    let refused =
        |headers: &[(&'static str, &'static str)], priority, workers: &[Arc<Endpoint>]| {
            let request = InferenceRequest { priority, ..limited(headers) };
            match rig.schedule(&request, &candidates(workers), DecisionOptions::default()) {
                Ok(_) => None,
                Err(refusal) => Some(refusal.error.code.http_status()),
            }
        };
    assert_eq!(refused(&impossible, -1, &all), Some(429));
    assert_eq!(refused(&impossible, 0, &all), None);
    assert_eq!(refused(&possible, -1, &all), None);
    assert_eq!(refused(&[], -1, &all), None);
    let idle = worker(8, &[], SignalValues { kv_usage: 0.5, ..SignalValues::default() });
    let cold = worker(9, &[], SignalValues { running: 9, ..SignalValues::default() });
    for free in [idle, cold] {
        let with_it: Vec<_> = all.iter().cloned().chain([free]).collect();
        assert_eq!(refused(&impossible, -1, &with_it), None);
    }
}

#[test]
fn the_probabilistic_admitter_refuses_by_saturation() {
    let refused = |parameters: &str, priority, state: &[(u32, u32, f64)]| {
        let rig = rig(("probabilistic-admitter", parameters));
        let request = InferenceRequest { priority, ..prompt("hi") };
        let all = loaded(state);
        let ask = || rig.schedule(&request, &candidates(&all), DecisionOptions::default());
        (0..400).filter(|_| ask().is_err()).count()
    };
    assert_eq!(refused("", -1, &[(0, 0, 0.0), (0, 0, 0.0)]), 0);
    assert_eq!(refused("", -1, &[(0, 5, 0.0)]), 400);
    assert_eq!(refused("", 0, &[(0, 99, 1.0)]), 0);
    // 0.5 in the mean, by the larger of both ratios: 0.5 to the first power.
    let half = refused("power: 1, k: 1", -1, &[(0, 0, 0.8), (0, 0, 0.0)]);
    assert!((150..250).contains(&half), "{half}");
}

#[test]
fn affinity_may_go_by_predictions() {
    let parameters = "ttftSource: latencyPredictor, maxTTFTPenaltyMs: 25";
    let rig = rig(("prefix-cache-affinity-filter", parameters));
    let all = taught(&rig);
    // The slowest holds the prompt: what it would gain is less than what it costs.
    let text = tokens(8, 64);
    rig.send_to(&prompt(&text), &all[2]);
    assert_eq!(rig.kept(&prompt(&text), &all), [0, 1, 2]);
    let text = tokens(9, 64);
    rig.send_to(&prompt(&text), &all[0]);
    assert_eq!(rig.kept(&prompt(&text), &all), [0]);
}

#[test]
fn the_scorer_of_v1_3_chooses_one() {
    let plain = Rig::new(&[("predicted-latency-scorer", "", 1.0)]);
    let rig = Rig::new(&[(
        "predicted-latency-scorer",
        "{selectionMode: max, epsilonExploreNeg: 0, epsilonExploreSticky: 0}",
        1.0,
    )]);
    let untaught = plain.scores(&limited(&[]), &loaded(&[(1, 0, 0.1), (2, 1, 0.9)]));
    assert_eq!(untaught.iter().sum::<f64>(), 1.0);
    let all = taught(&rig);
    assert_eq!(rig.scores(&limited(&[]), &all), [1.0, 0.0, 0.0]);
    // Another prompt: the first endpoint holds the one before.
    let easy = limited(&[("x-slo-ttft-ms", "10000"), ("x-slo-tpot-ms", "1000")]);
    let easy = InferenceRequest { prompt: prompt(&tokens(71, 100)).prompt, ..easy };
    assert_eq!(rig.scores(&easy, &all), [0.0, 0.0, 1.0]);
}

#[test]
fn its_error_is_shown() {
    let rig = rig(("latency-scorer", ""));
    taught(&rig);
    let (_, state) = &rig.hooks.debug_states[0];
    let state = state.debug_state();
    assert_eq!((&state["ready"], &state["requestsFollowed"]), (&true.into(), &0.into()));
    assert!(state["ttft"]["predictions"].as_u64() > Some(1000), "{state}");
    assert!(state["ttft"]["medianError"].as_f64() < Some(0.2), "{state}");
}

#[test]
fn answers_that_failed_teach_nothing() {
    let rig = rig(("latency-scorer", ""));
    let all = workers(1);
    for i in 0..300 {
        let request = prompt(&tokens(i, 10));
        let decision = rig.send(&request, &all);
        let first_byte = Some(Timestamp::START + Duration::from_millis(1));
        let response = Response { status: Some(500), streaming: true, ..Response::default() };
        let outcome = Outcome {
            request: &request,
            has_body: true,
            endpoint: Some(&all[0]),
            decision: Some(&decision),
            refusal: None,
            rewritten_by: None,
            times: Times { decided: Some(Timestamp::START), first_byte, ..Times::default() },
            response: &response,
            ending: Ending::Complete,
            kept: &Kept::default(),
        };
        for listener in &rig.hooks.outcomes {
            listener.answer_begins(&outcome);
            listener.ended(&outcome);
        }
    }
    let state = rig.hooks.debug_states[0].1.debug_state();
    assert_eq!((&state["ready"], &state["requestsFollowed"]), (&false.into(), &0.into()));
}
