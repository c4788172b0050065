//! What each fault costs, with and without health.

use super::virtual_pool::{Done, Fault, Picker, Setup, VirtualPool};
use super::*;

const ILL: (u64, u64) = (10_000, 40_000);

fn run(fault: Fault, picker: Picker, health: bool) -> VirtualPool {
    let ill = (at(ILL.0), at(ILL.1));
    VirtualPool::run(Setup { fault, picker, health, ill, end: at(60_000) })
}

fn lost(done: &Done) -> bool {
    done.lost
}

/// Share of requests lost from the first second of the fault on.
fn lost_later(run: &VirtualPool) -> f64 {
    run.share((at(ILL.0 + 1000), at(ILL.1)), lost)
}

/// Seconds from the end of the fault until endpoint 0 has had its full share for a second.
fn back_after(run: &VirtualPool) -> Option<f64> {
    let full = |ms| run.share((at(ms), at(ms + 1000)), |d| d.endpoint == 0 && !d.lost) > 0.2;
    (ILL.1..59_000).step_by(100).find(|&ms| full(ms)).map(|ms| (ms - ILL.1) as f64 / 1e3)
}

/// `cargo test --lib health::tests::experiment -- --nocapture` prints the table.
#[test]
fn what_each_fault_costs() {
    use Fault::*;
    // Lost at most after the first second, and back in service within so many seconds.
    let cases = [
        (None, 0.0, 0.0),
        (Dies, 0.01, 6.0),
        (FailsFast, 0.01, 9.0),
        (FailsOneInTwo, 0.015, 10.0),
        (TwiceAsSlow, 0.0, 1.0),
        (Hangs, 0.01, 9.0),
        (Flaps, 0.03, 9.0),
        (MetricsLie, 0.0, 1.0),
        (MetricsDie, 0.0, 1.0),
    ];
    println!("{:>14} {:>8} {:>8} {:>8} {:>8}", "fault", "robin", "off", "on", "back/s");
    for (fault, most, within) in cases {
        let robin = run(fault, Picker::RoundRobin, false);
        let off = run(fault, Picker::LeastInFlight, false);
        let on = run(fault, Picker::LeastInFlight, true);
        let back = back_after(&on);
        let percent = |run| format!("{:.2} %", lost_later(run) * 100.0);
        println!(
            "{:>14} {:>8} {:>8} {:>8} {back:>8.1?}",
            format!("{fault:?}"),
            percent(&robin),
            percent(&off),
            percent(&on)
        );
        assert!(lost_later(&on) <= most, "{fault:?}: {}", lost_later(&on));
        assert!(lost_later(&on) <= lost_later(&robin), "{fault:?} is worse than round robin");
        assert!(back.is_some_and(|s| s <= within), "{fault:?}: back after {back:?} s");
    }
}

#[test]
fn without_health_what_fails_fast_swallows_the_pool() {
    let off = run(Fault::FailsFast, Picker::LeastInFlight, false);
    assert!(lost_later(&off) > 0.8, "{}", lost_later(&off));
}

#[test]
fn slow_is_not_ill_and_gets_less() {
    let run = run(Fault::TwiceAsSlow, Picker::LeastInFlight, true);
    let share = run.share((at(ILL.0 + 1000), at(ILL.1)), |d| d.endpoint == 0);
    // One part against two parts for each of the three others, about.
    assert!((0.1..0.2).contains(&share), "{share}");
}

#[test]
fn metrics_that_are_dead_or_lie_do_not_win() {
    for fault in [Fault::MetricsLie, Fault::MetricsDie] {
        let ill = (at(0), at(60_000));
        let run = |health| {
            let picker = Picker::LeastReported;
            let run = VirtualPool::run(Setup { fault, picker, health, ill, end: at(30_000) });
            run.share((at(5000), at(30_000)), |d| d.endpoint == 0)
        };
        let (off, on) = (run(false), run(true));
        assert!(off > 0.5, "{fault:?}: believed, it gets {off} of all requests");
        assert!((0.1..0.35).contains(&on), "{fault:?}: it gets {on} of all requests");
    }
}
