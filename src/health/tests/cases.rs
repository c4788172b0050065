//! What happens when, one case after the other.

use Standing::*;

use super::*;

const READ: Scrape = Scrape::Read { busy: None };

fn without(indices: &[u32]) -> Selection {
    Selection::Without(indices.iter().copied().collect())
}

#[test]
fn a_run_of_failures_ejects_and_the_last_one_says_so() {
    let mut pool = Driven::new(4);
    assert_eq!(pool.screen(at(0)), Selection::All);
    assert_eq!(pool.exchange(0, BAD, at(1)), None);
    assert_eq!(pool.exchange(0, BAD, at(2)), None);
    let reason = Reason::InARow { failures: 3, last: Failure::Status(500) };
    let change = Change { from: Healthy, to: Ejected, reason };
    assert_eq!(pool.exchange(0, BAD, at(3)), Some(change));
    assert_eq!(pool.screen(at(4)), without(&[0]));
    assert_eq!(change.reason.to_string(), "3 failures in a row, the last one status 500");
}

#[test]
fn what_does_not_count() {
    let cases = [
        (Observation::Rejected, "client errors, 429 among them"),
        (Observation::Abandoned, "clients that go away"),
        (GOOD, "answers"),
    ];
    for (outcome, why) in cases {
        let mut pool = Driven::new(4);
        (0..1000).for_each(|i| assert_eq!(pool.exchange(0, outcome, at(i)), None, "{why}"));
        assert_eq!(pool.screen(at(1000)), Selection::All, "{why}");
    }
    assert_eq!(Failure::of_status(429), None);
    assert_eq!(Failure::of_status(404), None);
    assert_eq!(Failure::of_status(501), None);
    assert_eq!(Failure::of_status(503), Some(Failure::Status(503)));
}

#[test]
fn one_endpoint_alone_stays_in_service() {
    let mut pool = Driven::new(1);
    for i in 0..100 {
        pool.exchange(0, BAD, at(i));
        assert_eq!(pool.screen(at(i)), Selection::All);
    }
}

#[test]
fn a_burst_of_failures_is_one_ejection() {
    let mut pool = Driven::new(4);
    let mut attempts: Vec<Attempt> = (0..100).map(|_| pool.sent(0, at(0))).collect();
    for attempt in &mut attempts {
        pool.observe(0, attempt, BAD, at(10));
    }
    assert_eq!(pool.endpoints[0].ejections(), 1);
    // The wait is that of a first ejection: 0.75 s to 1.25 s, and 25 requests elsewhere.
    (0..25).for_each(|_| assert_eq!(pool.screen(at(700)), without(&[0])));
    assert_eq!(pool.screen(at(1300)), Selection::Probe(0));
}

#[test]
fn probes_are_single_and_an_answer_brings_it_back_gradually() {
    let mut pool = Driven::new(4);
    (0..3).for_each(|i| _ = pool.exchange(0, BAD, at(i)));
    (0..25).for_each(|_| _ = pool.screen(at(10)));
    assert_eq!(pool.screen(at(2000)), Selection::Probe(0));
    let mut probe = pool.sent(0, at(2000));
    (0..50).for_each(|i| assert_eq!(pool.screen(at(2001 + i)), without(&[0]), "one in flight"));
    let change = pool.observe(0, &mut probe, GOOD, at(2100));
    assert_eq!(change.map(|c| (c.to, c.reason)), Some((Returning, Reason::Served)));
    let mut all_admitted = |ms| (0..1000).filter(|_| pool.screen(at(ms)) == Selection::All).count();
    assert!((70..130).contains(&all_admitted(2100)), "a tenth at first");
    assert!((500..600).contains(&all_admitted(3600)), "half after half the time");
    assert_eq!(all_admitted(5100), 1000, "everything in the end");
    pool.exchange(0, GOOD, at(5200));
    assert_eq!(pool.standings(), [Healthy; 4]);
}

#[test]
fn a_failing_probe_doubles_the_wait_and_an_early_failure_ejects_again() {
    let mut pool = Driven::new(4);
    (0..3).for_each(|i| _ = pool.exchange(0, BAD, at(i)));
    (0..500).for_each(|_| _ = pool.screen(at(10)));
    assert_eq!(pool.screen(at(1300)), Selection::Probe(0));
    assert_eq!(pool.exchange(0, BAD, at(1300)), None, "still ejected: no news");
    (0..500).for_each(|_| assert_eq!(pool.screen(at(2700)), without(&[0]), "2 s at least 1.5 s"));
    assert_eq!(pool.screen(at(3900)), Selection::Probe(0));
    assert_eq!(pool.exchange(0, GOOD, at(3900)).map(|c| c.to), Some(Returning));
    let change = pool.exchange(0, BAD, at(4000));
    let again = Reason::FailedAgain(Failure::Status(500));
    assert_eq!(change.map(|c| (c.to, c.reason)), Some((Ejected, again)));
    assert_eq!((pool.endpoints[0].ejections(), pool.endpoints[0].returns()), (2, 1));
}

