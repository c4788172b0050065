//! Scores that depend on what workers were sent before.

use bytes::Bytes;
use epp::endpoints::SignalValues;
use epp::scheduling::{InferenceRequest, PromptBuilder};

use crate::rig::*;

const SCORER: (&str, &str, f64) = ("prefix-cache-scorer", "", 1.0);

/// `alpha0 alpha1 ...`
fn words(word: &str, count: usize) -> String {
    (0..count).map(|i| format!("{word}{i}")).collect::<Vec<_>>().join(" ")
}

/// What a running llm-d-router (main at ebab6879) answered, step by step: the request, the only
/// worker allowed, and the scores with the default blocks of 64 tokens and, as the workers
/// reported blocks of 128 tokens, with these.
#[test]
fn a_recorded_conversation() {
    let alpha = words("alpha", 400);
    let salted = InferenceRequest { cache_salt: "s".into(), ..prompt(&alpha) };
    let gamma = format!("{alpha}{}", words("gamma", 100));
    type Step = (InferenceRequest, Option<usize>, &'static [f64], &'static [f64]);
    const NONE: &[f64] = &[0.0; 4];
    let steps: [Step; 12] = [
        (prompt(&alpha), Some(1), &[0.0], &[0.0]),
        (prompt(&alpha), None, &[0.0, 1.0, 0.0, 0.0], &[0.0, 1.0, 0.0, 0.0]),
        (prompt(&alpha[..1200]), None, &[0.0, 0.8, 0.0, 0.0], &[0.0, 2.0 / 3.0, 0.0, 0.0]),
        (
            prompt(&format!("{alpha}{}", words("beta", 400))),
            None,
            &[0.0, 0.5, 0.0, 0.0],
            &[0.0, 6.0 / 13.0, 0.0, 0.0],
        ),
        (prompt(&format!("other {alpha}")), None, NONE, NONE),
        (request_for("m2", &alpha), None, NONE, NONE),
        (salted, None, NONE, NONE),
        (prompt(&gamma), Some(2), &[0.0], &[0.0]),
        (prompt(&gamma), None, &[0.0, 13.0 / 17.0, 1.0, 0.0], &[0.0, 6.0 / 9.0, 1.0, 0.0]),
        (prompt("short"), Some(3), &[0.0], &[0.0]),
        (prompt("short"), None, &[0.0, 0.0, 0.0, 1.0], &[0.0, 0.0, 0.0, 1.0]),
        (prompt("shorter"), None, NONE, NONE),
    ];
    for block_size in [0, 128] {
        let signals = SignalValues { block_size, ..Default::default() };
        let all: Vec<_> = (0..4).map(|n| worker(n, &[], signals)).collect();
        let rig = Rig::new(&[SCORER]);
        for (i, (request, hint, small, large)) in steps.iter().enumerate() {
            let expected = if block_size == 0 { small } else { large };
            let scores = match hint {
                Some(n) => rig.scores(request, std::slice::from_ref(&all[*n])),
                None => rig.scores(request, &all),
            };
            assert!(
                scores.iter().zip(*expected).all(|(g, e)| (g - e).abs() < 1e-12),
                "step {i}, blocks of {block_size}: {scores:?}"
            );
        }
    }
}

#[test]
fn block_size_of_the_default_producer() {
    // (parameters, block size the workers report, blocks of a prompt of 1000 tokens)
    let cases = [
        ("", 0, 16),
        ("", 16, 16),
        ("", 100, 10),
        ("", u32::MAX, 16),
        ("blockSizeTokens: 200", 0, 5),
        ("blockSizeTokens: 200", 100, 10),
        ("{autoTune: false, blockSizeTokens: 200}", 100, 5),
        ("{autoTune: false, blockSizeTokens: 8}", 100, 16),
        ("blockSize: 250", 0, 4),
        ("{blockSize: 250, blockSizeTokens: 200}", 0, 5),
        ("maxPrefixTokensToMatch: 640", 0, 10),
        ("maxPrefixTokensToMatch: 700", 0, 10),
        ("maxPrefixBlocksToMatch: 3", 0, 16),
        ("{maxPrefixTokensToMatch: 0, maxPrefixBlocksToMatch: 3}", 0, 3),
        ("{maxPrefixTokensToMatch: 0, maxPrefixBlocksToMatch: 0}", 0, 16),
        ("{MAXPREFIXTOKENSTOMATCH: 640}", 0, 10),
    ];
    for (parameters, block_size, expected) in cases {
        let one = [worker(0, &[], SignalValues { block_size, ..Default::default() })];
        let rig = Rig::new(&[SCORER, ("approx-prefix-cache-producer", parameters, 1.0)]);
        let decision = rig.send(&prompt(&tokens(1, 1000)), &one);
        assert_eq!(decision.prefix_blocks, Some((0, expected)), "{parameters} {block_size}");
    }
}

