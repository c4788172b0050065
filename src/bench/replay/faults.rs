//! What goes wrong in a replay, and when.

use crate::config;
use crate::sim::Nanos;

/// A worker that dies and comes back empty, which discovery tells the router at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub start: Nanos,
    pub down: Nanos,
}

fn time(text: &str) -> Option<Nanos> {
    let time = config::parse_duration(text.trim())?;
    u64::try_from(time.as_nanos()).ok()
}

/// Reads `START,DOWN`.
pub(super) fn loss(text: &str) -> Result<Loss, String> {
    text.split_once(',')
        .and_then(|(start, down)| Some(Loss { start: time(start)?, down: time(down)? }))
        .ok_or_else(|| "expected two durations such as 60s,30s".to_owned())
}

/// A worker that goes wrong for a while, which nobody tells the router.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    pub start: Nanos,
    /// When it is over; later than any replay lasts where it never is.
    pub end: Nanos,
    /// So many workers go wrong at once.
    pub workers: u16,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// It dies with all it holds and refuses connections; it comes back empty.
    Dies,
    /// It dies and comes back in turn, each for this long.
    Flaps(Nanos),
    /// One in so many requests fails at once; 1 is all of them.
    Fails(u64),
    /// Its engine takes so many times as long for everything.
    Slow(f64),
    /// It takes requests and never answers.
    Hangs,
    Metrics(MetricsFault),
}

/// What its metrics show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFault {
    /// An engine without work.
    Idle,
    /// What they showed when the fault began.
    Frozen,
    /// Nothing.
    Missing,
}

const KINDS: &str = "dies, flaps=PERIOD, fails, fails=N (one in N), slow=FACTOR, hangs, \
                     metrics=idle, metrics=frozen, metrics=missing";

/// Reads `KIND@START`, with `+DURATION` and with `*WORKERS` behind it or without.
pub(crate) fn fault(text: &str) -> Result<Fault, String> {
    let (kind, when) =
        text.split_once('@').ok_or("expected KIND@START+DURATION such as dies@60s+30s")?;
    let (when, workers) = match when.split_once('*') {
        None => (when, 1),
        Some((when, n)) => {
            let n: Option<u16> = n.trim().parse().ok().filter(|&n| n > 0);
            (when, n.ok_or("expected a number of workers after *, such as dies@60s+30s*2")?)
        }
    };
    let (start, duration) = match when.split_once('+') {
        Some((start, duration)) => (time(start), Some(duration)),
        None => (time(when), None),
    };
    let start = start.ok_or("expected a duration after @, such as 60s")?;
    let end = match duration {
        None => Nanos::MAX,
        Some(duration) => {
            let duration = time(duration).ok_or("expected a duration after +, such as 30s")?;
            start.saturating_add(duration)
        }
    };
    let kind = fault_kind(kind.trim()).ok_or_else(|| format!("expected one of {KINDS}"))?;
    Ok(Fault { kind, start, end, workers })
}

fn fault_kind(text: &str) -> Option<FaultKind> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (text, None),
    };
    Some(match (name, value) {
        ("dies", None) => FaultKind::Dies,
        ("flaps", Some(period)) => FaultKind::Flaps(time(period).filter(|&p| p > 0)?),
        ("fails", None) => FaultKind::Fails(1),
        ("fails", Some(n)) => FaultKind::Fails(n.parse().ok().filter(|&n| n > 0)?),
        ("slow", Some(factor)) => {
            FaultKind::Slow(factor.parse().ok().filter(|f: &f64| f.is_finite() && *f > 0.0)?)
        }
        ("hangs", None) => FaultKind::Hangs,
        ("metrics", Some("idle")) => FaultKind::Metrics(MetricsFault::Idle),
        ("metrics", Some("frozen")) => FaultKind::Metrics(MetricsFault::Frozen),
        ("metrics", Some("missing")) => FaultKind::Metrics(MetricsFault::Missing),
        _ => return None,
    })
}

/// All that goes wrong in one simulation.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// The first takes worker 0, the next worker 1, and so on.
    pub losses: Vec<Loss>,
    /// Likewise.
    pub faults: Vec<Fault>,
    /// Sessions that start within this time of each other start at once; 0 leaves them alone.
    pub waves: Nanos,
    /// When a client gives up that gets no answer from a worker that hangs.
    pub patience: Nanos,
}

