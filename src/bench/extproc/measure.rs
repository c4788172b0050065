//! One measured run against one picker: what its clients saw and what its process used.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::load::{self, Limit, Load, Numbers};
use super::messages::Messages;
use super::tally::Tally;
use crate::bench::process::{self, Usage};

/// How often memory is looked at while a run goes on.
const SAMPLE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Measured {
    pub tally: Tally,
    pub elapsed: Duration,
    /// CPU time the picker used meanwhile; `None` where its process is not known.
    pub server_cpu: Option<Duration>,
    /// Most resident memory seen meanwhile, bytes.
    pub server_resident: Option<u64>,
    /// CPU time this process used meanwhile.
    pub client_cpu: Duration,
}

impl Measured {
    pub(super) fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.elapsed += other.elapsed;
        self.server_cpu = add(self.server_cpu, other.server_cpu);
        self.server_resident = self.server_resident.max(other.server_resident);
        self.client_cpu += other.client_cpu;
    }

    pub(super) fn per_second(&self) -> f64 {
        self.tally.succeeded() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// CPU time of the picker per successful exchange, microseconds.
    pub(super) fn cpu_per_exchange_us(&self) -> Option<f64> {
        let n = self.tally.succeeded();
        (n > 0).then(|| self.server_cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / n as f64)).flatten()
    }
}

fn add(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// Drives the picker until `limit` and measures.
///
/// # Errors
/// Where the picker cannot be reached at the start.
pub(super) fn measure(
    load: &Load,
    messages: &Messages,
    limit: Limit,
    numbers: &Numbers,
    server: Option<i32>,
    bar: &ProgressBar,
) -> Result<Measured, String> {
    let done = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let me = std::process::id() as i32;
    let before = server.and_then(process::usage);
    let client_before = process::usage(me).unwrap_or_default();
    let begin = Instant::now();
    let base = bar.position();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = None;
            while !over.load(Ordering::Acquire) {
                peak = peak.max(server.and_then(process::usage).map(|u| u.resident));
                bar.set_position(base + position(limit, begin, &done));
                std::thread::park_timeout(SAMPLE);
            }
            peak
        });
        let tally = load::run(load, messages, limit, numbers, &done);
        let elapsed = begin.elapsed();
        let after = server.and_then(process::usage);
        let client_after = process::usage(me).unwrap_or_default();
        over.store(true, Ordering::Release);
        watcher.thread().unpark();
        let server_resident = watcher.join().unwrap_or_default();
        Ok(Measured {
            tally: tally?,
            elapsed,
            server_cpu: before.zip(after).map(|(b, a)| used(b, a)),
            server_resident,
            client_cpu: used(client_before, client_after),
        })
    })
}

/// CPU time between two readings.
pub(super) fn used(before: Usage, after: Usage) -> Duration {
    after.cpu.saturating_sub(before.cpu)
}

/// Length of the progress bar of one run.
pub(super) fn length(limit: Limit) -> u64 {
    match limit {
        Limit::For(time) => time.as_millis() as u64,
        Limit::Count(n) => n,
    }
}

fn position(limit: Limit, begin: Instant, done: &AtomicU64) -> u64 {
    match limit {
        Limit::For(_) => (begin.elapsed().as_millis() as u64).min(length(limit)),
        Limit::Count(_) => done.load(Ordering::Relaxed),
    }
}
