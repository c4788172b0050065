//! Which of the scored candidates pickers take.

use std::collections::HashMap;
use std::sync::Arc;

use epp::clock::Timestamp;
use epp::endpoints::Endpoint;
use epp::scheduling::{Ask, Cycle, DecisionOptions, RequestData, Scorer, WeightedScorer};

use crate::rig::*;

const PICKERS: [&str; 3] = ["max-score-picker", "random-picker", "weighted-random-picker"];

/// How often each of `all` was the target in `count` requests, each let go of before the next.
fn targets(rig: &Rig, all: &[Arc<Endpoint>], count: usize) -> Vec<usize> {
    let mut times = vec![0; all.len()];
    for _ in 0..count {
        times[target(&rig.send(&prompt("hi"), all), all)] += 1;
    }
    times
}

/// Asserts that `times` are spread as `shares` say, within what chance allows (5 standard
/// deviations; the generator is seeded, so it is so every time or never).
#[track_caller]
fn assert_spread(times: &[usize], shares: &[f64]) {
    let n = times.iter().sum::<usize>() as f64;
    for (&t, &p) in times.iter().zip(shares) {
        let slack = 5.0 * (n * p * (1.0 - p)).sqrt();
        assert!((t as f64 - n * p).abs() <= slack, "{times:?} for {shares:?}");
    }
}

#[test]
fn max_score_takes_the_best_and_ties_fall_by_chance() {
    let rig = Rig::new(&[("kv-cache-utilization-scorer", "", 1.0), ("max-score-picker", "", 1.0)]);
    let best = loaded(&[(0, 0, 0.3), (0, 0, 0.2), (0, 0, 0.4)]);
    assert_eq!(targets(&rig, &best, 100), [0, 100, 0]);
    let tied = loaded(&[(0, 0, 0.2), (0, 0, 0.3), (0, 0, 0.2), (0, 0, 0.2)]);
    assert_spread(&targets(&rig, &tied, 3000), &[1.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0]);
}

#[test]
fn max_score_gives_ties_to_the_least_loaded() {
    let rig = Rig::new(&[("kv-cache-utilization-scorer", "", 1.0), ("max-score-picker", "", 1.0)]);
    let tied = loaded(&[(0, 0, 0.2), (0, 0, 0.3), (0, 0, 0.2), (0, 0, 0.2)]);
    let _held = [0, 0, 3].map(|n| reserve(tied[n].clone(), 0));
    assert_eq!(targets(&rig, &tied, 100), [0, 0, 100, 0]);
}

/// Gives the first worker a score that is not a number and the others 0.5.
#[derive(Debug)]
struct Broken;

impl Scorer for Broken {
    fn score(&self, _: &Cycle<'_>, candidates: &[u32], scores: &mut [f64]) {
        for (score, &c) in scores.iter_mut().zip(candidates) {
            *score = if c == 0 { f64::NAN } else { 0.5 };
        }
    }
}

#[test]
fn a_score_that_is_not_a_number_loses_and_still_serves() {
    for picker in PICKERS.into_iter().filter(|p| *p != "random-picker") {
        let mut rig = Rig::new(&[(picker, "", 1.0)]);
        let broken = WeightedScorer { name: "b".into(), scorer: Arc::new(Broken), weight: 1.0 };
        rig.scheduler.profiles[0].scorers.push(broken);
        assert_eq!(targets(&rig, &workers(3), 100)[0], 0, "{picker}");
        assert_eq!(targets(&rig, &workers(1), 10), [10], "{picker}");
    }
}

#[test]
fn random_ignores_scores() {
    let rig = Rig::new(&[("kv-cache-utilization-scorer", "", 1.0), ("random-picker", "", 1.0)]);
    let all = loaded(&[(0, 0, 0.9), (0, 0, 0.0), (0, 0, 1.0), (0, 0, 0.5)]);
    assert_spread(&targets(&rig, &all, 4000), &[0.25; 4]);
}

#[test]
fn weighted_random_is_proportional_to_scores() {
    let rig =
        Rig::new(&[("kv-cache-utilization-scorer", "", 1.0), ("weighted-random-picker", "", 1.0)]);
    // (KV usage, share)
    let cases: [(&[f64], &[f64]); 4] = [
        (&[0.4, 0.7, 0.9, 1.0], &[0.6, 0.3, 0.1, 0.0]),
        // Equal scores share what they have together.
        (&[0.5, 0.75, 0.75, 1.0], &[0.5, 0.25, 0.25, 0.0]),
        // Scores so small that u^(1/score) is 0 for most u.
        (&[1.0 - 2e-6, 1.0 - 1e-6, 1.0], &[2.0 / 3.0, 1.0 / 3.0, 0.0]),
        // No score at all: anyone.
        (&[1.0, 1.0], &[0.5, 0.5]),
    ];
    for (usage, shares) in cases {
        let state: Vec<_> = usage.iter().map(|&kv| (0, 0, kv)).collect();
        assert_spread(&targets(&rig, &loaded(&state), 6000), shares);
    }
}