/// One for each worker that goes wrong.
pub(crate) fn by_worker(faults: &[Fault]) -> Vec<Fault> {
    faults.iter().flat_map(|f| std::iter::repeat_n(*f, usize::from(f.workers))).collect()
}

/// True while a fault is in force that the router had time to notice.
pub(crate) fn in_force(faults: &[Fault], now: Nanos) -> bool {
    faults.iter().any(|f| f.start.saturating_add(GRACE) <= now && now < f.end)
}

/// From the start of a fault on the router has this long to notice before losses count against it.
const GRACE: Nanos = 1_000_000_000;

impl Faults {
    /// When a session starts that was to start at `at`.
    pub(super) fn start(&self, at: Nanos) -> Nanos {
        if self.waves == 0 { at } else { at - at % self.waves }
    }

    /// True while a fault is in force that the router had time to notice.
    pub(super) fn in_force(&self, now: Nanos) -> bool {
        in_force(&self.faults, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn losses_are_two_durations() {
        for (text, want) in [
            ("1s,500ms", Some((1_000_000_000, 500_000_000))),
            ("1m, 0", Some((60_000_000_000, 0))),
            ("1s", None),
            ("1s,", None),
            ("soon,1s", None),
        ] {
            assert_eq!(loss(text).ok().map(|l| (l.start, l.down)), want, "{text}");
        }
    }

    #[test]
    fn faults_have_a_kind_a_start_and_perhaps_an_end() {
        let fault_of = |kind, start, end| Fault { kind, start: start * SECOND, end, workers: 1 };
        let three = Fault { workers: 3, ..fault_of(FaultKind::Dies, 1, 3 * SECOND) };
        for (text, want) in [
            ("dies@60s+30s", fault_of(FaultKind::Dies, 60, 90 * SECOND)),
            ("dies@1s+2s*3", three),
            ("dies@1s + 2s * 3", three),
            ("hangs@0*2", Fault { workers: 2, ..fault_of(FaultKind::Hangs, 0, Nanos::MAX) }),
            ("hangs@0", fault_of(FaultKind::Hangs, 0, Nanos::MAX)),
            ("fails@1s", fault_of(FaultKind::Fails(1), 1, Nanos::MAX)),
            ("fails=2@1s+1m", fault_of(FaultKind::Fails(2), 1, 61 * SECOND)),
            ("slow=2.5 @ 1s", fault_of(FaultKind::Slow(2.5), 1, Nanos::MAX)),
            ("flaps=5s@1s", fault_of(FaultKind::Flaps(5 * SECOND), 1, Nanos::MAX)),
            ("metrics=idle@2s", fault_of(FaultKind::Metrics(MetricsFault::Idle), 2, Nanos::MAX)),
            (
                "metrics=missing@2s",
                fault_of(FaultKind::Metrics(MetricsFault::Missing), 2, Nanos::MAX),
            ),
        ] {
            assert_eq!(fault(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_fault_is_told() {
        for (text, says) in [
            ("dies", "KIND@START"),
            ("dies@soon", "after @"),
            ("dies@1s+", "after +"),
            ("dies@1s+1s*0", "after *"),
            ("dies@1s*all", "after *"),
            ("explodes@1s", "flaps=PERIOD"),
            ("dies=2@1s", "flaps=PERIOD"),
            ("fails=0@1s", "fails=N"),
            ("flaps=0s@1s", "flaps=PERIOD"),
            ("flaps@1s", "flaps=PERIOD"),
            ("slow=0@1s", "slow=FACTOR"),
            ("slow=inf@1s", "slow=FACTOR"),
            ("metrics=odd@1s", "metrics=idle"),
        ] {
            let error = fault(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn losses_count_once_the_router_had_a_second() {
        let faults =
            Faults { faults: vec![fault("dies@10s+5s").expect("a fault")], ..Default::default() };
        let at = [9, 10, 11, 14, 15].map(|s| faults.in_force(s * SECOND));
        assert_eq!(at, [false, false, true, true, false]);
    }

    #[test]
    fn waves_gather_starts() {
        let faults = Faults { waves: 100, ..Default::default() };
        assert_eq!([0, 99, 100, 250].map(|at| faults.start(at)), [0, 0, 100, 200]);
        assert_eq!(Faults::default().start(77), 77);
    }
}
