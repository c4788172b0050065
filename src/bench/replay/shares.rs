//! Who got how much: by tenant, and by priority.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::bench::latency::{Latencies, Percentiles};
use crate::bench::trace::{Trace, TraceRequest};
use crate::sim::Nanos;

/// Counted while a simulation runs.
#[derive(Debug, Default)]
pub(super) struct Shares {
    tenants: BTreeMap<Arc<str>, Tally>,
    bands: BTreeMap<Reverse<i32>, Band>,
    /// The trace tells requests apart; else nothing is counted.
    wanted: bool,
}

#[derive(Debug, Default)]
struct Band {
    tally: Tally,
    ttft: Latencies,
    tenants: BTreeMap<Arc<str>, Tally>,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    asked: u64,
    finished: u64,
    good: u64,
    failed: BTreeMap<String, u64>,
}

/// One tenant's, or one priority's.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Share {
    /// The tenant's name, or the priority.
    pub of: String,
    pub asked: u64,
    pub finished: u64,
    /// Requests that met the goal.
    pub good: u64,
    pub good_per_second: f64,
    /// Requests that failed, by kind.
    pub failed: BTreeMap<String, u64>,
    /// Of those that finished; not counted for tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<Percentiles>,
    /// Between the tenants that ask with this priority, see [`fairness`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fairness: Option<f64>,
}

impl Shares {
    pub(super) fn new(trace: &Trace) -> Self {
        let wanted = trace.requests().any(|r| r.tenant.is_some()) || trace.priorities().len() > 1;
        Self { wanted, ..Self::default() }
    }

    fn note(&mut self, request: &TraceRequest, f: impl Fn(&mut Tally)) -> Option<&mut Latencies> {
        if !self.wanted {
            return None;
        }
        let band = self.bands.entry(Reverse(request.priority)).or_default();
        f(&mut band.tally);
        if let Some(tenant) = &request.tenant {
            f(self.tenants.entry(tenant.clone()).or_default());
            f(band.tenants.entry(tenant.clone()).or_default());
        }
        Some(&mut band.ttft)
    }

    pub(super) fn asked(&mut self, request: &TraceRequest) {
        self.note(request, |tally| tally.asked += 1);
    }

    pub(super) fn finished(&mut self, request: &TraceRequest, ttft: Nanos, good: bool) {
        let latencies = self.note(request, |tally| {
            tally.finished += 1;
            tally.good += u64::from(good);
        });
        if let Some(latencies) = latencies {
            latencies.record_nanos(ttft);
        }
    }

    pub(super) fn failed(&mut self, request: &TraceRequest, kind: &str) {
        self.note(request, |tally| *tally.failed.entry(kind.to_owned()).or_default() += 1);
    }

    /// By tenant, those who asked most first, and by priority, the highest first.
    pub(super) fn outcome(&self, seconds: f64) -> (Vec<Share>, Vec<Share>) {
        let share = |of: String, tally: &Tally, ttft: Option<Percentiles>| Share {
            of,
            asked: tally.asked,
            finished: tally.finished,
            good: tally.good,
            good_per_second: tally.good as f64 / seconds,
            failed: tally.failed.clone(),
            ttft,
            fairness: None,
        };
        let mut tenants: Vec<Share> =
            self.tenants.iter().map(|(name, tally)| share(name.to_string(), tally, None)).collect();
        tenants.sort_by_key(|tenant| Reverse(tenant.asked));
        let bands = self.bands.iter().map(|(Reverse(priority), band)| {
            let share = share(priority.to_string(), &band.tally, Some(band.ttft.summary()));
            Share { fairness: fairness(&band.tenants), ..share }
        });
        (tenants, bands.collect())
    }
}

/// Jain's index of what tenants got of what would have been fair, from 1 / tenants (one got all)
/// to 1 (all got their fair share); `None` where there is nobody to compare. R. Jain, D. Chiu,
/// W. Hawe, DEC-TR-301, 1984.
///
/// Fair is max-min: of all good answers together each has as many as it asked for, or as many as
/// everybody else who asked for more.
fn fairness(tenants: &BTreeMap<Arc<str>, Tally>) -> Option<f64> {
    let asked: Vec<f64> = tenants.values().map(|t| t.asked as f64).collect();
    let good: Vec<f64> = tenants.values().map(|t| t.good as f64).collect();
    let total: f64 = good.iter().sum();
    if asked.len() < 2 || total == 0.0 {
        return None;
    }
    let fair = max_min(&asked, total);
    let shares: Vec<f64> =
        good.iter().zip(&fair).filter(|(_, fair)| **fair > 0.0).map(|(g, f)| g / f).collect();
    Some(jain(&shares))
}

/// What each gets of `total` by max-min fairness: nobody more than they ask for, and nobody less
/// than another who gets more than they.
fn max_min(asked: &[f64], total: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.sort_by(|&a, &b| asked[a].total_cmp(&asked[b]));
    let mut fair = vec![0.0; asked.len()];
    let mut left = total;
    for (n, &i) in order.iter().enumerate() {
        let even = left / (asked.len() - n) as f64;
        fair[i] = asked[i].min(even);
        left -= fair[i];
    }
    fair
}

fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|x| x * x).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fair() {
        for (asked, total, fair) in [
            (&[10.0, 10.0][..], 10.0, &[5.0, 5.0][..]),
            (&[100.0, 2.0, 10.0], 20.0, &[9.0, 2.0, 9.0]),
            (&[1.0, 2.0], 3.0, &[1.0, 2.0]),
            (&[5.0, 0.0], 4.0, &[4.0, 0.0]),
        ] {
            assert_eq!(max_min(asked, total), fair, "{asked:?} of {total}");
        }
    }

    #[test]
    fn the_index_is_1_where_all_have_their_share_and_1_of_n_where_one_has_all() {
        let asks = |tenant: &str, asked, good| {
            let tenant = Some(Arc::from(tenant));
            (TraceRequest { tenant, ..Default::default() }, asked, good)
        };
        for (tenants, expected) in [
            // The greedy one gets what the others leave.
            (vec![asks("greedy", 100, 60), asks("a", 20, 20), asks("b", 20, 20)], Some(1.0)),
            (vec![asks("greedy", 100, 90), asks("a", 100, 0), asks("b", 100, 0)], Some(1.0 / 3.0)),
            // By who comes first: half of what each asked for.
            (vec![asks("greedy", 100, 50), asks("a", 10, 5)], Some(0.874)),
            (vec![asks("alone", 10, 5)], None),
            (vec![asks("a", 10, 0), asks("b", 10, 0)], None),
        ] {
            let mut shares = Shares { wanted: true, ..Default::default() };
            for (request, asked, good) in &tenants {
                (0..*asked).for_each(|_| shares.asked(request));
                (0..*good).for_each(|_| shares.finished(request, 1, true));
            }
            let found = fairness(&shares.bands.values().next().unwrap().tenants);
            let close = |(a, b): (f64, f64)| (a - b).abs() < 1e-3;
            assert_eq!(found.is_some(), expected.is_some(), "{tenants:?}");
            assert!(found.zip(expected).is_none_or(close), "{found:?}, not {expected:?}");
        }
    }
}