/// Load moves picks between those of about one score and leaves alone how likely each score is.
#[test]
fn weighted_random_prefers_the_less_loaded_of_those_alike_only() {
    let rig =
        Rig::new(&[("kv-cache-utilization-scorer", "", 1.0), ("weighted-random-picker", "", 1.0)]);
    let all = loaded(&[(0, 0, 0.5), (0, 0, 0.75), (0, 0, 0.75)]);
    let _held = [0, 0, 0, 1].map(|n| reserve(all[n].clone(), 0));
    assert_spread(&targets(&rig, &all, 4000), &[0.5, 0.0, 0.5]);
    // A score of 0.25 and one of 0.2501 are alike.
    let all = loaded(&[(0, 0, 0.5), (0, 0, 0.7499), (0, 0, 0.75)]);
    let _held = [0, 0, 0, 1].map(|n| reserve(all[n].clone(), 0));
    assert_spread(&targets(&rig, &all, 4000), &[0.5, 0.0, 0.5]);
}

#[test]
fn several_endpoints_in_order() {
    let all = loaded(&[(0, 0, 0.3), (0, 0, 0.1), (0, 0, 0.2)]);
    // (parameters, endpoints)
    let cases = [("", 1), ("maxNumOfEndpoints: 2", 2), ("maxNumOfEndpoints: 9", 3)];
    let cases =
        cases.into_iter().chain([("maxNumOfEndpoints: 0", 1), ("maxNumOfEndpoints: -1", 1)]);
    for (parameters, count) in cases {
        for picker in PICKERS {
            let rig =
                Rig::new(&[("kv-cache-utilization-scorer", "", 1.0), (picker, parameters, 1.0)]);
            let decision = rig.send(&prompt("hi"), &all);
            let mut names: Vec<_> = decision.endpoints().iter().map(|e| &*e.spec.name).collect();
            if picker == "max-score-picker" {
                assert_eq!(names, ["w1", "w2", "w0"][..count], "{parameters}");
            }
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{picker} {parameters}: no endpoint twice");
            // The first one holds the reservation.
            assert_eq!(decision.target().unwrap().in_flight.requests(), 1);
            assert_eq!(decision.profiles.len(), 1);
        }
    }
}

/// 256 requests that all saw the pool before any of them was picked for, from `threads` threads.
fn largest_share(all: &[Arc<Endpoint>], plugins: &[(&str, &str, f64)], threads: usize) -> f64 {
    const REQUESTS: usize = 256;
    let rig = Rig::new(plugins);
    let before = candidates(all);
    let held: Vec<_> = std::thread::scope(|scope| {
        let each = |thread: usize| {
            let (before, scheduler) = (&before, &rig.scheduler);
            scope.spawn(move || {
                let rng = std::cell::RefCell::new(fastrand::Rng::with_seed(thread as u64));
                let one = |n| {
                    // All prompts differ from the first block on: nobody has anything cached.
                    let request = prompt(&tokens((thread * REQUESTS + n) as u32, 64));
                    let ask = Ask {
                        request: &request,
                        candidates: before,
                        data: RequestData::default(),
                        now: Timestamp::START,
                        rng: &rng,
                        options: DecisionOptions::default(),
                    };
                    scheduler.schedule(ask).unwrap()
                };
                (0..REQUESTS / threads).map(one).collect::<Vec<_>>()
            })
        };
        let running: Vec<_> = (0..threads).map(each).collect();
        running.into_iter().flat_map(|r| r.join().unwrap()).collect()
    });
    let mut shares = HashMap::new();
    for decision in &held {
        *shares.entry(decision.target().unwrap().instance).or_insert(0) += 1;
    }
    let mean = REQUESTS as f64 / all.len() as f64;
    f64::from(*shares.values().max().unwrap()) / mean
}

#[test]
fn a_burst_spreads_evenly_whatever_the_picker() {
    let scorers: [&[(&str, &str, f64)]; 3] = [
        &[],
        &[("prefix-cache-scorer", "", 2.0), ("load-aware-scorer", "threshold: 100", 1.0)],
        &[("queue-scorer", "", 2.0), ("active-request-scorer", "", 1.0)],
    ];
    for scorers in scorers {
        for picker in PICKERS {
            for threads in [1, 2, 8] {
                let plugins = [scorers, &[(picker, "", 1.0)]].concat();
                let share = largest_share(&workers(8), &plugins, threads);
                assert!(share <= 1.25, "{picker} after {scorers:?}, {threads} threads: {share}");
            }
        }
    }
}

/// Picks by weight spread over workers that differ a little, too.
#[test]
fn a_weighted_burst_spreads_evenly_over_workers_that_hardly_differ() {
    let state: Vec<_> = (0..8).map(|n| (0, 0, 0.5 + f64::from(n) / 1000.0)).collect();
    let plugins = [("kv-cache-utilization-scorer", "", 1.0), ("weighted-random-picker", "", 1.0)];
    for threads in [1, 2, 8] {
        let share = largest_share(&loaded(&state), &plugins, threads);
        assert!(share <= 1.25, "{threads} threads: {share}");
    }
}
