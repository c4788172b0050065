//! What endpoint health saves when a worker goes wrong.

use super::*;

const DEFAULT: &str = include_str!("../../../../config/default.yaml");

fn with_fault(trace: &Trace, fault: &str, health: bool) -> Outcome {
    let mut simulation = simulation(trace, 1.0);
    simulation.faults.faults = vec![faults::fault(fault).unwrap()];
    simulation.faults.patience = 3 * SECOND;
    run(&simulation, &|fleet| judging_pipeline(DEFAULT, fleet, health))
}

/// Four workers, the first of which goes wrong from 6 s to 16 s.
#[test]
fn a_worker_that_goes_wrong_costs_little_after_a_second_and_comes_back() {
    let trace = generated(Kind::Shared, 700);
    for (fault, at_most, back_within) in [
        ("dies@6s+10s", 0.01, 9.0),
        ("fails@6s+10s", 0.02, 9.0),
        ("fails=2@6s+10s", 0.04, 9.0),
        ("hangs@6s+10s", 0.05, 9.0),
    ] {
        let robin = {
            let mut simulation = simulation(&trace, 1.0);
            simulation.faults.faults = vec![faults::fault(fault).unwrap()];
            simulation.faults.patience = 3 * SECOND;
            run(&simulation, &round_robin).lost_in_fault.unwrap()
        };
        let off = with_fault(&trace, fault, false).lost_in_fault.unwrap();
        let on = with_fault(&trace, fault, true);
        let (lost, back) = (on.lost_in_fault.unwrap(), on.back_after_seconds);
        assert!(lost <= at_most && lost < robin / 2.0, "{fault}: {lost}, round robin {robin}");
        assert!(off > lost, "{fault}: {off} without health, {lost} with it");
        assert!(back.is_some_and(|s| s <= back_within), "{fault}: back after {back:?} s");
    }
}

#[test]
fn slow_workers_and_odd_metrics_lose_nothing() {
    let trace = generated(Kind::Shared, 300);
    for fault in
        ["slow=2@6s+10s", "metrics=idle@6s+10s", "metrics=frozen@6s+10s", "metrics=missing@6s+10s"]
    {
        assert_eq!(with_fault(&trace, fault, true).failed, 0, "{fault}");
    }
}

#[test]
fn two_of_four_that_die_at_once_take_none_of_the_others_requests() {
    let trace = generated(Kind::Shared, 700);
    let mut simulation = simulation(&trace, 1.0);
    let one = faults::fault("dies@6s+10s").unwrap();
    simulation.faults.faults = vec![one, one];
    let outcome = run(&simulation, &|fleet| judging_pipeline(DEFAULT, fleet, true));
    let lost = outcome.lost_in_fault.unwrap();
    assert!(lost < 0.02, "{lost}");
}
