mod health;
mod overload;

use std::time::Duration;

use super::faults::{self, Faults, Loss};
use super::fleet::{Fleet, Layout, Signalling};
use super::outcome::{Outcome, Slo};
use super::pipeline::Around;
use super::policy::{Baseline, Policy};
use super::simulation::Simulation;
use crate::bench::trace::{Generator, Kind, Session, Spans, Trace, TraceRequest};
use crate::loader::{self, LoadOptions};
use crate::sim::EngineConfig;

const SECOND: u64 = 1_000_000_000;

fn engine() -> EngineConfig {
    let mut config = EngineConfig::profile("h200-qwen7b").unwrap();
    config.num_blocks = 8000;
    config.max_model_len = 100_000;
    config
}

fn simulation(trace: &Trace, rate: f64) -> Simulation<'_> {
    Simulation {
        trace,
        rate,
        engine: engine(),
        layout: Layout { workers: 4, prefill: 0 },
        signalling: Signalling { interval: SECOND / 20, delay: 0, blind: 0 },
        faults: Faults::default(),
        slo: Slo { ttft: 2 * SECOND, itl: SECOND / 20 },
    }
}

/// Makes the policy of one simulation for its fleet.
type Make<'a> = &'a dyn Fn(&Fleet) -> Policy;

fn run(simulation: &Simulation<'_>, policy: Make<'_>) -> Outcome {
    let mut ended = 0;
    let outcome = simulation.run(|fleet| Ok(policy(fleet)), &mut |n| ended += n).unwrap();
    assert_eq!(ended as usize, simulation.trace.len(), "every request ends once");
    assert_eq!(outcome.finished + outcome.failed, ended);
    outcome
}

fn generated(kind: Kind, requests: usize) -> Trace {
    Generator { kind, requests, rate: 20.0, seed: 1 }.make()
}

fn around(fleet: &Fleet, health: bool) -> Around<'static> {
    Around {
        pool: fleet.pool.clone(),
        seed: 1,
        health,
        metrics_interval: Duration::from_millis(50),
        priorities: &[100, 0, -10],
    }
}

fn default_pipeline(fleet: &Fleet) -> Policy {
    let options = LoadOptions::default();
    let (pipeline, diagnostics) = loader::load("default", None, &options, fleet.pool.ids());
    let pipeline = pipeline.unwrap_or_else(|| panic!("{diagnostics}"));
    Policy::pipeline(pipeline, around(fleet, false))
}

fn pipeline(config: &str, fleet: &Fleet) -> Policy {
    judging_pipeline(config, fleet, false)
}

fn judging_pipeline(config: &str, fleet: &Fleet, health: bool) -> Policy {
    let options = LoadOptions { allow_experimental_plugins: true, ..Default::default() };
    let (pipeline, diagnostics) = loader::load("test", Some(config), &options, fleet.pool.ids());
    let pipeline = pipeline.unwrap_or_else(|| panic!("{diagnostics}"));
    Policy::pipeline(pipeline, around(fleet, health))
}

fn round_robin(_: &Fleet) -> Policy {
    Policy::baseline(Baseline::RoundRobin, 1)
}

fn same(a: &Outcome, b: &Outcome) -> bool {
    serde_json::to_string(a).unwrap() == serde_json::to_string(b).unwrap()
}

#[test]
fn the_seed_decides_and_nothing_else() {
    let trace = generated(Kind::Mix, 400);
    let simulation = simulation(&trace, 1.0);
    assert!(same(&run(&simulation, &default_pipeline), &run(&simulation, &default_pipeline)));
    let random = |seed| run(&simulation, &|_| Policy::baseline(Baseline::Random, seed));
    assert!(same(&random(1), &random(1)));
    assert!(!same(&random(1), &random(2)));
}

#[test]
fn policies_that_know_caches_hit_more_up_to_the_ceiling() {
    let trace = generated(Kind::Chat, 800);
    let ceiling = trace.ceiling(16).hit_rate();
    let simulation = simulation(&trace, 1.0);
    let rate = |policy| run(&simulation, policy).hit_rate;
    let random = rate(&|_| Policy::baseline(Baseline::Random, 1));
    let oracle = rate(&|_| Policy::baseline(Baseline::Oracle, 1));
    let pipeline = rate(&default_pipeline);
    assert!(random < pipeline && random < oracle, "{random} {pipeline} {oracle}");
    assert!(oracle <= ceiling + 1e-9 && oracle > 0.9 * ceiling, "{oracle} {ceiling}");
}

