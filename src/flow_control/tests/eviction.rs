use std::time::Duration;

use super::rig::{Request, Rig};
use crate::flow_control::{EvictionConfig, FlowControlConfig};

fn evicting(capacity: i64) -> Rig {
    let eviction = Some(EvictionConfig { grace: Duration::from_millis(10) });
    Rig::new(capacity, FlowControlConfig { eviction, ..FlowControlConfig::default() })
}

#[test]
fn a_waiting_request_takes_the_place_of_a_sheddable_one() {
    let rig = evicting(3);
    let mut running = [rig.run("x", -1), rig.run("x", -5), rig.run("x", 0)];
    let mut waiting = rig.ask("x", 1);
    let evicted: Vec<bool> = running.iter().map(Request::is_evicted).collect();
    assert_eq!(evicted, [false, true, false]);
    assert!(waiting.waits(), "until the other has ended");
    running[1].end();
    assert!(waiting.start());
    let snapshot = rig.controller.snapshot(rig.now());
    assert_eq!((snapshot.evictable, snapshot.pending_reclaim), (1, 0));
    assert_eq!(snapshot.revocations_confirmed, 1);
}

#[test]
fn one_after_another_with_time_to_see_it() {
    let rig = evicting(2);
    let mut running = [rig.run("x", -1), rig.run("x", -1)];
    let mut waiting = [rig.ask("x", 0), rig.ask("x", 0)];
    assert_eq!(running.each_ref().map(Request::is_evicted), [false, true]);
    running[1].end();
    assert!(waiting[0].start());
    assert!(!running[0].is_evicted());
    rig.pass(Duration::from_millis(10));
    assert!(running[0].is_evicted(), "the timer runs for it");
    running[0].end();
    assert!(waiting[1].start());
}

#[test]
fn a_request_that_may_be_evicted_and_comes_later_is_found() {
    let rig = evicting(2);
    let _running = rig.run("x", 0);
    let mut sheddable = rig.ask("x", -1);
    let mut waiting = rig.ask("x", 0);
    assert!(waiting.waits());
    assert!(sheddable.start());
    assert!(sheddable.is_evicted(), "it runs only now");
}

#[test]
fn equals_and_those_not_sheddable_are_left_alone() {
    let rig = evicting(2);
    let running = [rig.run("x", -1), rig.run("x", 0)];
    let mut waiting = rig.ask("x", -1);
    assert!(waiting.waits());
    assert!(!running.iter().any(Request::is_evicted));
}
