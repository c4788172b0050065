//! `epp-bench cluster`: simulated workers, `epp` and Envoy on this machine, driven over HTTP in
//! real time, and what Envoy's clients saw.

mod children;
mod client;
mod tally;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::{OutputArgs, duration};
use super::latency::Percentiles;
use super::report::{
    Plot, Report, Scale, Series, Table, count, factor, micros, millis, optional, percent,
};
use super::trace::{self, TraceArgs};
use super::{process, progress};
use children::{Binaries, Cluster};
use tally::Tally;

/// Start simulated workers, epp and Envoy, and drive them over HTTP in real time.
///
/// The workload is the same as for "replay", sent as streamed completions. Prompts are made-up
/// text of four bytes a token; a chat's later prompts quote made-up answers, not the ones the
/// simulated workers gave.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    pub trace: TraceArgs,
    /// epp's EndpointPickerConfig; its own default if not given.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Number of simulated workers.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: u16,
    /// How many times as fast as the measured server they are.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub speed: f64,
    /// Rate factor: 2 means sessions start twice as often as in the trace.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub rate: f64,
    /// Start no request after this time.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub duration: Duration,
    /// After which a request counts as failed.
    #[arg(long, default_value = "120s", value_parser = duration)]
    pub timeout: Duration,
    /// The Envoy binary; one in .tools/ or in the search path if not given.
    #[arg(long, env = "ENVOY", value_name = "FILE", help_heading = "Programs")]
    pub envoy: Option<PathBuf>,
    /// The epp binary; the one beside this program if not given.
    #[arg(long, value_name = "FILE", help_heading = "Programs")]
    pub epp: Option<PathBuf>,
    /// The epp-sim binary; the one beside this program if not given.
    #[arg(long, value_name = "FILE", help_heading = "Programs")]
    pub epp_sim: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Figures {
    trace: String,
    seconds: f64,
    answered: u64,
    failed: u64,
    errors: std::collections::BTreeMap<String, u64>,
    ttft: Percentiles,
    itl: Percentiles,
    e2e: Percentiles,
    hit_rate: f64,
    workers: std::collections::BTreeMap<String, u64>,
    largest_to_mean: f64,
    epp_cpu_us_per_request: Option<f64>,
    envoy_cpu_us_per_request: Option<f64>,
}

/// # Errors
/// With a text for the user.
pub fn run(args: &ClusterArgs) -> Result<(), String> {
    if !(args.rate.is_finite() && args.rate > 0.0) {
        return Err("--rate must be above 0".into());
    }
    let binaries = Binaries::find(args)?;
    let trace = trace::open(&args.trace)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let cluster = runtime.block_on(Cluster::start(&binaries, args))?;
    let cpu = || [&cluster.epp, &cluster.envoy].map(|c| process::usage(c.id()).map(|u| u.cpu));
    let before = cpu();
    let begin = Instant::now();
    let bar = progress::bar(trace.len() as u64, &trace.name, args.output.quiet);
    let drive = client::drive(&cluster.gateway, &trace, args, &bar);
    let tally = runtime.block_on(drive)?;
    bar.finish_and_clear();
    let seconds = begin.elapsed().as_secs_f64();
    let after = cpu();
    let [epp, envoy] = [0, 1].map(|i| {
        let used = after[i]?.saturating_sub(before[i]?);
        let n = tally.answered().max(1) as f64;
        Some(used.as_secs_f64() * 1e6 / n)
    });
    let figures = figures(&trace.name, seconds, tally, epp, envoy);
    report(&figures).emit(&args.output)?;
    if figures.answered == 0 {
        return Err("no request was answered".into());
    }
    Ok(())
}

fn figures(
    trace: &str,
    seconds: f64,
    tally: Tally,
    epp: Option<f64>,
    envoy: Option<f64>,
) -> Figures {
    let largest = tally.workers.values().copied().max().unwrap_or(0);
    let sum: u64 = tally.workers.values().sum();
    Figures {
        trace: trace.to_owned(),
        seconds,
        answered: tally.answered(),
        failed: tally.errors.values().sum(),
        ttft: tally.ttft.summary(),
        itl: tally.itl.summary(),
        e2e: tally.e2e.summary(),
        hit_rate: tally.cached_tokens as f64 / (tally.prompt_tokens as f64).max(1.0),
        largest_to_mean: (largest * tally.workers.len() as u64) as f64 / (sum as f64).max(1.0),
        workers: tally.workers,
        errors: tally.errors,
        epp_cpu_us_per_request: epp,
        envoy_cpu_us_per_request: envoy,
    }
}

fn verdict(f: &Figures) -> String {
    if f.answered == 0 {
        return "No request was answered.".to_owned();
    }
    format!(
        "Clients had the first token after {} ms in the median and {} ms at p99, with {} of prompt \
         tokens cached; {} of {} requests failed.",
        millis(f.ttft.p50_ms),
        millis(f.ttft.p99_ms),
        percent(f.hit_rate),
        count(f.failed as f64),
        count((f.answered + f.failed) as f64)
    )
}

fn plot(f: &Figures) -> Plot {
    let series = |name: &str, p: Percentiles| Series {
        name: name.to_owned(),
        points: vec![(50.0, p.p50_ms), (90.0, p.p90_ms), (99.0, p.p99_ms)],
    };
    Plot {
        title: "What clients waited for".into(),
        x_label: "percent of the requests that waited no longer".into(),
        y_label: "milliseconds".into(),
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        series: vec![
            series("first token", f.ttft),
            series("between tokens", f.itl),
            series("whole answer", f.e2e),
        ],
    }
}

fn report(f: &Figures) -> Report {
    let json = serde_json::to_value(f).unwrap_or_default();
    let mut report = Report::new(format!("Clients of Envoy, {}", f.trace), verdict(f), json);
    let columns = ["what", "p50 ms", "p90", "p99", "max"];
    let mut latency = Table::new("What clients waited for", &columns);
    for (name, p) in [
        ("first token", f.ttft),
        ("between tokens (mean of each request)", f.itl),
        ("whole answer", f.e2e),
    ] {
        let mut row = vec![name.to_owned()];
        row.extend([p.p50_ms, p.p90_ms, p.p99_ms, p.max_ms].map(millis));
        latency.rows.push(row);
    }
    report.tables.push(latency);
    let columns = [
        "answered",
        "failed",
        "per second",
        "prefix hits",
        "workers",
        "largest share / mean",
        "epp CPU us/request",
        "Envoy CPU us/request",
    ];
    let mut whole = Table::new("Requests", &columns);
    whole.rows.push(vec![
        count(f.answered as f64),
        count(f.failed as f64),
        format!("{:.1}", f.answered as f64 / f.seconds.max(f64::MIN_POSITIVE)),
        percent(f.hit_rate),
        f.workers.len().to_string(),
        factor(f.largest_to_mean),
        optional(f.epp_cpu_us_per_request, micros),
        optional(f.envoy_cpu_us_per_request, micros),
    ]);
    report.tables.push(whole);
    report.plots.push(plot(f));
    if !f.errors.is_empty() {
        let mut errors = Table::new("Failed requests", &["kind", "requests"]);
        errors.rows.extend(f.errors.iter().map(|(kind, n)| vec![kind.clone(), n.to_string()]));
        report.tables.push(errors);
    }
    report
}