#[test]
fn a_limit_below_one_block_looks_at_nothing() {
    let rig =
        Rig::new(&[SCORER, ("approx-prefix-cache-producer", "maxPrefixTokensToMatch: 63", 1.0)]);
    let all = workers(2);
    for _ in 0..2 {
        let decision = rig.send(&prompt(&tokens(1, 100)), &all);
        assert_eq!(decision.prefix_blocks, None);
        assert!(decision.scores.iter().all(|(_, s)| *s == 0.0));
    }
}

/// Blocks remembered: the capacity of the configuration, or the worker's own.
#[test]
fn capacity_of_the_default_producer() {
    // (parameters, blocks the worker reports, their size in tokens, blocks of 64 tokens it holds
    // of 40)
    let cases = [
        ("", 0, 0, 40),
        ("lruCapacityPerServer: 10", 0, 0, 10),
        ("lruCapacityPerServer: 0", 0, 0, 40),
        ("lruCapacityPerServer: 10", 25, 0, 25),
        ("lruCapacityPerServer: 10", 25, 16, 25),
        ("{lruCapacityPerServer: 10, autoTune: false}", 25, 16, 10),
        ("{lruCapacityPerServer: 10, capacityByTokens: true}", 80, 16, 20),
        ("{lruCapacityPerServer: 10, capacityByTokens: true}", 80, 0, 40),
        ("{lruCapacityPerServer: 10, capacityByTokens: true}", 0, 16, 10),
        ("{lruCapacityPerServer: 10, capacityByTokens: true}", 1, 16, 1),
        ("{lruCapacityPerServer: 10, capacityByTokens: true, autoTune: false}", 80, 16, 10),
    ];
    for (parameters, num_blocks, block_size, held) in cases {
        let signals = SignalValues { num_blocks, block_size, ..Default::default() };
        let one = [worker(0, &[], signals)];
        let rig = Rig::new(&[SCORER, ("approx-prefix-cache-producer", parameters, 1.0)]);
        let request = prompt(&tokens(1, 40 * 64));
        rig.send(&request, &one);
        let blocks = rig.send(&request, &one).prefix_blocks;
        assert_eq!(blocks, Some((held, 40)), "{parameters} {num_blocks}");
    }
}

/// With a parameter of the older kind the scorer cuts bytes itself: (parameters, block size in
/// tokens that workers report, blocks of a prompt of 1000 bytes, blocks matched by its first 300).
#[test]
fn parameters_of_older_generations() {
    let cases = [
        ("hashBlockSize: 64", 0, 15, 4),
        ("{hashBlockSize: 64, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}", 0, 15, 4),
        (
            "{hashBlockSize: 5, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}",
            0,
            200,
            60,
        ),
        ("hashBlockSize: 64", 16, 15, 4),
        ("{hashBlockSize: 100, autoTune: true}", 16, 15, 4),
        ("maxPrefixBlocksToMatch: 3", 0, 3, 3),
        ("maxPrefixBlocksToMatch: 0", 0, 15, 4),
        ("lruCapacityPerServer: 2", 0, 15, 2),
        ("blockSize: 100", 0, 10, 3),
        ("blockSize: 100", 16, 15, 4),
        ("{blockSize: 100, autoTune: false}", 16, 10, 3),
        ("{blockSize: 100, hashBlockSize: 64}", 0, 10, 3),
        ("autoTune: true", 32, 7, 2),
        ("blockSizeTokens: 10", 0, 25, 7),
        ("{mode: estimate, hashBlockSize: 64}", 0, 15, 4),
    ];
    for (parameters, block_size, blocks, matched) in cases {
        let one = [worker(0, &[], SignalValues { block_size, ..Default::default() })];
        let rig = Rig::new(&[("prefix-cache-scorer", parameters, 1.0)]);
        let text = tokens(1, 250);
        rig.send_to(&prompt(&text[..300]), &one[0]);
        let decision = rig.send(&prompt(&text), &one);
        assert_eq!(decision.prefix_blocks, Some((matched, blocks)), "{parameters} {block_size}");
        let expected = f64::from(matched) / f64::from(blocks);
        assert_scores(&[decision.scores[0].1], &[expected]);
    }
}

/// In the older kind what is left after the last whole block does not count, and neither does
/// the model.
#[test]
fn older_generations_count_whole_blocks_of_text_only() {
    let all = workers(2);
    let rig = Rig::new(&[("prefix-cache-scorer", "hashBlockSize: 64", 1.0)]);
    rig.send_to(&prompt(&tokens(1, 100)), &all[0]);
    assert_scores(&rig.scores(&prompt("short"), &all), &[0.0, 0.0]);
    assert_scores(&rig.scores(&prompt("short"), &all), &[0.0, 0.0]);
    assert_scores(&rig.scores(&prompt(&tokens(2, 100)), &all), &[0.0, 0.0]);
}