#[test]
fn round_robin_is_even_and_all_tokens_are_counted() {
    let trace = generated(Kind::Shared, 400);
    let outcome = run(&simulation(&trace, 1.0), &|_| Policy::baseline(Baseline::RoundRobin, 1));
    assert_eq!((outcome.finished, outcome.failed), (400, 0));
    assert!((outcome.request_imbalance - 1.0).abs() < 1e-9);
    let tokens = outcome.output_tokens_per_second * outcome.seconds;
    assert!((tokens - trace.output_tokens() as f64).abs() < 0.5);
    assert!(outcome.believed_hit_rate.is_none());
}

#[test]
fn a_closed_loop_waits_for_answers_and_an_open_one_does_not() {
    let request = |think, earliest| TraceRequest {
        think,
        earliest,
        prompt: {
            let mut spans = Spans::default();
            spans.push_stream(1, 2000);
            spans
        },
        output_tokens: 100,
        ..Default::default()
    };
    let session = |requests| Session { starts: 0, requests };
    let closed = Trace {
        name: "closed".into(),
        sessions: vec![session(vec![request(0, 0), request(10 * SECOND, 0)])],
        ..Trace::default()
    };
    let outcome = run(&simulation(&closed, 1.0), &|_| Policy::baseline(Baseline::Random, 1));
    let answer = outcome.e2e.mean_ms / 1e3;
    assert!(outcome.seconds > 10.0 + answer, "{}", outcome.seconds);
    // Twice the rate makes sessions come sooner, nobody think faster.
    let faster = run(&simulation(&closed, 2.0), &|_| Policy::baseline(Baseline::Random, 1));
    assert!((faster.seconds - outcome.seconds).abs() < 1e-6);

    let recorded = Trace {
        name: "recorded".into(),
        sessions: vec![session(vec![request(0, 0), request(0, 3 * SECOND)])],
        ..Trace::default()
    };
    let outcome = run(&simulation(&recorded, 1.0), &|_| Policy::baseline(Baseline::Random, 1));
    assert!((3.0..3.0 + 2.0 * answer).contains(&outcome.seconds), "{}", outcome.seconds);
}

#[test]
fn a_higher_rate_takes_less_time_and_waits_more() {
    let trace = generated(Kind::Shared, 600);
    let outcome =
        |rate| run(&simulation(&trace, rate), &|_| Policy::baseline(Baseline::RoundRobin, 1));
    let (slow, fast) = (outcome(1.0), outcome(20.0));
    assert!(fast.seconds < slow.seconds && fast.ttft.p99_ms > slow.ttft.p99_ms);
    assert!(fast.good_share < slow.good_share);
}

#[test]
fn a_lost_worker_fails_what_it_held() {
    let trace = generated(Kind::Shared, 600);
    let mut simulation = simulation(&trace, 1.0);
    simulation.faults.losses = vec![
        Loss { start: 5 * SECOND, down: 10 * SECOND },
        Loss { start: 6 * SECOND, down: SECOND },
    ];
    let outcome = run(&simulation, &|_| Policy::baseline(Baseline::RoundRobin, 1));
    assert!(outcome.errors["worker lost"] > 0, "{:?}", outcome.errors);
    assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
    assert!(outcome.request_imbalance > 1.0);
}

#[test]
fn a_lost_worker_returns_empty() {
    let mut prompt = Spans::default();
    prompt.push_stream(1, 1600);
    let request = TraceRequest { prompt, output_tokens: 1, ..Default::default() };
    let sessions = [0, 10, 20]
        .map(|at| Session { starts: at * SECOND, requests: vec![request.clone()] })
        .into();
    let trace = Trace { name: "same".into(), sessions, ..Trace::default() };
    let mut simulation = simulation(&trace, 1.0);
    simulation.layout.workers = 1;
    let policy: Make<'_> = &|_| Policy::baseline(Baseline::RoundRobin, 1);
    // The last block of a prompt that is cached in full is computed again.
    let hits = |n: f64| n * 1584.0 / 4800.0;
    assert!((run(&simulation, policy).hit_rate - hits(2.0)).abs() < 1e-9);
    simulation.faults.losses = vec![Loss { start: 12 * SECOND, down: SECOND }];
    assert!((run(&simulation, policy).hit_rate - hits(1.0)).abs() < 1e-9);
}

