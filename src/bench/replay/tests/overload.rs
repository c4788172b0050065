//! More requests than the workers can serve: who waits, who is served, who is turned away.

use super::super::shares::Share;
use super::*;

const SCORERS: &str = "
- type: queue-scorer
- type: prefix-cache-scorer
- type: single-profile-handler
";

/// A configuration with the gate on; `flow` is its section beyond the detector and the policies.
fn gated(detector: &str, flow: &str) -> String {
    format!(
        "apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:{SCORERS}- {{name: detector, {detector}}}
- type: round-robin-fairness-policy
schedulingProfiles:
- name: default
  plugins:
  - {{pluginRef: queue-scorer, weight: 2}}
  - {{pluginRef: prefix-cache-scorer, weight: 3}}
flowControl:
  saturationDetector: {{pluginRef: detector}}
  defaultPriorityBand: {{fairnessPolicyRef: round-robin-fairness-policy}}
{flow}"
    )
}

const CONCURRENCY: &str = "type: concurrency-detector, parameters: {maxConcurrency: 24}";

/// Workers that run 24 requests at once, and more requests than they can serve.
fn overloaded(trace: &Trace) -> Simulation<'_> {
    let mut simulation = simulation(trace, 2.0);
    simulation.layout.workers = 2;
    simulation.engine.max_num_seqs = 24;
    simulation
}

fn of<'a>(shares: &'a [Share], name: &str) -> &'a Share {
    shares.iter().find(|share| share.of == name).unwrap()
}

fn good(share: &Share) -> f64 {
    share.good as f64 / share.asked as f64
}

#[test]
fn higher_priorities_do_not_feel_the_overload_and_tenants_share_what_is_left() {
    let trace = generated(Kind::Overload, 3000);
    let simulation = overloaded(&trace);
    let config = gated(CONCURRENCY, "  defaultRequestTTL: 1s\n");
    let open = run(&simulation, &|fleet| pipeline(&config.replace("[flowControl]", "[]"), fleet));
    let gated = run(&simulation, &|fleet| pipeline(&config, fleet));
    assert!(good(of(&gated.bands, "100")) > 0.95, "{:?}", gated.bands);
    assert!(good(of(&open.bands, "100")) < 0.5, "{:?}", open.bands);
    assert!(good(of(&gated.bands, "-10")) < 0.1, "{:?}", gated.bands);
    // As many good answers as the workers can give, and more of them where others wait outside.
    assert!(gated.good_share > open.good_share, "{} {}", gated.good_share, open.good_share);
    let fairness = |of_run: &Outcome| of(&of_run.bands, "0").fairness.unwrap();
    let (fair, unfair) = (fairness(&gated), fairness(&open));
    assert!(fair > 0.8 && fair > 2.0 * unfair, "{fair}, {unfair} without the gate");
    let modest = gated.tenants.iter().filter(|t| t.of != "greedy").map(good);
    let greedy = good(of(&gated.tenants, "greedy"));
    assert!(modest.fold(1.0, f64::min) > greedy, "{:?}", gated.tenants);
    // Who is turned away is told why.
    assert_eq!(gated.errors.keys().collect::<Vec<_>>(), ["rejected-ttl-expired"]);
    // What is counted by tenant and by priority is what is counted.
    for shares in [&gated.tenants, &gated.bands] {
        let sum = |f: fn(&Share) -> u64| shares.iter().map(f).sum::<u64>();
        assert_eq!(sum(|s| s.asked), 3000);
        assert_eq!(sum(|s| s.finished), gated.finished);
        assert_eq!(sum(|s| s.failed.values().sum()), gated.failed);
    }
}

