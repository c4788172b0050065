use std::sync::Arc;
use std::time::Duration;

use super::rig::{Request, Rig};
use crate::flow_control::{
    Arrival, BandConfig, EarliestDeadline, FairnessPolicy, FirstCome, FlowControlConfig,
    GlobalStrict, HoldbackDomain, OrderingPolicy, PriorityHoldback, RoundRobin, SloDeadline,
    SoftReflectiveCeiling, UsageLimit,
};

fn bands(priorities: &[i32]) -> FlowControlConfig {
    let band = |p: &i32| (*p, BandConfig::default());
    FlowControlConfig { bands: priorities.iter().map(band).collect(), ..Default::default() }
}

/// Ends `running` one after another; the names of those that go, in order.
fn order(mut running: Vec<Request>, mut waiting: Vec<(&'static str, Request)>) -> String {
    let mut order = String::new();
    while !waiting.is_empty() {
        running.remove(0).end();
        let before = waiting.len();
        let mut rest = Vec::new();
        for (name, mut request) in waiting {
            if request.start() {
                order.push_str(name);
                running.push(request);
            } else {
                rest.push((name, request));
            }
        }
        waiting = rest;
        assert_eq!(waiting.len() + 1, before, "one freed place lets exactly one go");
    }
    order
}

#[test]
fn a_pool_with_room_lets_everyone_go_at_once() {
    let rig = Rig::new(2, FlowControlConfig::default());
    let _a = rig.run("x", 0);
    let _b = rig.run("x", -7);
    assert!(rig.ask("x", 100).waits());
}

#[test]
fn higher_bands_go_first_and_unknown_priorities_wait_in_the_next_lower_band() {
    let rig = Rig::new(1, bands(&[100, 0, -10]));
    let running = vec![rig.run("x", 0)];
    // In the order of arrival; 50 waits with 0, -5 with -10, 200 with 100.
    let priorities =
        [("a", -10), ("b", -5), ("c", 0), ("d", 50), ("e", 100), ("f", 200), ("g", -20)];
    let waiting = priorities.map(|(name, p)| (name, rig.ask("x", p))).into();
    assert_eq!(order(running, waiting), "efcdabg");
    let priorities: Vec<i32> = snapshot_priorities(&rig);
    assert_eq!(priorities, [100, 0, -10, -20], "-20 got a band of its own: nothing is as low");
    rig.pass(Duration::from_secs(601));
    drop(rig.run("x", 0));
    let (_running, _waiting) = (rig.run("x", 0), rig.ask("x", 0));
    assert_eq!(snapshot_priorities(&rig), [100, 0, -10], "and is forgotten when idle");
}

fn snapshot_priorities(rig: &Rig) -> Vec<i32> {
    rig.controller.snapshot(rig.now()).bands.iter().map(|band| band.priority).collect()
}

#[test]
fn bands_follow_the_objectives_there_are() {
    let config = FlowControlConfig {
        default_negative_band: Some(BandConfig { max_requests: 7, ..BandConfig::default() }),
        ..bands(&[5])
    };
    let rig = Rig::new(1, config);
    rig.controller.provision(&[50, -3], rig.now());
    let snapshot = rig.controller.snapshot(rig.now());
    let limits: Vec<_> = snapshot.bands.iter().map(|b| (b.priority, b.max_requests)).collect();
    assert_eq!(limits, [(50, 5000), (5, 5000), (0, 5000), (-3, 7)]);
    rig.controller.provision(&[], rig.now());
    let _running = rig.run("x", 0);
    let _waiting = rig.ask("x", -3);
    rig.pass(Duration::from_secs(599));
    let _more = rig.ask("x", 0);
    assert_eq!(snapshot_priorities(&rig), [50, 5, 0, -3], "not at once");
    drop(_waiting);
    rig.pass(Duration::from_secs(601));
    let _more = rig.ask("x", 0);
    assert_eq!(snapshot_priorities(&rig), [5, 0]);
}

#[test]
fn a_flow_that_does_not_take_its_place_holds_up_nobody() {
    let rig = Rig::new(2, bands(&[10, 0]));
    let mut running = vec![rig.run("x", 0), rig.run("x", 0)];
    let slow = rig.ask("slow", 10);
    let mut other = rig.ask("other", 0);
    running.remove(0).end();
    assert!(other.waits(), "the place is the slow one's");
    running.remove(0).end();
    assert!(other.start());
    assert_eq!(rig.controller.pending().requests, 1);
    drop(slow);
    assert!(rig.ask("x", 0).start(), "a place given up is free at once");
}

#[test]
fn orders_within_a_band() {
    let ms = Duration::from_millis;
    let band = |ordering| FlowControlConfig {
        default_band: BandConfig { ordering, ..BandConfig::default() },
        ..FlowControlConfig::default()
    };
    for (config, expected) in [
        (FlowControlConfig::default(), "abcd"),
        (band(Arc::new(EarliestDeadline)), "dbac"),
        (band(Arc::new(SloDeadline)), "cadb"),
    ] {
        let rig = Rig::new(1, FlowControlConfig { default_ttl: None, ..config });
        let running = vec![rig.run("x", 0)];
        let ask = |name, ttl, slo: Option<u64>| {
            rig.pass(ms(1));
            let arrival = rig.arrival("x", 0);
            let ttft_slo = slo.map(ms);
            (name, rig.ask_as(&crate::flow_control::Arrival { ttl, ttft_slo, ..arrival }))
        };
        let waiting = vec![
            ask("a", None, Some(500)),
            ask("b", Some(ms(9000)), None),
            ask("c", None, Some(100)),
            ask("d", Some(ms(5000)), Some(600)),
        ];
        assert_eq!(order(running, waiting), expected);
    }
}

#[test]
fn flows_take_turns_where_configured() {
    let fairness = Arc::new(RoundRobin);
    let config = FlowControlConfig {
        default_band: BandConfig { fairness, ..BandConfig::default() },
        ..FlowControlConfig::default()
    };
    let rig = Rig::new(1, config);
    let running = vec![rig.run("x", 0)];
    let flows = [("a", "A"), ("a", "A"), ("a", "A"), ("b", "B"), ("b", "B"), ("c", "C")];
    let waiting = flows.map(|(flow, name)| (name, rig.ask(flow, 0))).into();
    assert_eq!(order(running, waiting), "ABCABA");
}

#[test]
fn lower_bands_are_held_back_earlier() {
    type Policy = Arc<dyn UsageLimit>;
    let holdback = |min_ceiling| PriorityHoldback {
        min_ceiling,
        max_ceiling: 1.0,
        domain: HoldbackDomain::Rank,
    };
    // Of 10 places with so many taken: may a request of the lowest band go?
    for (usage_limit, taken, goes) in [
        (Arc::new(holdback(0.5)) as Policy, 4, true),
        (Arc::new(holdback(0.5)), 5, false),
        (Arc::<SoftReflectiveCeiling>::default(), 4, true),
        (Arc::<SoftReflectiveCeiling>::default(), 9, false),
    ] {
        let rig = Rig::new(10, FlowControlConfig { usage_limit, ..bands(&[1, -1]) });
        let _running: Vec<Request> = (0..taken).map(|_| rig.run("x", 1)).collect();
        assert_eq!(rig.ask("x", -1).start(), goes, "{taken}");
        assert!(rig.ask("x", 1).start(), "{taken}");
    }
}

#[test]
fn a_held_back_band_goes_when_it_may() {
    let usage_limit = Arc::new(PriorityHoldback {
        min_ceiling: 0.5,
        max_ceiling: 1.0,
        domain: HoldbackDomain::Rank,
    });
    let rig = Rig::new(10, FlowControlConfig { usage_limit, ..bands(&[1, -1]) });
    let mut running: Vec<Request> = (0..6).map(|_| rig.run("x", 1)).collect();
    let mut held = rig.ask("x", -1);
    running.pop();
    assert!(held.waits());
    running.pop();
    assert!(held.start());
}

#[test]
fn who_gives_up_holds_up_nobody_any_more() {
    let usage_limit = Arc::new(PriorityHoldback {
        min_ceiling: 0.0,
        max_ceiling: 1.0,
        domain: HoldbackDomain::Explicit(vec![(0, 1.0)]),
    });
    let rig = Rig::new(10, FlowControlConfig { usage_limit, ..bands(&[1]) });
    let held = rig.ask("x", 1);
    let mut below = rig.ask("x", 0);
    assert!(below.waits(), "a lower band does not overtake");
    drop(held);
    assert!(below.start());
}

#[test]
fn another_configuration_keeps_what_waits_and_its_order() {
    let with =
        |max_requests, ordering: Arc<dyn OrderingPolicy>, fairness: Arc<dyn FairnessPolicy>| {
            let band = BandConfig { max_requests, ordering, fairness, ..BandConfig::default() };
            FlowControlConfig { default_band: band, ..FlowControlConfig::default() }
        };
    let (first_come, strict) = (Arc::new(FirstCome), Arc::new(GlobalStrict));
    let rig = Rig::new(1, with(3, first_come.clone(), strict.clone()));
    let running = vec![rig.run("x", 0)];
    let mut waiting = Vec::new();
    for (name, id) in [("a", "x"), ("b", "y"), ("c", "x")] {
        waiting.push((name, rig.ask(id, 0)));
        rig.pass(Duration::from_millis(1));
    }
    assert!(rig.ask("x", 0).rejection().is_some(), "no room for a fourth");
    // Room, another order, other fairness; one after the other, and both at once.
    rig.controller.reconfigure(with(5, first_come, strict.clone()), rig.now());
    waiting.push(("d", rig.ask("x", 0)));
    let by_deadline = Arc::new(EarliestDeadline);
    rig.controller.reconfigure(with(5, by_deadline.clone(), strict), rig.now());
    let later = Arrival { ttl: Some(Duration::from_secs(50)), ..rig.arrival("x", 0) };
    let sooner = Arrival { ttl: Some(Duration::from_secs(5)), ..rig.arrival("x", 0) };
    waiting.push(("later", rig.ask_as(&later)));
    rig.controller.reconfigure(with(9, by_deadline, Arc::new(GlobalStrict)), rig.now());
    waiting.push(("sooner", rig.ask_as(&sooner)));
    let snapshot = rig.controller.snapshot(rig.now());
    assert_eq!((snapshot.requests, snapshot.bands[0].max_requests), (6, 9));
    assert_eq!(order(running, waiting), "abcdsoonerlater");
    assert!(rig.controller.is_tidy());
}

#[test]
fn the_bands_of_another_configuration_are_there_at_once() {
    let rig = Rig::new(1, bands(&[100, 0]));
    let priorities = |rig: &Rig| -> Vec<i32> {
        rig.controller.snapshot(rig.now()).bands.iter().map(|band| band.priority).collect()
    };
    rig.controller.provision(&[7], rig.now());
    assert_eq!(priorities(&rig), [100, 7, 0]);
    let running = rig.run("x", 0);
    let mut waiting = rig.ask("x", 100);
    rig.controller.reconfigure(bands(&[50, 0]), rig.now());
    assert_eq!(priorities(&rig), [100, 50, 7, 0], "one that is used stays");
    drop(running);
    assert!(waiting.start());
    drop(waiting);
    rig.pass(Duration::from_secs(601));
    let _a = rig.run("x", 0);
    let _b = rig.ask("x", 0);
    assert_eq!(priorities(&rig), [50, 7, 0], "and is forgotten when nobody uses it");
}