#[test]
fn a_probe_that_tells_nothing_is_followed_by_another() {
    for outcome in [Observation::Rejected, Observation::Abandoned] {
        let mut pool = Driven::new(4);
        (0..3).for_each(|i| _ = pool.exchange(0, BAD, at(i)));
        (0..25).for_each(|_| _ = pool.screen(at(10)));
        assert_eq!(pool.screen(at(2000)), Selection::Probe(0));
        pool.exchange(0, outcome, at(2000));
        assert_eq!(pool.screen(at(2010)), Selection::Probe(0));
        pool.health.probe_not_sent(&pool.endpoints[0]);
        assert_eq!(pool.screen(at(2020)), Selection::Probe(0), "the claim was given back");
    }
}

#[test]
fn few_requests_do_not_make_a_probe_wait_for_ever() {
    let mut pool = Driven::new(4);
    (0..3).for_each(|i| _ = pool.exchange(0, BAD, at(i)));
    assert_eq!(pool.screen(at(9_000)), without(&[0]), "nothing went elsewhere");
    assert_eq!(pool.screen(at(10_010)), Selection::Probe(0));
}

#[test]
fn refused_metrics_are_a_hint_that_one_request_settles() {
    let mut pool = Driven::new(4);
    assert_eq!(pool.scraped(0, Scrape::Refused, at(0)), None, "never read: no hint");
    assert_eq!(pool.scraped(0, Scrape::Refused, at(1)), None);
    pool.scraped(0, READ, at(50));
    assert_eq!(pool.scraped(0, Scrape::Refused, at(100)), None, "once is chance");
    let change = pool.scraped(0, Scrape::Refused, at(150));
    assert_eq!(change.map(|c| (c.to, c.reason)), Some((Suspect, Reason::MetricsRefused)));
    assert_eq!(pool.screen(at(160)), Selection::Probe(0));
    let mut probe = pool.sent(0, at(160));
    assert_eq!(pool.screen(at(161)), without(&[0]));
    let change = pool.observe(0, &mut probe, GOOD, at(170));
    assert_eq!(change.map(|c| (c.to, c.reason)), Some((Healthy, Reason::Served)));
    assert_eq!(pool.scraped(0, Scrape::Refused, at(200)), None, "it serves without metrics");
    assert_eq!(pool.screen(at(201)), Selection::All);
}

#[test]
fn a_dead_endpoint_is_ejected_by_one_failure_and_back_with_its_metrics() {
    let mut pool = Driven::new(4);
    pool.scraped(0, READ, at(0));
    (0..2).for_each(|i| _ = pool.scraped(0, Scrape::Refused, at(50 + i)));
    assert_eq!(pool.screen(at(60)), Selection::Probe(0));
    assert_eq!(pool.exchange(0, BAD, at(60)).map(|c| c.to), Some(Ejected));
    for ms in (100..30_000).step_by(50) {
        pool.scraped(0, Scrape::Refused, at(ms));
        assert_eq!(pool.screen(at(ms)), without(&[0]), "refused: no request is wasted");
    }
    pool.scraped(0, READ, at(30_000));
    assert_eq!(pool.screen(at(30_001)), Selection::Probe(0), "at once");
}

#[test]
fn metrics_that_are_back_end_a_mere_suspicion() {
    let mut pool = Driven::new(4);
    pool.scraped(0, READ, at(0));
    (0..2).for_each(|i| _ = pool.scraped(0, Scrape::Refused, at(50 + i)));
    let change = pool.scraped(0, READ, at(100));
    assert_eq!(change.map(|c| (c.to, c.reason)), Some((Healthy, Reason::MetricsBack)));
    (0..10).for_each(|i| _ = pool.scraped(0, Scrape::Failed, at(200 + i)));
    assert_eq!(pool.screen(at(300)), Selection::All, "other failures say nothing");
}