#[test]
fn with_no_worker_alive_requests_fail_and_the_replay_still_ends() {
    let trace = generated(Kind::Shared, 100);
    let mut simulation = simulation(&trace, 1.0);
    simulation.layout.workers = 1;
    simulation.faults.losses = vec![Loss { start: 0, down: 3600 * SECOND }];
    let least: Make<'_> = &|_| Policy::baseline(Baseline::LeastRequests, 1);
    for policy in [&default_pipeline as Make<'_>, least] {
        let outcome = run(&simulation, policy);
        assert_eq!(outcome.errors["router: ServiceUnavailable"], 100);
    }
}

#[test]
fn prompts_longer_than_the_model_are_counted_as_errors() {
    let trace = generated(Kind::Shared, 200);
    let mut simulation = simulation(&trace, 1.0);
    simulation.engine.max_model_len = 2000;
    let outcome = run(&simulation, &|_| Policy::baseline(Baseline::RoundRobin, 1));
    assert!(outcome.errors["worker: prompt too long"] > 0 && outcome.finished > 0);
}

#[test]
fn late_metrics_do_not_stop_the_pipeline() {
    let trace = generated(Kind::Bursts, 300);
    let mut simulation = simulation(&trace, 2.0);
    simulation.signalling = Signalling { interval: SECOND, delay: 5 * SECOND, blind: 2 };
    simulation.faults.waves = 2 * SECOND;
    let outcome = run(&simulation, &default_pipeline);
    assert_eq!(outcome.failed, 0, "{:?}", outcome.errors);
}

/// Four workers, the first of which goes wrong from 10 s to 20 s: what round robin loses.
#[test]
fn what_a_fault_costs_round_robin() {
    let trace = generated(Kind::Shared, 800);
    for (fault, kinds, lost) in [
        // Every fourth request of ten seconds, and those that it held.
        ("dies@10s+10s", &["worker down", "worker lost"][..], 0.20..0.35),
        ("fails@10s+10s", &["worker: error 500"], 0.20..0.30),
        ("fails=2@10s+10s", &["worker: error 500"], 0.10..0.15),
        ("hangs@10s+10s", &["no answer"], 0.20..0.30),
        ("flaps=1s@10s+10s", &["worker down", "worker lost"], 0.10..0.30),
        ("slow=3@10s+10s", &[], 0.0..0.0),
        ("metrics=idle@10s+10s", &[], 0.0..0.0),
        ("metrics=frozen@10s+10s", &[], 0.0..0.0),
        ("metrics=missing@10s+10s", &[], 0.0..0.0),
    ] {
        let mut simulation = simulation(&trace, 1.0);
        simulation.faults.faults = vec![faults::fault(fault).unwrap()];
        simulation.faults.patience = 3 * SECOND;
        let outcome = run(&simulation, &round_robin);
        assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), kinds, "{fault}");
        let share = outcome.lost_in_fault.expect("some were asked meanwhile");
        assert!(lost.contains(&share) || share == lost.start, "{fault}: {share}");
        let back = outcome.back_after_seconds.expect("it is asked again");
        assert!(back < 1.0, "{fault}: {back}");
    }
}

#[test]
fn a_slow_worker_makes_its_requests_slow() {
    let trace = generated(Kind::Shared, 400);
    let mut simulation = simulation(&trace, 1.0);
    let e2e = |s: &Simulation<'_>| run(s, &round_robin).e2e.p99_ms;
    let before = e2e(&simulation);
    simulation.faults.faults = vec![faults::fault("slow=5@0").unwrap()];
    let after = e2e(&simulation);
    assert!(after > 3.0 * before, "{after} after {before}");
}

/// A worker that shows no work draws those who believe it.
#[test]
fn a_worker_that_looks_idle_draws_requests() {
    let trace = generated(Kind::Bursts, 400);
    let mut simulation = simulation(&trace, 4.0);
    let text = "
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: queue-scorer}, {type: kv-cache-utilization-scorer}]
schedulingProfiles:
- name: default
  plugins: [{pluginRef: queue-scorer}, {pluginRef: kv-cache-utilization-scorer}]
