//! Drives many exchanges at once, in a closed loop or at a rate.
//!
//! Each thread has its own runtime, connections and tally, and shares nothing with the others
//! but the counter of exchanges: the driver is to cost as little as it can.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::client::SendRequest;
use tokio::sync::{Mutex, mpsc};

use super::connection::{self, Target};
use super::exchange::{self, Failure};
use super::messages::Messages;
use super::tally::Tally;

/// What decides when an exchange starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// So many exchanges are always in progress.
    Closed { streams: usize },
    /// Exchanges start at this rate per second, whatever becomes of them.
    Open { rate: f64, arrivals: Arrivals },
}

/// How the starts of an open loop are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Independent of each other, as from many users.
    Poisson,
    /// Evenly.
    Constant,
}

/// When to stop starting exchanges.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    For(Duration),
    Count(u64),
}

/// How to drive a picker.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub target: Target,
    pub pace: Pace,
    pub threads: usize,
    /// In all; each thread has at least one.
    pub connections: usize,
    /// After which an exchange counts as failed.
    pub timeout: Duration,
}

/// Exchange numbers, each used once.
#[derive(Debug)]
pub(super) struct Numbers(AtomicU64);

impl Numbers {
    /// Starts anywhere, so that a second run does not repeat the prompts of the first.
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(fastrand::u64(..u64::MAX / 2)))
    }

    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self::new()
    }
}

/// Drives until `limit`, waits for the exchanges in progress, and returns the threads' tallies.
///
/// # Errors
/// Where the picker cannot be reached at the start, or a runtime cannot be made.
pub(super) fn run(
    load: &Load,
    messages: &Messages,
    limit: Limit,
    numbers: &Numbers,
    done: &AtomicU64,
) -> Result<Tally, String> {
    let started = AtomicU64::new(0);
    let begin = Instant::now();
    let results: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.threads)
            .map(|index| {
                let shared =
                    Shared { load, messages, limit, numbers, started: &started, done, begin };
                scope.spawn(move || shared.thread(index))
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err("a driver thread panicked".into())))
            .collect()
    });
    let mut all = Tally::default();
    for tally in results {
        all.merge(&tally?);
    }
    Ok(all)
}

/// What the threads of one run share.
struct Shared<'a> {
    load: &'a Load,
    messages: &'a Messages,
    limit: Limit,
    numbers: &'a Numbers,
    started: &'a AtomicU64,
    done: &'a AtomicU64,
    begin: Instant,
}

impl Shared<'_> {
    fn thread(&self, index: usize) -> Result<Tally, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start a runtime: {e}"))?;
        let share = |n| share(n, self.load.threads, index);
        runtime.block_on(async {
            let n = share(self.load.connections).max(1);
            let connections = Connections::open(&self.load.target, n).await?;
            let tally = RefCell::new(Tally::default());
            match self.load.pace {
                Pace::Closed { streams } => {
                    let mut loops: FuturesUnordered<_> = (0..share(streams))
                        .map(|i| self.closed_loop(&connections, i, &tally))
                        .collect();
                    while loops.next().await.is_some() {}
                }
                Pace::Open { rate, arrivals } => {
                    let rate = rate / self.load.threads as f64;
                    let limit = match self.limit {
                        Limit::Count(n) => Limit::Count(share(n as usize) as u64),
                        limit @ Limit::For(_) => limit,
                    };
                    let starts = pace(self.begin, rate, arrivals, limit);
                    self.open_loop(starts, &connections, &tally).await;
                }
            }
            Ok(tally.into_inner())
        })
    }

    /// True where another exchange of a closed loop is to start.
    fn take(&self) -> bool {
        match self.limit {
            Limit::For(time) => self.begin.elapsed() < time,
            Limit::Count(n) => self.started.fetch_add(1, Ordering::Relaxed) < n,
        }
    }

    async fn closed_loop(&self, connections: &Connections, i: usize, tally: &RefCell<Tally>) {
        while self.take() {
            self.exchange(connections, i, Instant::now(), tally).await;
        }
    }

    async fn open_loop(
        &self,
        mut starts: mpsc::UnboundedReceiver<Instant>,
        connections: &Connections,
        tally: &RefCell<Tally>,
    ) {
        let mut running = FuturesUnordered::new();
        let mut i = 0;
        loop {
            tokio::select! {
                start = starts.recv() => match start {
                    Some(intended) => {
                        i += 1;
                        running.push(self.exchange(connections, i, intended, tally));
                    }
                    None => break,
                },
                Some(()) = running.next() => {}
            }
        }
        while running.next().await.is_some() {}
    }

    async fn exchange(
        &self,
        connections: &Connections,
        i: usize,
        intended: Instant,
        tally: &RefCell<Tally>,
    ) {
        let number = self.numbers.next();
        let group = (number % self.messages.groups()) as usize;
        let result = match connections.get(i).await {
            Ok(connection) => {
                let run = exchange::run(connection, self.messages, number, group, intended);
                tokio::time::timeout(self.load.timeout, run).await.unwrap_or(Err(Failure::Timeout))
            }
            Err(e) => Err(Failure::Connection(e)),
        };
        if let Err(Failure::Connection(_)) = &result {
            connections.lose(i).await;
        }
        tally.borrow_mut().record(group, result);
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The part of `n` that falls to one of `threads`.
fn share(n: usize, threads: usize, index: usize) -> usize {
    n / threads + usize::from(index < n % threads)
}

/// Sends the intended starts, each when it comes. A thread of its own, since the runtime's timer
/// knows whole milliseconds only.
fn pace(
    begin: Instant,
    rate: f64,
    arrivals: Arrivals,
    limit: Limit,
) -> mpsc::UnboundedReceiver<Instant> {
    let (send, receive) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut rng = fastrand::Rng::new();
        let mut at = 0.0;
        for i in 0.. {
            at += match arrivals {
                Arrivals::Constant => 1.0 / rate,
                Arrivals::Poisson => -(1.0 - rng.f64()).ln() / rate,
            };
            let over = match limit {
                Limit::For(time) => at >= time.as_secs_f64(),
                Limit::Count(n) => i >= n,
            };
            if over {
                return;
            }
            let start = begin + Duration::from_secs_f64(at);
            std::thread::sleep(start.saturating_duration_since(Instant::now()));
            if send.send(start).is_err() {
                return;
            }
        }
    });
    receive
}

/// One thread's connections; a lost one is opened anew by whoever needs it next.
struct Connections {
    target: Target,
    slots: Vec<Mutex<Option<SendRequest<Bytes>>>>,
}

impl Connections {
    async fn open(target: &Target, n: usize) -> Result<Self, String> {
        let mut slots = Vec::with_capacity(n);
        for _ in 0..n {
            let connection = connection::open(target)
                .await
                .map_err(|e| format!("cannot reach {}: {e}", target.addr))?;
            slots.push(Mutex::new(Some(connection)));
        }
        Ok(Self { target: target.clone(), slots })
    }

    async fn get(&self, i: usize) -> Result<SendRequest<Bytes>, String> {
        let mut slot = self.slots[i % self.slots.len()].lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        match connection::open(&self.target).await {
            Ok(connection) => Ok(slot.insert(connection).clone()),
            Err(e) => {
                // A picker that is gone must not make the driver spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(e)
            }
        }
    }

    async fn lose(&self, i: usize) {
        self.slots[i % self.slots.len()].lock().await.take();
    }
}
