//! Scores, against the formulas of the reference and, for the states used here, against what a
//! running llm-d-router (main at ebab6879) answered.

use std::sync::Arc;

use epp::endpoints::{Endpoint, Reservation, ReservationTerms, SignalValues};

use crate::rig::*;

/// The state that the reference's answers were recorded under.
fn state_a() -> Vec<Arc<Endpoint>> {
    loaded(&[(1, 0, 0.1), (2, 1, 0.25), (3, 2, 0.5), (4, 8, 0.9)])
}

#[test]
fn load_scorers_under_state_a() {
    type Case = (&'static [(&'static str, &'static str, f64)], [f64; 4]);
    let cases: [Case; 10] = [
        (&[("queue-scorer", "", 1.0)], [1.0, 0.875, 0.75, 0.0]),
        (&[("kv-cache-utilization-scorer", "", 1.0)], [0.9, 0.75, 0.5, 0.1]),
        (&[("kv-cache-scorer", "", 1.0)], [0.9, 0.75, 0.5, 0.1]),
        (&[("running-requests-size-scorer", "", 1.0)], [1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0]),
        (&[("load-aware-scorer", "", 1.0)], [0.5, 0.49609375, 0.4921875, 0.46875]),
        (&[("load-aware-scorer", "threshold: 10", 1.0)], [0.5, 0.45, 0.4, 0.1]),
        (&[("load-aware-scorer", "threshold: 4", 1.0)], [0.5, 0.375, 0.25, 0.0]),
        (&[("load-aware-scorer", "threshold: -1", 1.0)], [0.5, 0.49609375, 0.4921875, 0.46875]),
        (
            &[("load-aware-scorer", "threshold: 8589934592", 1.0)],
            [0.5, 0.5 - 1.0 / 17179869184.0, 0.5 - 2.0 / 17179869184.0, 0.5 - 8.0 / 17179869184.0],
        ),
        (
            &[
                ("queue-scorer", "", 2.0),
                ("kv-cache-utilization-scorer", "", 2.0),
                ("running-requests-size-scorer", "", 0.5),
            ],
            [4.3, 3.25 + 1.0 / 3.0, 2.5 + 1.0 / 6.0, 0.2],
        ),
    ];
    for (plugins, expected) in cases {
        assert_scores(&Rig::new(plugins).scores(&prompt("hi"), &state_a()), &expected);
    }
}

#[test]
fn load_scorers_at_their_edges() {
    // (scorer, worker states, scores)
    type Case = (&'static str, &'static [(u32, u32, f64)], &'static [f64]);
    let cases: [Case; 6] = [
        ("queue-scorer", &[(0, 7, 0.0)], &[1.0]),
        ("queue-scorer", &[(0, 3, 0.0), (0, 3, 0.0)], &[1.0, 1.0]),
        ("queue-scorer", &[(0, 0, 0.0), (0, u32::MAX, 0.0)], &[1.0, 0.0]),
        ("running-requests-size-scorer", &[(5, 0, 0.0), (5, 9, 0.0)], &[1.0, 1.0]),
        ("kv-cache-utilization-scorer", &[(0, 0, 1.2), (0, 0, -0.5)], &[0.0, 1.0]),
        ("kv-cache-utilization-scorer", &[(0, 0, f64::NAN), (0, 0, 1.0)], &[0.0, 0.0]),
    ];
    for (scorer, state, expected) in cases {
        let rig = Rig::new(&[(scorer, "", 1.0)]);
        assert_scores(&rig.scores(&prompt("hi"), &loaded(state)), expected);
    }
}

#[test]
fn lora_affinity() {
    let all = with_adapters(&[("ab", "", 2), ("c", "", 2), ("", "", 2), ("cd", "a", 2)]);
    let rig = Rig::new(&[("lora-affinity-scorer", "", 1.0)]);
    assert_scores(&rig.scores(&request_for("a", "x"), &all), &[1.0, 0.8, 0.8, 0.6]);
    assert_scores(&rig.scores(&request_for("zz", "x"), &all), &[0.0, 0.8, 0.8, 0.0]);
    // A worker with room that waits for the adapter counts as one with room.
    let roomy = with_adapters(&[("b", "a", 3)]);
    assert_scores(&rig.scores(&request_for("a", "x"), &roomy), &[0.8]);
    // Nothing reported about adapters.
    assert_scores(&rig.scores(&request_for("a", "x"), &workers(2)), &[0.0, 0.0]);
}

/// Requests in flight to four workers, by count.
fn held(workers: &[Arc<Endpoint>], counts: [usize; 4]) -> Vec<Reservation> {
    let of =
        |(w, n): (&Arc<Endpoint>, usize)| (0..n).map(|_| reserve(w.clone(), 0)).collect::<Vec<_>>();
    workers.iter().zip(counts).flat_map(of).collect()
}

#[test]
fn active_requests() {
    // (parameters, requests in flight, scores)
    let cases = [
        ("", [0, 0, 0, 0], [1.0, 1.0, 1.0, 1.0]),
        ("", [0, 3, 1, 0], [1.0, 0.0, 2.0 / 3.0, 1.0]),
        ("", [2, 2, 2, 2], [0.0, 0.0, 0.0, 0.0]),
        ("idleThreshold: 1", [0, 4, 1, 2], [1.0, 0.0, 1.0, 0.5]),
        ("idleThreshold: -5", [0, 4, 1, 2], [1.0, 0.0, 0.75, 0.5]),
        ("maxBusyScore: 0.5", [0, 4, 1, 2], [1.0, 0.0, 0.375, 0.25]),
        ("maxBusyScore: 0", [0, 4, 1, 2], [1.0, 0.0, 0.0, 0.0]),
        ("maxBusyScore: 1.5", [0, 4, 1, 2], [1.0, 0.0, 0.75, 0.5]),
        ("requestTimeout: 2m", [0, 4, 1, 2], [1.0, 0.0, 0.75, 0.5]),
    ];
    for (parameters, counts, expected) in cases {
        let all = workers(4);
        let rig = Rig::new(&[("active-request-scorer", parameters, 1.0)]);
        let requests = held(&all, counts);
        assert_scores(&rig.scores(&prompt("hi"), &all), &expected);
        drop(requests);
        assert_scores(&rig.scores(&prompt("hi"), &all), &[1.0; 4]);
    }
    // The maximum is taken over the candidates alone.
    let all = workers(4);
    let _requests = held(&all, [0, 9, 2, 4]);
    let rig = Rig::new(&[("active-request-scorer", "", 1.0)]);
    assert_scores(&rig.scores(&prompt("hi"), &all[2..]), &[0.5, 0.0]);
}

#[test]
fn token_load_counts_what_is_in_flight_and_this_request() {
    let all = workers(3);
    let rig = Rig::new(&[("token-load-scorer", "queueThresholdTokens: 1000", 1.0)]);
    let _busy = [reserve(all[1].clone(), 400), reserve(all[2].clone(), 5000)];
    assert_scores(&rig.scores(&prompt(&tokens(1, 100)), &all), &[0.9, 0.5, 0.0]);
    // No prompt and nothing in flight is no load at all.
    assert_scores(&rig.scores(&prompt(""), &all), &[1.0, 0.6, 0.0]);
}

#[test]
fn tokens_in_flight_are_those_not_cached() {
    let all = workers(2);
    let producers = [
        ("token-load-scorer", "queueThresholdTokens: 1000", 1.0),
        ("approx-prefix-cache-producer", "", 1.0),
    ];
    let rig = Rig::new(&producers);
    let text = tokens(1, 200);
    rig.send_to(&prompt(&text), &all[0]);
    // The first worker holds all 4 blocks of 64 tokens; the other would have to compute them, the
    // last of them in full, though the prompt ends in it.
    assert_scores(&rig.scores(&prompt(&text), &all), &[1.0, 1.0 - 256.0 / 1000.0]);
    let longer = format!("{text}{}", tokens(2, 40));
    // The tail block is another one now: 192 of 240 tokens match.
    assert_scores(&rig.scores(&prompt(&longer), &all[..1]), &[1.0 - 64.0 / 1000.0]);
}

#[test]
fn tokens_beyond_the_limit_of_the_prefix_producer_count_as_uncached() {
    let all = workers(1);
    let rig = Rig::new(&[
        ("token-load-scorer", "queueThresholdTokens: 1000", 1.0),
        ("approx-prefix-cache-producer", "maxPrefixTokensToMatch: 128", 1.0),
    ]);
    let request = prompt(&tokens(1, 300));
    assert_scores(&rig.scores(&request, &all), &[0.7]);
    assert_scores(&rig.scores(&request, &all), &[1.0 - 172.0 / 1000.0]);
}

/// What is in flight to a worker: `(tokens to work on, prompt tokens, is being answered)`.
type InFlight = (u32, u64, bool);

#[test]
fn expected_delay_weighs_waiting_computing_and_decoding() {
    let request = prompt(&tokens(1, 1024));
    // (parameters, in flight to the first worker, to the second, delay of the first, of the
    // second); the request has 1024 tokens, none of them cached.
    type Case = (&'static str, &'static [InFlight], &'static [InFlight], f64, f64);
    let cases: [Case; 6] = [
        ("", &[], &[], 1024.0, 1024.0),
        // What waits before it is waited for, and each prompt takes something besides.
        ("streamDelayWeight: 0", &[(500, 0, false)], &[], 1724.0, 1024.0),
        ("streamDelayWeight: 0", &[(500, 0, true)], &[], 1024.0, 1024.0),
        // A stream waits while the prompt is computed: 0.1 * 1024. Each of two in a batch slows
        // the other: 0.1 * 100 * 2.2. The prompt is read in each step of the other's: 0.1 * 100 *
        // 0.0007 * 1024.
        (
            "{streamDelayWeight: 0.1, answerTokens: 100}",
            &[(0, 0, true)],
            &[],
            1024.0 + 102.4 + 22.0 + 7.168,
            1024.0,
        ),
        // Long contexts slow it: 0.1 * 100 * 0.0007 * 40,000 more.
        (
            "{streamDelayWeight: 0.1, answerTokens: 100}",
            &[(0, 0, true)],
            &[(0, 40_000, true)],
            1155.568,
            1155.568 + 280.0,
        ),
        ("answerTokens: 0", &[(0, 0, true)], &[], 1024.0 + 51.2 + 22.0 + 7.168, 1024.0),
    ];
    for (parameters, first, second, one, other) in cases {
        let all = workers(2);
        let _held: Vec<Reservation> = [first, second]
            .into_iter()
            .zip(&all)
            .flat_map(|(in_flight, worker)| in_flight.iter().map(|f| (*f, worker.clone())))
            .map(|((tokens, prompt, answered), worker)| {
                let terms = ReservationTerms {
                    tokens,
                    prompt_tokens: prompt,
                    ..ReservationTerms::default()
                };
                let mut held = Reservation::new(worker, terms);
                if answered {
                    held.answer_begins();
                }
                held
            })
            .collect();
        let rig = Rig::new(&[("expected-delay-scorer", parameters, 1.0)]);
        let least = one.min(other) + 16.0;
        let expected = [least / (one + 16.0), least / (other + 16.0)];
        assert_scores(&rig.scores(&request, &all), &expected);
    }
}

#[test]
fn expected_delay_knows_what_is_cached() {
    let all = workers(2);
    let rig = Rig::new(&[("expected-delay-scorer", "", 1.0)]);
    let request = prompt(&tokens(1, 1024));
    rig.send_to(&request, &all[1]);
    // 1,024 tokens anew, and what their copy displaces in a cache of 500,000.
    let copy = 20.0 * 1024.0 * 1024.0 / 500_000.0;
    assert_scores(&rig.scores(&request, &all), &[16.0 / (1040.0 + copy), 1.0]);
    // It stays with its prefix until more waits there than it would have to compute elsewhere.
    let picked = |rig: &Rig| rig.send(&request, &all).endpoints()[0].spec.name.clone();
    let held = reserve(all[1].clone(), 700);
    assert_eq!(picked(&rig), all[1].spec.name);
    let more = reserve(all[1].clone(), 700);
    assert_eq!(picked(&rig), all[0].spec.name);
    drop((held, more));
}

#[test]
fn expected_delay_moves_small_prefixes_and_leaves_long_ones() {
    // (tokens of the prompt, blocks of 16 tokens in each cache, parameters, what has to wait at
    // the endpoint that holds it before it is better computed elsewhere). A prompt that waits
    // counts 200 tokens beside its own.
    let cases = [
        (1_024, 25_000, "", 1_024.0 + 20.0 * 1_024.0 * 1_024.0 / 400_000.0),
        (32_768, 25_000, "", 32_768.0 + 20.0 * 32_768.0 * 32_768.0 / 400_000.0),
        (32_768, 100_000, "", 32_768.0 + 20.0 * 32_768.0 * 32_768.0 / 1_600_000.0),
        (32_768, 25_000, "copyWeight: 1", 32_768.0 + 32_768.0 * 32_768.0 / 400_000.0),
        (32_768, 25_000, "copyWeight: 0", 32_768.0),
        (32_768, 0, "", 32_768.0 + 20.0 * 32_768.0 * 32_768.0 / 500_000.0),
    ];
    for (count, num_blocks, parameters, worth) in cases {
        let block_size = if num_blocks > 0 { 16 } else { 0 };
        let signals = SignalValues { num_blocks, block_size, ..SignalValues::default() };
        let all: Vec<_> = (0..2).map(|n| worker(n, &[], signals)).collect();
        let parameters = format!("{{streamDelayWeight: 0{}}}", joined(parameters));
        let rig = Rig::new(&[("expected-delay-scorer", &parameters, 1.0)]);
        let request = prompt(&tokens(1, count));
        rig.send_to(&request, &all[1]);
        for (waiting, expected) in [(worth - 250.0, 1), (worth - 150.0, 0)] {
            let _held = reserve(all[1].clone(), waiting as u32);
            let decision = rig.send(&request, &all);
            assert_eq!(target(&decision, &all), expected, "{count} {num_blocks} {parameters}");
        }
    }
}

/// One more parameter behind others.
fn joined(parameter: &str) -> String {
    if parameter.is_empty() { String::new() } else { format!(", {parameter}") }
}

#[test]
fn estimated_output_is_reserved_too() {
    // (parameters, tokens reserved for a prompt of 100 tokens)
    let cases = [
        ("", 100),
        ("addEstimatedOutputTokens: true", 250),
        ("{addEstimatedOutputTokens: true, outputRatio: 0.5}", 150),
        ("{addEstimatedOutputTokens: true, outputRatio: 0.333}", 133),
        ("{addEstimatedOutputTokens: true, outputRatio: 0.335}", 134),
        ("{addEstimatedOutputTokens: true, maxEstimatedOutputTokens: 20}", 120),
        ("{addEstimatedOutputTokens: true, maxEstimatedOutputTokens: 0}", 100),
        ("outputRatio: 7", 100),
    ];
    let cases = cases.map(|(parameters, expected)| (parameters, None, expected));
    // What the request itself allows is an upper bound.
    let bounded = [
        ("addEstimatedOutputTokens: true", Some(7), 107),
        ("addEstimatedOutputTokens: true", Some(1000), 250),
        ("{addEstimatedOutputTokens: true, maxEstimatedOutputTokens: 5}", Some(7), 105),
        ("", Some(7), 100),
    ];
    for (parameters, allowed, expected) in cases.into_iter().chain(bounded) {
        let all = workers(1);
        let rig = Rig::new(&[("inflight-load-producer", parameters, 1.0)]);
        let mut request = prompt(&tokens(1, 100));
        request.max_output_tokens = allowed;
        let decision = rig.send(&request, &all);
        assert_eq!(all[0].in_flight.tokens(), expected, "{parameters}");
        drop(decision);
        assert_eq!(all[0].in_flight.tokens(), 0);
    }
}
