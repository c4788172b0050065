use super::rig::{Request, Rig};
use crate::flow_control::{Arrival, BandConfig, FlowControlConfig, Outcome};

/// A controller whose pool is full.
fn full(config: FlowControlConfig) -> (Rig, Request) {
    let rig = Rig::new(1, config);
    let running = rig.run("x", 0);
    (rig, running)
}

fn ask(rig: &Rig, priority: i32, bytes: u64) -> Request {
    rig.ask_as(&Arrival { bytes, ..rig.arrival("x", priority) })
}

#[test]
fn what_does_not_fit_is_rejected_at_once() {
    let band =
        |max_requests, max_bytes| BandConfig { max_requests, max_bytes, ..BandConfig::default() };
    let global = |max_requests, max_bytes| FlowControlConfig {
        max_requests,
        max_bytes,
        ..FlowControlConfig::default()
    };
    let in_bands = |default_band, negative: BandConfig| FlowControlConfig {
        default_band,
        default_negative_band: Some(negative),
        ..FlowControlConfig::default()
    };
    let plenty = || band(1000, 1000);
    // Priority and bytes of what comes; whether the last one still fits.
    type Requests<'a> = &'a [(i32, u64)];
    let cases: &[(FlowControlConfig, Requests<'_>, bool)] = &[
        (global(Some(2), None), &[(0, 1), (0, 1)], true),
        (global(Some(2), None), &[(0, 1), (-1, 1), (0, 1)], false),
        (global(None, Some(10)), &[(0, 4), (-1, 6)], true),
        (global(None, Some(10)), &[(0, 5), (-1, 6)], false),
        (global(None, Some(10)), &[(0, 11)], false),
        (global(None, Some(10)), &[(0, u64::MAX), (0, 10)], true),
        (in_bands(band(1, 1000), plenty()), &[(0, 1), (0, 1)], false),
        (in_bands(band(1, 1000), plenty()), &[(0, 1), (-1, 1)], true),
        (in_bands(plenty(), band(1000, 10)), &[(-1, 8), (-1, 3)], false),
        (in_bands(plenty(), band(1000, 10)), &[(-1, 8), (0, 3)], true),
        (in_bands(band(0, 0), plenty()), &[(0, 0)], false),
    ];
    for (config, requests, fits) in cases {
        let (rig, _running) = full(config.clone());
        let mut asked: Vec<Request> = requests.iter().map(|(p, b)| ask(&rig, *p, *b)).collect();
        let last = asked.last_mut().unwrap();
        let expected = (!fits).then_some(Outcome::RejectedCapacity);
        assert_eq!(last.rejection().map(|r| r.outcome), expected, "{requests:?}");
        drop(asked);
        assert!(rig.controller.is_tidy());
    }
}

#[test]
fn room_is_counted_exactly_whatever_takes_a_request_out() {
    let (rig, mut running) =
        full(FlowControlConfig { max_bytes: Some(250), ..FlowControlConfig::default() });
    let mut first = rig.ask("a", 0);
    let second = rig.ask("b", 0);
    assert!(rig.ask("c", 0).rejection().is_some());
    let waiting = || {
        let snapshot = rig.controller.snapshot(rig.now());
        (snapshot.requests, snapshot.bytes, snapshot.bands[0].bytes, snapshot.bands[0].flows.len())
    };
    assert_eq!(waiting(), (2, 200, 200, 2));
    drop(second);
    assert_eq!(waiting(), (1, 100, 100, 1));
    running.end();
    assert_eq!(waiting(), (0, 0, 0, 0), "gone from the queue though not polled yet");
    assert!(first.start());
}

#[test]
fn a_rejected_client_is_told_when_to_come_back() {
    let config = FlowControlConfig { max_requests: Some(40), ..FlowControlConfig::default() };
    let (rig, mut running) = full(config);
    let retry_after = |rig: &Rig| rig.ask("x", 0).rejection().unwrap().retry_after;
    let mut waiting: Vec<Request> = (0..40).map(|_| rig.ask("x", 0)).collect();
    assert_eq!(retry_after(&rig), None, "nothing has drained yet");
    for _ in 0..200 {
        rig.pass(std::time::Duration::from_millis(250));
        running.end();
        running = waiting.remove(0);
        assert!(running.start());
        waiting.push(rig.ask("x", 0));
    }
    let told = retry_after(&rig).unwrap().as_secs();
    assert!((9..=12).contains(&told), "40 waiting at 4 a second: {told}");
}

#[test]
fn closing_rejects_what_waits_and_what_comes() {
    let (rig, _running) = full(FlowControlConfig::default());
    let mut waiting = [rig.ask("a", 0), rig.ask("b", -1)];
    assert!(waiting[0].waits());
    rig.controller.close(rig.now());
    assert_eq!(waiting[0].wakes.count(), 1);
    for request in &mut waiting {
        assert_eq!(request.rejection().unwrap().outcome, Outcome::RejectedShuttingDown);
    }
    assert_eq!(rig.ask("c", 0).rejection().unwrap().outcome, Outcome::RejectedShuttingDown);
    assert!(rig.controller.is_tidy());
}

#[test]
fn ten_thousand_flows_come_and_go_and_leave_nothing() {
    let (rig, mut running) = full(FlowControlConfig {
        default_band: BandConfig { max_requests: 20_000, ..BandConfig::default() },
        ..FlowControlConfig::default()
    });
    let mut waiting: Vec<Request> = (0..10_000).map(|n| rig.ask(&format!("flow {n}"), 0)).collect();
    assert_eq!(rig.controller.snapshot(rig.now()).bands[0].flows.len(), 10_000);
    waiting.truncate(100);
    assert_eq!(rig.controller.snapshot(rig.now()).bands[0].flows.len(), 100);
    for mut next in waiting {
        running.end();
        assert!(next.start());
        running = next;
    }
    assert!(rig.controller.is_tidy());
}