#[test]
fn what_has_no_room_to_wait_is_turned_away_and_the_least_important_is_ended_for_others() {
    let trace = generated(Kind::Overload, 1500);
    let simulation = overloaded(&trace);
    for (flow, kinds) in [
        ("  maxRequests: 50\n  defaultRequestTTL: 0s\n", &["rejected-saturated"][..]),
        ("  enableEviction: true\n  defaultRequestTTL: 0s\n", &["evicted"]),
    ] {
        let outcome = run(&simulation, &|fleet| pipeline(&gated(CONCURRENCY, flow), fleet));
        assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), kinds, "{flow}");
        let failed = |band: &Share| band.failed.values().sum::<u64>() as f64 / band.asked as f64;
        let (high, low) = (of(&outcome.bands, "100"), of(&outcome.bands, "-10"));
        assert!(failed(high) < failed(low), "{flow}: {:?}", outcome.bands);
    }
}

#[test]
fn requests_wait_for_a_pool_that_is_empty_and_go_when_it_is_not() {
    let trace = generated(Kind::Shared, 200);
    let mut simulation = simulation(&trace, 1.0);
    simulation.layout.workers = 1;
    simulation.faults.losses = vec![Loss { start: 0, down: 5 * SECOND }];
    for (flow, kinds) in [
        ("  noEndpointRequestTTL: 60s\n", &[][..]),
        ("  noEndpointRequestTTL: 2s\n", &["rejected-no-endpoints"]),
    ] {
        let outcome = run(&simulation, &|fleet| pipeline(&gated(CONCURRENCY, flow), fleet));
        assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), kinds, "{flow}");
        assert!(outcome.finished > 0);
    }
}

#[test]
fn an_overload_repeats_itself() {
    let trace = generated(Kind::Overload, 800);
    let simulation = overloaded(&trace);
    let learned = gated("type: learned-saturation-detector", "  enableEviction: true\n");
    let policy: Make<'_> = &|fleet| judging_pipeline(&learned, fleet, true);
    assert!(same(&run(&simulation, policy), &run(&simulation, policy)));
}

#[test]
fn a_gate_that_is_never_shut_changes_nothing() {
    let trace = generated(Kind::Mix, 300);
    let simulation = simulation(&trace, 1.0);
    let config = gated("type: concurrency-detector, parameters: {maxConcurrency: 100000}", "");
    let open = config.replace("[flowControl]", "[]");
    let outcome = |config: &str| run(&simulation, &|fleet| pipeline(config, fleet));
    assert!(same(&outcome(&config), &outcome(&open)));
}

/// The detector that learns beside thresholds, on engines that were measured.
/// `cargo test --lib replay::tests::overload::learned -- --ignored --nocapture` prints a table.
#[test]
#[ignore = "takes minutes in a debug build"]
fn learned_beside_thresholds() {
    let mut ratios = Vec::new();
    for (kind, profile, rate) in [
        (Kind::Shared, "h100-qwen3b", 5.0),
        (Kind::Rag, "h100-qwen3b", 3.5),
        (Kind::Documents, "h100-qwen3b", 1.35),
        (Kind::Shared, "h200-qwen7b", 9.4),
        (Kind::Documents, "h200-qwen7b", 0.94),
        (Kind::Rag, "h200-qwen7b", 4.1),
    ] {
        let trace = generated(kind, 1500);
        let mut simulation = simulation(&trace, rate);
        simulation.engine = EngineConfig::profile(profile).unwrap();
        let good = |detector: &str| {
            let config = gated(detector, "  defaultRequestTTL: 1s\n");
            run(&simulation, &|fleet| pipeline(&config, fleet)).good_share
        };
        let fixed = [16, 32, 64, 96, 128, 256].map(|n| {
            good(&format!("type: concurrency-detector, parameters: {{maxConcurrency: {n}}}"))
        });
        let best = fixed.into_iter().fold(0.0, f64::max);
        let learned = good("type: learned-saturation-detector");
        println!("{kind:?} {profile} x {rate}: {:.3} of the best; {fixed:.3?}", learned / best);
        ratios.push(learned / best);
    }
    assert!(ratios.iter().all(|ratio| *ratio > 0.65), "{ratios:.3?}");
}