#[test]
fn silence_ejects_where_others_answer() {
    let mut pool = Driven::new(4);
    for i in 0..200 {
        pool.exchange(i % 4, GOOD, at(i as u64));
    }
    let mut stuck: Vec<Attempt> = (0..3).map(|_| pool.sent(0, at(1000))).collect();
    for ms in (1000..2000).step_by(10) {
        pool.exchange(1 + (ms as usize / 10) % 3, GOOD, at(ms));
        assert_eq!(pool.screen(at(ms)), Selection::All, "a second is nothing");
    }
    let screening = {
        let Driven { health, endpoints, rng } = &mut pool;
        health.screen(endpoints.iter(), true, at(2010), rng)
    };
    assert_eq!(screening.selection, without(&[0]));
    let reasons: Vec<_> = screening.changes.iter().map(|(i, c)| (*i, c.to)).collect();
    assert_eq!(reasons, [(0, Ejected)]);
    let change = pool.observe(0, &mut stuck[0], GOOD, at(2500));
    assert_eq!(change.map(|c| c.to), Some(Returning), "any answer, of an old request too");
}

#[test]
fn silence_of_all_is_the_fault_of_none() {
    let mut pool = Driven::new(4);
    for i in 0..200 {
        pool.exchange(i % 4, GOOD, at(i as u64));
    }
    let _stuck: Vec<Attempt> = (0..4).map(|i| pool.sent(i, at(1000))).collect();
    assert_eq!(pool.screen(at(60_000)), Selection::All);
}

#[test]
fn what_befalls_all_ejects_none() {
    let mut pool = Driven::new(4);
    for i in 0..400 {
        pool.exchange(i % 4, GOOD, at(i as u64));
    }
    for i in 400..4000 {
        pool.exchange(i % 4, BAD, at(i as u64));
        assert_eq!(pool.screen(at(i as u64)), Selection::All, "request {i}");
    }
    assert!(pool.endpoints.iter().all(|e| e.ejections() == 0));
}

#[test]
fn one_in_two_is_too_many() {
    let mut pool = Driven::new(4);
    let ejected_after = (0..200).find(|&i| {
        let outcome = if i % 2 == 0 { BAD } else { GOOD };
        pool.exchange(1 + i % 3, GOOD, at(i as u64));
        pool.exchange(0, outcome, at(i as u64)).is_some()
    });
    assert!(ejected_after.is_some_and(|n| n < 30), "{ejected_after:?}");
}

#[test]
fn beyond_the_bound_all_are_used() {
    let mut pool = Driven::new(4);
    for i in 0..3 {
        (0..3).for_each(|n| _ = pool.exchange(i, BAD, at(n)));
    }
    assert_eq!(pool.standings(), [Ejected, Ejected, Ejected, Healthy]);
    let mut forced = [0; 4];
    for _ in 0..10_000 {
        match pool.screen(at(10)) {
            Selection::Panic(i) => forced[i as usize] += 1,
            selection => assert_eq!(selection, without(&[0, 1, 2])),
        }
    }
    // One more than the two that may be left out: a quarter of the requests, among the three.
    assert!(forced[..3].iter().all(|n| (700..970).contains(n)), "{forced:?}");
    assert_eq!(forced[3], 0);
    (0..3).for_each(|n| _ = pool.exchange(3, BAD, at(20 + n)));
    let last = pool.screen(at(30));
    assert!(matches!(last, Selection::All | Selection::Panic(_) | Selection::Without(_)));
}

#[test]
fn speed_is_relative_to_the_pool() {
    let mut pool = Driven::new(4);
    for i in 0..400_u64 {
        let e = (i % 4) as usize;
        let took = if e == 0 { 200 } else { 100 };
        let mut attempt = pool.sent(e, at(i * 10));
        pool.observe(e, &mut attempt, Observation::Answered { work: 50.0 }, at(i * 10 + took));
    }
    let factors: Vec<f64> =
        pool.endpoints.iter().map(|e| pool.health.speed_factor(e, at(4000))).collect();
    assert!((factors[0] - 0.5).abs() < 0.02, "{factors:?}");
    assert!(factors[1..].iter().all(|&f| f == 1.0), "{factors:?}");
}

#[test]
fn metrics_that_show_too_little_for_too_long_lie() {
    let pool = Driven::new(2);
    let scraped = |busy, in_flight, ms| {
        let scrape = Scrape::Read { busy };
        pool.health.scraped(&pool.endpoints[0], scrape, in_flight, at(ms));
        pool.endpoints[0].metrics_lie()
    };
    let cases = [
        (Some(0), 10, 0, false, "just sent, perhaps"),
        (Some(0), 10, 1900, false, "not yet two seconds"),
        (Some(0), 10, 2000, true, "two seconds"),
        (Some(0), 2, 2050, true, "too few now to say otherwise"),
        (None, 100, 2100, true, "they say nothing of it"),
        (Some(6), 10, 2150, false, "they show them now"),
        (Some(0), 2, 5000, false, "few requests"),
        (Some(0), 2, 9000, false, "few requests prove nothing"),
    ];
    for (busy, in_flight, ms, expected, why) in cases {
        assert_eq!(scraped(busy, in_flight, ms), expected, "{why}");
    }
}
