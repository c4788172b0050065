use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::rig::{Request, Rig, State};
use crate::flow_control::{
    BandConfig, FairnessPolicy, FlowControlConfig, ProgramAware, ProgramAwareConfig, RoundRobin,
    Served,
};

fn sharing(fairness: Arc<dyn FairnessPolicy>) -> FlowControlConfig {
    FlowControlConfig {
        default_band: BandConfig { fairness, ..BandConfig::default() },
        ..FlowControlConfig::default()
    }
}

/// Serves one request after another until `served` have gone; how many of each flow. Every flow
/// always has something waiting: as much as it is greedy.
fn served(rig: &Rig, greed: &[usize], served: usize, cost: impl Fn(usize) -> u64) -> Vec<usize> {
    let mut running = rig.run("first", 0);
    let ids: Vec<String> = (0..greed.len()).map(|n| format!("flow {n}")).collect();
    let mut waiting: BTreeMap<(usize, usize), Request> = BTreeMap::new();
    let mut counts = vec![0; greed.len()];
    let mut asked = 0;
    for (flow, greed) in greed.iter().enumerate() {
        for _ in 0..*greed {
            waiting.insert((flow, asked), rig.ask(&ids[flow], 0));
            asked += 1;
        }
    }
    for _ in 0..served {
        rig.pass(Duration::from_millis(10));
        running.end();
        let next = waiting.iter_mut().find_map(|(key, r)| r.start().then_some(*key));
        let (flow, number) = next.expect("a freed place lets one go");
        running = waiting.remove(&(flow, number)).unwrap();
        if let State::Running(running) = &mut running.state {
            running.set_served(Served { prompt_tokens: cost(flow), completion_tokens: 0 });
        }
        counts[flow] += 1;
        waiting.insert((flow, asked), rig.ask(&ids[flow], 0));
        asked += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However greedy some are, each flow is served within one request of its fair share.
    #[test]
    fn round_robin_shares_are_within_one_of_fair(
        greed in prop::collection::vec(1usize..40, 2..9),
        rounds in 1usize..60,
    ) {
        let rig = Rig::new(1, sharing(Arc::new(RoundRobin)));
        let counts = served(&rig, &greed, rounds, |_| 1);
        let fair = rounds as f64 / greed.len() as f64;
        for count in &counts {
            prop_assert!((*count as f64 - fair).abs() <= 1.0, "{counts:?}, fair {fair}");
        }
    }
}

#[test]
fn program_aware_fairness_shares_tokens_rather_than_requests() {
    // Nothing is forgotten, and the wait decides nothing.
    let config = ProgramAwareConfig {
        half_life: Duration::ZERO,
        strategy: crate::flow_control::ProgramStrategy::LeastAttainedService {
            weight_service: 1.0,
            weight_head_wait: 0.0,
        },
        ..ProgramAwareConfig::default()
    };
    let rig = Rig::new(1, sharing(Arc::new(ProgramAware::new(config))));
    let cost = |flow: usize| [100, 300, 600][flow];
    let counts = served(&rig, &[30, 3, 3], 900, cost);
    let tokens: Vec<u64> = counts.iter().enumerate().map(|(f, n)| *n as u64 * cost(f)).collect();
    let (least, most) = (tokens.iter().min().unwrap(), tokens.iter().max().unwrap());
    assert!(most - least <= 2 * 600, "{counts:?} {tokens:?}");
}

#[test]
fn program_aware_defaults_keep_a_greedy_program_from_taking_over() {
    let policy = ProgramAware::new(ProgramAwareConfig::default());
    let rig = Rig::new(1, sharing(Arc::new(policy)));
    let greed = [100, 2, 2, 2, 2, 2, 2, 2, 2, 2];
    let counts = served(&rig, &greed, 2000, |_| 100);
    assert!(counts.iter().all(|n| (150..=250).contains(n)), "{counts:?}");
}