#[test]
fn matched_length_counts_where_it_is_given_weight() {
    // (parameters, matched tokens of a prompt of 1280, score)
    let cases = [
        ("matchLengthWeight: 0", 640, 0.5),
        ("{matchLengthWeight: 1, matchLengthScaleTokens: 1280}", 640, 0.25),
        ("{matchLengthWeight: 0.5, matchLengthScaleTokens: 1280}", 640, 0.25 + 0.125),
        ("{matchLengthWeight: 1, matchLengthScaleTokens: 320}", 640, 1.0),
        ("matchLengthWeight: 1", 640, (640.0 / 8192.0) * (640.0 / 8192.0)),
    ];
    for (parameters, matched, expected) in cases {
        let one = workers(1);
        let rig = Rig::new(&[("prefix-cache-scorer", parameters, 1.0)]);
        let text = tokens(1, 1280);
        rig.send_to(&prompt(&text[..4 * matched]), &one[0]);
        assert_scores(&rig.scores(&prompt(&text), &one), &[expected]);
    }
}

#[test]
fn several_prompts_are_matched_one_by_one() {
    let both = |one: &str, other: &str| {
        let mut b = PromptBuilder::new(Bytes::new());
        b.text(one.as_bytes());
        b.next_prompt();
        b.text(other.as_bytes());
        InferenceRequest { target_model: "m".into(), prompt: b.finish(), ..Default::default() }
    };
    let (x, y, z) = (tokens(1, 128), tokens(2, 192), tokens(3, 64));
    let all = workers(2);
    let rig = Rig::new(&[SCORER]);
    rig.send_to(&both(&x, &y), &all[0]);
    assert_scores(&rig.scores(&both(&y, &x), &all), &[1.0, 0.0]);
    assert_scores(&rig.scores(&both(&z, &y), &all), &[0.75, 0.0]);
}

#[test]
fn a_worker_that_returns_holds_nothing() {
    let rig = Rig::new(&[SCORER]);
    let request = prompt(&tokens(1, 100));
    let before = workers(1);
    rig.send_to(&request, &before[0]);
    assert_scores(&rig.scores(&request, &before), &[1.0]);
    assert_scores(&rig.scores(&request, &workers(1)), &[0.0]);
}

#[test]
fn two_scorers_may_look_at_two_producers() {
    let all = workers(2);
    let rig = Rig::new(&[
        ("approx-prefix-cache-producer", "maxPrefixTokensToMatch: 64", 1.0),
        SCORER,
        ("no-hit-lru-scorer", "prefixMatchInfoProducerName: approx-prefix-cache-producer", 1.0),
    ]);
    rig.send_to(&prompt(&tokens(1, 100)), &all[0]);
    // Matched whole within the limit of one block: 1 from the scorer, and 0.5 for not being cold.
    assert_scores(&rig.scores(&prompt(&tokens(1, 100)), &all), &[1.5, 0.5]);
}

#[test]
fn cold_requests_go_round() {
    let all = workers(4);
    let rig = Rig::new(&[("no-hit-lru-scorer", "", 1.0)]);
    let third = 1.0 / 3.0;
    // (worker that is sent a cold request first, scores of the next cold request)
    let steps = [
        (None, [1.0, 2.0 * third, third, 0.0]),
        // The one before went to the first worker. The unused ones rank first.
        (None, [0.0, 1.0, 2.0 * third, third]),
        (None, [third, 0.0, 1.0, 2.0 * third]),
        (None, [2.0 * third, third, 0.0, 1.0]),
        (None, [1.0, 2.0 * third, third, 0.0]),
        (Some(2), [third, 1.0, 0.0, 2.0 * third]),
    ];
    let mut seed = 0;
    let mut cold = || {
        seed += 1;
        prompt(&tokens(seed, 64))
    };
    for (i, (first, expected)) in steps.into_iter().enumerate() {
        if let Some(n) = first {
            rig.send_to(&cold(), &all[n]);
        }
        let scores = rig.scores(&cold(), &all);
        assert!(scores.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12), "{i}: {scores:?}");
    }
}

#[test]
fn no_hit_lru_at_its_edges() {
    let all = workers(4);
    let rig = Rig::new(&[("no-hit-lru-scorer", "", 1.0)]);
    for (seed, worker) in (10..).zip(&all) {
        rig.send_to(&prompt(&tokens(seed, 64)), worker);
    }
    // One candidate alone.
    assert_scores(&rig.scores(&prompt(&tokens(20, 64)), &all[..1]), &[1.0]);
    // Positions count all workers remembered: 2 is second to oldest of four (the first one has
    // just been used), 3 is the third.
    assert_scores(&rig.scores(&prompt(&tokens(21, 64)), &all[2..]), &[0.0, 0.0]);
    // A request that somebody has cached, and one without a prompt.
    assert_scores(&rig.scores(&prompt(&tokens(10, 64)), &all), &[0.5; 4]);
    assert!(rig.scores(&prompt(""), &all).contains(&1.0));
}

#[test]
fn no_hit_lru_forgets_the_oldest_beyond_its_size() {
    let all = workers(3);
    let rig = Rig::new(&[("no-hit-lru-scorer", "lruSize: 2", 1.0)]);
    for (seed, worker) in (10..).zip(&all) {
        rig.send_to(&prompt(&tokens(seed, 64)), worker);
    }
    // The first worker counts as unused again; then come the second and the third.
    assert_scores(&rig.scores(&prompt(&tokens(20, 64)), &all), &[1.0, 0.5, 0.0]);
}
