use std::task::{Context, Waker};
use std::time::Duration;

use super::rig::{Request, Rig};
use crate::clock::Timestamp;
use crate::flow_control::{Arrival, BandConfig, FlowControlConfig, Outcome};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn outcome(request: &mut Request) -> Option<Outcome> {
    request.rejection().map(|r| r.outcome)
}

#[test]
fn who_may_wait_for_how_long() {
    let band = |ttl| BandConfig { ttl, ..BandConfig::default() };
    let queue = |default_ttl, band_ttl| FlowControlConfig {
        default_ttl,
        default_band: band(band_ttl),
        ..FlowControlConfig::default()
    };
    // The queue's, the band's and the request's time, seconds; what counts.
    for (queue_ttl, band_ttl, own_ttl, expected) in [
        (Some(60), None, None, Some(60)),
        (Some(60), Some(9), None, Some(9)),
        (Some(60), Some(9), Some(20), Some(9)),
        (Some(60), Some(9), Some(5), Some(5)),
        (Some(60), Some(0), Some(90), Some(90)),
        (Some(60), Some(0), None, None),
        (Some(60), None, Some(0), Some(60)),
        (Some(0), None, None, None),
        (None, None, None, None),
        (None, None, Some(7), Some(7)),
    ] {
        let rig = Rig::new(1, queue(queue_ttl.map(s), band_ttl.map(s)));
        let _running = rig.run("x", 0);
        let mut request = rig.ask_as(&Arrival { ttl: own_ttl.map(s), ..rig.arrival("x", 0) });
        let Some(expected) = expected else {
            rig.pass(s(1_000_000));
            assert_eq!(outcome(&mut request), None, "{queue_ttl:?} {band_ttl:?} {own_ttl:?}");
            continue;
        };
        rig.pass(s(expected) - Duration::from_nanos(1));
        assert_eq!(outcome(&mut request), None, "{queue_ttl:?} {band_ttl:?} {own_ttl:?}");
        rig.pass(Duration::from_nanos(1));
        assert_eq!(outcome(&mut request), Some(Outcome::EvictedTtl));
        assert!(rig.controller.is_tidy());
    }
}

#[test]
fn requests_wait_for_an_endpoint_to_appear() {
    let config = FlowControlConfig {
        default_ttl: Some(s(10)),
        no_endpoint_ttl: Some(s(30)),
        ..FlowControlConfig::default()
    };
    let rig = Rig::new(2, config);
    rig.set_empty(true);
    let mut waiting: Vec<Request> = (0..4).map(|_| rig.ask("x", 0)).collect();
    assert!(waiting.iter_mut().all(Request::waits));
    rig.pass(s(20));
    assert!(waiting.iter_mut().all(Request::waits), "longer than with endpoints");
    rig.set_empty(false);
    assert_eq!(waiting.iter_mut().filter_map(|r| r.start().then_some(())).count(), 2);
    rig.pass(s(9));
    assert!(waiting[2].waits(), "the time counts from when the endpoints came");
    rig.pass(s(1));
    assert_eq!(outcome(&mut waiting[2]), Some(Outcome::EvictedTtl));

    rig.set_empty(true);
    let mut late = rig.ask("x", 0);
    rig.pass(s(30));
    assert_eq!(outcome(&mut late), Some(Outcome::EvictedNoEndpoints));
    assert!(late.rejection().unwrap().retry_after.is_none());
}

#[test]
fn a_pool_that_empties_gives_what_waits_its_time_anew() {
    let config = FlowControlConfig {
        default_ttl: Some(s(10)),
        no_endpoint_ttl: Some(Duration::ZERO),
        ..FlowControlConfig::default()
    };
    let rig = Rig::new(1, config);
    let _running = rig.run("x", 0);
    let mut request = rig.ask("x", 0);
    rig.pass(s(9));
    rig.set_empty(true);
    rig.pass(s(100_000));
    assert!(request.waits(), "without limit while the pool is empty");
    rig.set_empty(false);
    rig.pass(s(9));
    assert!(request.waits());
    rig.pass(s(1));
    assert_eq!(outcome(&mut request), Some(Outcome::EvictedTtl));
}

#[test]
fn the_timer_is_told_the_first_deadline_and_when_it_moves_ahead() {
    let rig = Rig::new(1, FlowControlConfig::default());
    let timer = std::sync::Arc::<super::rig::Wakes>::default();
    let waker: Waker = timer.clone().into();
    let poll = || rig.controller.poll_deadline(&Context::from_waker(&waker));
    assert_eq!(poll(), None);
    let _running = rig.run("x", 0);
    let start = rig.now();
    let ask = |ttl| rig.ask_as(&Arrival { ttl: Some(s(ttl)), ..rig.arrival("x", 0) });
    let _first = ask(20);
    assert_eq!(timer.count(), 1);
    assert_eq!(poll(), Some(start + s(20)));
    let _later = ask(30);
    assert_eq!(timer.count(), 1, "a later deadline changes nothing");
    let sooner = ask(10);
    assert_eq!(timer.count(), 2);
    assert_eq!(poll(), Some(start + s(10)));
    drop(sooner);
    assert_eq!(poll(), Some(start + s(20)));
}

#[test]
fn a_clock_that_steps_loses_nobody() {
    let rig = Rig::new(1, FlowControlConfig::default());
    let mut running = rig.run("x", 0);
    let mut request = rig.ask("x", 0);
    rig.set_time(Timestamp::START);
    running.end();
    assert!(request.start(), "back");
    let mut second = rig.ask("x", 0);
    rig.set_time(Timestamp::from_nanos(u64::MAX));
    rig.pass(Duration::ZERO);
    assert_eq!(outcome(&mut second), Some(Outcome::EvictedTtl), "and far ahead");
    assert!(second.rejection().is_some());
}