";
    let policy = |fleet: &Fleet| pipeline(text, fleet);
    let honest = run(&simulation, &policy).request_imbalance;
    simulation.faults.faults = vec![faults::fault("metrics=idle@0").unwrap()];
    let lying = run(&simulation, &policy).request_imbalance;
    assert!(lying > honest + 0.5, "{lying} after {honest}");
}

/// Long prompts with long answers, at a rate that keeps the workers busy.
fn documents() -> Trace {
    Generator { kind: Kind::Documents, requests: 300, rate: 8.0, seed: 1 }.make()
}

#[test]
fn divided_workers_keep_prompts_from_disturbing_answers() {
    let trace = documents();
    let mut simulation = simulation(&trace, 1.0);
    let both = run(&simulation, &round_robin);
    assert_eq!((both.prefilled_elsewhere, both.received_tokens), (0.0, 0));
    simulation.layout.prefill = 2;
    let divided = run(&simulation, &round_robin);
    assert_eq!((divided.finished, divided.failed), (300, 0));
    assert!((divided.prefilled_elsewhere - 1.0).abs() < 1e-9);
    // Every prompt is another one, so all of each is moved.
    assert_eq!(divided.received_tokens, trace.input_tokens());
    assert_eq!(divided.hit_rate, 0.0);
    assert!(
        divided.itl.p99_ms < both.itl.p99_ms * 0.7,
        "{} {}",
        divided.itl.p99_ms,
        both.itl.p99_ms
    );
    assert!((divided.computed_imbalance - 2.0).abs() < 0.3, "two of four compute");
}

#[test]
fn where_a_worker_of_a_pair_dies_its_requests_are_lost() {
    let trace = documents();
    let mut simulation = simulation(&trace, 1.0);
    simulation.layout.prefill = 2;
    // Workers 0 and 1 compute prompts, 2 and 3 answer; each fault takes the next worker.
    let fault = |text: &str| faults::fault(text).unwrap();
    let never = fault("slow=1@0");
    for (faults, kinds) in [
        (vec![fault("dies@5100ms+5s")], &["prefill worker down", "prefill worker lost"][..]),
        (vec![fault("fails@5s+5s")], &["prefill worker: error 500"]),
        (vec![fault("hangs@5s+5s")], &["no answer"]),
        (vec![never, never, fault("dies@5s+5s")], &["worker down", "worker lost"]),
        (vec![never, never, fault("fails@5s+5s")], &["worker: error 500"]),
    ] {
        simulation.faults.faults = faults;
        let outcome = run(&simulation, &round_robin);
        assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), kinds);
        assert!(outcome.failed > 10 && outcome.failed < 60, "{:?}", outcome.errors);
    }
}

/// What the decision says of prompts is what happens: the sample computes those elsewhere of which
/// 512 tokens or more are not cached on the worker that answers.
#[test]
fn a_configuration_decides_whose_prompts_are_computed_elsewhere() {
    let sample = include_str!("../../../../config/prefill-decode.yaml");
    let request = |content, tokens| {
        let mut prompt = Spans::default();
        prompt.push_stream(content, tokens);
        TraceRequest { prompt, output_tokens: 20, think: SECOND, ..Default::default() }
    };
    // Each session alone: a text, then the same with more behind it.
    for (what, prefill, tokens, elsewhere) in [
        ("short prompts", 2, [300, 400], 0.0),
        ("long prompts that grow by little", 2, [4000, 4300], 0.5),
        ("long prompts that grow by much", 2, [4000, 8000], 1.0),
        ("nobody to compute them", 0, [4000, 8000], 0.0),
    ] {
        let session = |i: u64| Session {
            starts: i * 10 * SECOND,
            requests: tokens.map(|tokens| request(i, tokens)).into(),
        };
        let sessions = (0..20).map(session).collect();
        let trace = Trace { name: what.into(), sessions, ..Trace::default() };
        let mut simulation = simulation(&trace, 1.0);
        simulation.layout.prefill = prefill;
        let outcome = run(&simulation, &|fleet| pipeline(sample, fleet));
        assert_eq!(outcome.failed, 0, "{what}: {:?}", outcome.errors);
        let found = outcome.prefilled_elsewhere;
        assert!((found - elsewhere).abs() < 1e-9, "{what}: {found}");
        let moved = if elsewhere == 0.0 { 0 } else { 20 * 4000 };
        assert!(outcome.received_tokens >= moved, "{what}: {}", outcome.received_tokens);
    }
}
