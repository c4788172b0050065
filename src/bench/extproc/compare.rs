//! Several pickers in one run, in turns, so that a slow minute of the machine hits all alike.

use std::time::{Duration, Instant};

use super::load::{Limit, Numbers};
use super::measure::{self, Measured, measure};
use super::messages::Messages;
use super::{ExtProcArgs, Subject};
use crate::bench::{process, progress};

/// What one picker did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub name: String,
    pub turns: Vec<Measured>,
    /// All turns together.
    pub whole: Measured,
    /// Cores in use without load before and after; `None` if not watched.
    pub idle_before: Option<f64>,
    pub idle_after: Option<f64>,
    /// Resident memory before the first exchange, bytes.
    pub resident_before: Option<u64>,
}

/// Drives all subjects in turns.
///
/// # Errors
/// Where a picker cannot be reached.
pub(super) fn run(subjects: &[Subject], args: &ExtProcArgs) -> Result<Vec<Outcome>, String> {
    let messages = Messages::new(&args.workload);
    let numbers = Numbers::new();
    let quiet = args.output.quiet;
    let mut outcomes = Vec::new();
    for s in subjects {
        outcomes.push(Outcome {
            name: s.name.clone(),
            turns: Vec::new(),
            whole: Measured::default(),
            resident_before: s.process.and_then(process::usage).map(|u| u.resident),
            idle_before: idle(s, args.load.idle, quiet),
            idle_after: None,
        });
    }
    if !args.load.warmup.is_zero() {
        for s in subjects {
            let limit = Limit::For(args.load.warmup);
            let bar = progress::bar(measure::length(limit), &format!("{}: warm-up", s.name), quiet);
            measure(&s.load, &messages, limit, &numbers, None, &bar)?;
            bar.finish_and_clear();
        }
    }
    let turns = if subjects.len() == 1 { 1 } else { args.turns };
    let limit = args.load.turn(turns);
    let length = measure::length(limit) * u64::from(turns) * subjects.len() as u64;
    let bar = progress::bar(length, "", quiet);
    for turn in 0..turns {
        for (s, outcome) in subjects.iter().zip(&mut outcomes) {
            bar.set_message(format!("{}: turn {} of {turns}", s.name, turn + 1));
            let measured = measure(&s.load, &messages, limit, &numbers, s.process, &bar)?;
            outcome.whole.merge(&measured);
            outcome.turns.push(measured);
        }
    }
    bar.finish_and_clear();
    for (s, outcome) in subjects.iter().zip(&mut outcomes) {
        outcome.idle_after = idle(s, args.load.idle, quiet);
    }
    Ok(outcomes)
}

/// Cores the picker uses while nobody asks it anything.
fn idle(subject: &Subject, time: Duration, quiet: bool) -> Option<f64> {
    if time.is_zero() {
        return None;
    }
    let pid = subject.process?;
    let before = process::usage(pid)?;
    let begin = Instant::now();
    let bar = progress::bar(1, &format!("{}: idle", subject.name), quiet);
    progress::sleep(time, &bar);
    bar.finish_and_clear();
    let used = measure::used(before, process::usage(pid)?);
    Some(used.as_secs_f64() / begin.elapsed().as_secs_f64())
}

/// A ratio of two pickers over the turns: its median and how far single turns strayed.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(super) struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// Of what `figure` says of each turn of `a` and the same turn of `b`.
    pub(super) fn of(
        a: &Outcome,
        b: &Outcome,
        figure: impl Fn(&Measured) -> Option<f64>,
    ) -> Option<Self> {
        let ratios = a.turns.iter().zip(&b.turns).filter_map(|(a, b)| {
            let (a, b) = (figure(a)?, figure(b)?);
            (b > 0.0).then_some(a / b)
        });
        Self::over(ratios.collect())
    }

    fn over(mut ratios: Vec<f64>) -> Option<Self> {
        ratios.sort_by(f64::total_cmp);
        let (&low, &high) = (ratios.first()?, ratios.last()?);
        let middle = ratios.len() / 2;
        let median = if ratios.len().is_multiple_of(2) {
            f64::midpoint(ratios[middle - 1], ratios[middle])
        } else {
            ratios[middle]
        };
        Some(Self { median, low, high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_give_median_and_spread() {
        for (ratios, want) in [
            (vec![], None),
            (vec![2.0], Some((2.0, 2.0, 2.0))),
            (vec![3.0, 1.0, 2.0], Some((2.0, 1.0, 3.0))),
            (vec![4.0, 1.0, 2.0, 3.0], Some((2.5, 1.0, 4.0))),
        ] {
            let got = Ratio::over(ratios).map(|r| (r.median, r.low, r.high));
            assert_eq!(got, want);
        }
    }
}
