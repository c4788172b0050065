//! A real Envoy in the path: clients, Envoy, the picker, and a worker that needs no time.
//!
//! What a user pays is not the picker alone: Envoy talks to it, and that costs Envoy as much.
//! [`envoy`] starts one Envoy for each way of sending bodies to the picker, and one that asks
//! nobody; [`worker`] answers, [`client`] asks, [`summary`] tells.

mod client;
mod envoy;
mod summary;
mod worker;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::load::{Limit, Numbers};
use super::{ExtProcArgs, Subject, subject};
use crate::bench::{process, progress};
use client::{Requests, Tally};
use envoy::Gateway;
use worker::Worker;

/// Envoy, where there is to be one.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Envoy")]
pub struct GatewayArgs {
    /// Put this Envoy before the pickers, with a worker behind it that needs no time: what both
    /// cost, and what clients see, beside an Envoy that asks nobody.
    #[arg(long, value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    /// How bodies go between Envoy and the pickers, each measured by itself: "always" has both in
    /// full duplex, "auto" lets the picker turn the response's off, "none" sends no response's.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST",
        default_values = ["always", "auto", "none"], requires = "envoy")]
    pub bodies: Vec<Bodies>,
}

/// How bodies go between Envoy and a picker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Bodies {
    /// `deploy/envoy/standalone.yaml`
    Always,
    /// `deploy/envoy/standalone-body-auto.yaml`
    Auto,
    /// `deploy/envoy/standalone-body-none.yaml`
    None,
}

impl Bodies {
    fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Auto => "auto",
            Self::None => "none",
        }
    }
}

/// What one Envoy did.
#[derive(Debug)]
struct Row {
    /// The picker and how bodies go to it, or that nobody is asked.
    name: String,
    gateway: Gateway,
    /// The picker's process, where there is one on this machine.
    picker: Option<i32>,
    figures: Figures,
    /// The same of each turn.
    turns: Vec<Figures>,
}

/// What was seen of one Envoy.
#[derive(Debug, Default)]
struct Figures {
    tally: Tally,
    elapsed: Duration,
    envoy_cpu: Option<Duration>,
    picker_cpu: Option<Duration>,
    /// Messages that Envoy sent to the picker, and got from it.
    messages: u64,
}

impl Figures {
    fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.elapsed += other.elapsed;
        self.messages += other.messages;
        for (sum, more) in
            [(&mut self.envoy_cpu, other.envoy_cpu), (&mut self.picker_cpu, other.picker_cpu)]
        {
            *sum = more.map(|more| sum.unwrap_or_default() + more);
        }
    }

    /// CPU time a request, microseconds.
    fn per_request(&self, cpu: Option<Duration>) -> Option<f64> {
        let n = self.tally.answered();
        cpu.filter(|_| n > 0).map(|cpu| cpu.as_secs_f64() * 1e6 / n as f64)
    }

    fn messages_per_request(&self) -> f64 {
        self.messages as f64 / self.tally.answered().max(1) as f64
    }
}

/// # Errors
/// With a text for the user.
pub(super) fn run(args: &ExtProcArgs) -> Result<(), String> {
    if args.load.rate.is_some() {
        return Err("with --envoy there is a closed loop: leave --rate out".into());
    }
    let binary = crate::bench::programs::find_envoy(args.gateway.envoy.as_deref())?;
    let mut subjects = vec![subject(args, &args.addr, args.server_pid)?];
    for addr in &args.vs {
        subjects.push(subject(args, addr, None)?);
    }
    let worker = Worker::start(&args.workload)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start a runtime: {e}"))?;
    let mut rows = Vec::new();
    for subject in &subjects {
        for &bodies in &args.gateway.bodies {
            let name = format!("{}, bodies {}", subject.name, bodies.name());
            rows.push(runtime.block_on(row(&binary, name, Some((subject, bodies)), &worker))?);
        }
    }
    rows.push(runtime.block_on(row(&binary, "no ext_proc".to_owned(), None, &worker))?);
    measure(&runtime, &mut rows, args)?;
    summary::report(args, &rows).emit(&args.output)?;
    match rows.iter().find(|row| row.figures.tally.answered() == 0) {
        Some(row) => Err(format!("{}: no request was answered{}", row.name, row.why())),
        None => Ok(()),
    }
}

async fn row(
    binary: &std::path::Path,
    name: String,
    picker: Option<(&Subject, Bodies)>,
    worker: &Worker,
) -> Result<Row, String> {
    let asks = picker.map(|(subject, bodies)| (&subject.load.target, bodies));
    let gateway = Gateway::start(binary, asks, worker.address).await?;
    let picker = picker.and_then(|(subject, _)| subject.process);
    let (figures, turns) = (Figures::default(), Vec::new());
    Ok(Row { name, gateway, picker, figures, turns })
}

impl Row {
    /// What most requests failed of, and what Envoy said.
    fn why(&self) -> String {
        let most = self.figures.tally.errors.iter().max_by_key(|(_, n)| **n);
        let most = most.map(|(kind, _)| format!(": {kind}")).unwrap_or_default();
        format!("{most}\n{}", self.gateway.said())
    }

    fn drive(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        requests: &Requests,
        limit: Limit,
    ) -> Result<Figures, String> {
        let cpu = |pid: Option<i32>| pid.and_then(process::usage).map(|usage| usage.cpu);
        let used = |before: Option<Duration>, after: Option<Duration>| {
            before.zip(after).map(|(before, after)| after.saturating_sub(before))
        };
        let pids = [Some(self.gateway.id()), self.picker];
        let messages = runtime.block_on(self.gateway.messages());
        let (before, begin) = (pids.map(cpu), Instant::now());
        let tally = runtime.block_on(client::drive(&self.gateway.address, requests, limit));
        let (elapsed, after) = (begin.elapsed(), pids.map(cpu));
        Ok(Figures {
            tally,
            elapsed,
            envoy_cpu: used(before[0], after[0]),
            picker_cpu: used(before[1], after[1]),
            messages: runtime.block_on(self.gateway.messages()).saturating_sub(messages),
        })
    }
}

/// Drives all Envoys in turns, so that a slow minute of the machine hits all alike.
fn measure(
    runtime: &tokio::runtime::Runtime,
    rows: &mut [Row],
    args: &ExtProcArgs,
) -> Result<(), String> {
    let requests =
        Requests::new(&args.workload, args.load.streams, args.load.timeout, Numbers::new());
    for row in rows.iter_mut() {
        row.drive(runtime, &requests, Limit::For(args.load.warmup))?;
    }
    let limit = args.load.turn(args.turns);
    let bar = progress::bar(u64::from(args.turns) * rows.len() as u64, "", args.output.quiet);
    for turn in 0..args.turns {
        for row in rows.iter_mut() {
            bar.set_message(format!("{}: turn {} of {}", row.name, turn + 1, args.turns));
            let figures = row.drive(runtime, &requests, limit)?;
            row.figures.merge(&figures);
            row.turns.push(figures);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}
