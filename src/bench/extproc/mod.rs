//! `epp-bench extproc`: drives any picker over ext_proc the way Envoy does.
//!
//! [`workload`] says what is sent, [`messages`] encodes it, [`exchange`] runs one HTTP exchange
//! over one gRPC stream, [`load`] runs many, [`measure`] adds what the picker's process used, and
//! [`compare`] sets several pickers side by side. [`gateway`] puts a real Envoy before them instead, and
//! measures that too.

mod compare;
mod connection;
mod exchange;
mod gateway;
mod load;
mod measure;
mod messages;
mod reply;
mod summary;
mod tally;
mod wire;
mod workload;

use std::net::ToSocketAddrs;
use std::time::Duration;

use super::args::{OutputArgs, duration};
use super::process;
use connection::Target;
pub use gateway::GatewayArgs;
use load::{Arrivals, Limit, Load, Pace};
use tally::Tally;
use workload::Workload;

/// Drive a picker over ext_proc the way Envoy does, and measure it.
///
/// Each exchange is one gRPC stream in full-duplex mode: request headers, body pieces and an
/// empty end of body; the replies that name the worker and send the body back; then a worker's
/// answer and its way back. Latency "headers out" is from the last byte of the request body to
/// the reply that names the worker. Run the picker on this machine and its CPU time and memory
/// are reported too.
#[derive(Clone, Debug, clap::Args)]
pub struct ExtProcArgs {
    /// The picker, as HOST:PORT or NAME=HOST:PORT.
    #[arg(value_name = "[NAME=]ADDR")]
    pub addr: String,
    /// Another picker to measure in the same run, in turns, and to compare with; repeatable.
    #[arg(long, value_name = "[NAME=]ADDR")]
    pub vs: Vec<String>,
    /// Turns each picker gets when there are several.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub turns: u32,
    /// Process of the picker at ADDR, if it cannot be found by its port.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<i32>,
    /// Speak TLS, taking any certificate.
    #[arg(long)]
    pub tls: bool,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    #[command(flatten)]
    pub workload: Workload,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How hard, and for how long.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Exchanges always in progress (a closed loop).
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = at_least_one)]
    pub streams: usize,
    /// Start exchanges at this rate instead (an open loop); latency counts from the intended start.
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "streams", value_parser = rate)]
    pub rate: Option<f64>,
    /// How the starts of an open loop are spaced.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,
    /// Connections in all; Envoy has one per worker thread.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = at_least_one)]
    pub connections: usize,
    /// Threads of the driver.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    pub threads: usize,
    /// How long to drive each picker.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Stop after this many exchanges instead.
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// How long to drive each picker before measuring.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
    /// Also watch each picker's CPU for this long without any load, before and after.
    #[arg(long, default_value = "0", value_parser = duration)]
    pub idle: Duration,
    /// After which an exchange counts as failed.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("expected a number of at least 1".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(r) if r.is_finite() && r > 0.0 => Ok(r),
        _ => Err("expected a number above 0".into()),
    }
}

/// A picker under test.
#[derive(Debug)]
struct Subject {
    name: String,
    load: Load,
    /// Its process, if it is on this machine.
    process: Option<i32>,
}

/// # Errors
/// With a text for the user.
pub fn run(args: &ExtProcArgs) -> Result<(), String> {
    args.workload.check()?;
    if args.gateway.envoy.is_some() {
        return gateway::run(args);
    }
    let mut subjects = vec![subject(args, &args.addr, args.server_pid)?];
    for addr in &args.vs {
        subjects.push(subject(args, addr, None)?);
    }
    let results = compare::run(&subjects, args)?;
    summary::report(args, &results).emit(&args.output)?;
    match results.iter().find(|r| r.whole.tally.succeeded() == 0) {
        Some(picker) => Err(nothing_succeeded(&picker.name, &picker.whole.tally, args.tls)),
        None => Ok(()),
    }
}

/// Says so, with what most exchanges failed of.
fn nothing_succeeded(name: &str, tally: &Tally, tls: bool) -> String {
    let most = tally.errors.iter().max_by_key(|(_, n)| **n);
    let why = most.map(|(kind, _)| format!(": {kind}")).unwrap_or_default();
    let is_connection = most.is_some_and(|(kind, _)| kind.starts_with("connection"));
    let hint = match (is_connection, tls) {
        (true, false) => "; does it speak TLS? (--tls here, or --secure-serving=false there)",
        (true, true) => "; does it speak plaintext? (leave --tls out)",
        (false, _) => "",
    };
    format!("no exchange with {name} succeeded{why}{hint}")
}

fn subject(args: &ExtProcArgs, text: &str, process: Option<i32>) -> Result<Subject, String> {
    let (name, addr) = text.split_once('=').unwrap_or((text, text));
    let socket = addr
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(|| format!("'{addr}' is no address; expected HOST:PORT"))?;
    let pace = match args.load.rate {
        Some(rate) => Pace::Open { rate, arrivals: args.load.arrivals },
        None => Pace::Closed { streams: args.load.streams },
    };
    let load = Load {
        target: Target { addr: addr.to_owned(), tls: args.tls },
        pace,
        threads: args.load.threads,
        connections: args.load.connections,
        timeout: args.load.timeout,
    };
    Ok(Subject {
        name: name.to_owned(),
        load,
        process: process.or_else(|| process::listening_on(socket)),
    })
}

impl LoadArgs {
    /// What each picker gets in each of `turns`.
    fn turn(&self, turns: u32) -> Limit {
        match self.count {
            Some(n) => Limit::Count(n.div_ceil(u64::from(turns))),
            None => Limit::For(self.duration / turns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nothing_succeeded() {
        let of = |kind: &str, tls| {
            let mut tally = Tally::default();
            tally.errors.insert("connection: rare".into(), 1);
            tally.errors.insert(kind.into(), 9);
            nothing_succeeded("epp", &tally, tls)
        };
        let refused = of("immediate response 413", false);
        assert_eq!(refused, "no exchange with epp succeeded: immediate response 413");
        assert!(of("connection: closed", false).ends_with("--secure-serving=false there)"));
        assert!(of("connection: closed", true).ends_with("(leave --tls out)"));
    }
}
