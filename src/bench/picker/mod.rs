//! `epp-bench picker`: the pipeline in-process, from all cores, as fast as it goes.
//!
//! What is timed is [`crate::exchange::Director::schedule`], the step between a parsed request and
//! its endpoint.

mod bench;

use std::time::Duration;

use serde::Serialize;

use super::args::{OutputArgs, duration};
use super::latency::Percentiles;
use super::report::{Plot, Report, Scale, Series, Table, count, factor, micros, optional};
use super::{process, progress};
use bench::{Cell, Measured};

/// Call the pipeline in-process from all cores: decisions per second, latency, allocations.
///
/// No network, no parsing: only what stands between a parsed request and its worker. "cold"
/// prompts share nothing with earlier ones; of "warm" ones the first nine tenths are in the
/// index. Every thread keeps 32 requests in flight.
#[derive(Clone, Debug, clap::Args)]
pub struct PickerArgs {
    /// The EndpointPickerConfig; the default of a picker that is given none if not given.
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Pool sizes.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [8, 64, 256], value_parser = clap::value_parser!(u16).range(1..))]
    pub endpoints: Vec<u16>,
    /// Prompt lengths in tokens (four bytes each).
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [256, 2048, 8192, 32768], value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub prompt_tokens: Vec<u32>,
    /// States of the prefix index.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Cache::Cold, Cache::Warm])]
    pub cache: Vec<Cache>,
    /// Numbers of threads; 1 and all cores if not given.
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Vec<u16>,
    /// How long to measure each combination.
    #[arg(long, default_value = "500ms", value_parser = duration)]
    pub duration: Duration,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What the prefix index knows of the prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Nothing.
    Cold,
    /// The first nine tenths of each.
    Warm,
}

/// One combination's figures.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    cell: Cell,
    decisions_per_second: f64,
    decision: Percentiles,
    allocations: f64,
    allocated_bytes: f64,
    errors: u64,
}

/// # Errors
/// With a text for the user.
pub fn run(args: &PickerArgs) -> Result<(), String> {
    let text = match &args.config {
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|e| format!("cannot read {}: {e}", path.display()))?,
        ),
        None => None,
    };
    let name = args
        .config
        .as_ref()
        .map_or_else(|| "the default configuration".to_owned(), |path| path.display().to_string());
    let cells = cells(args);
    let bar = progress::bar(cells.len() as u64, &name, args.output.quiet);
    let mut rows = Vec::new();
    for cell in cells {
        let measured = bench::run(&name, text.as_deref(), cell, args.duration)?;
        rows.push(row(cell, &measured));
        bar.inc(1);
    }
    bar.finish_and_clear();
    report(&name, &rows).emit(&args.output)
}

fn cells(args: &PickerArgs) -> Vec<Cell> {
    let mut threads = args.threads.clone();
    if threads.is_empty() {
        threads = vec![1];
        let all = u16::try_from(process::cores()).unwrap_or(u16::MAX);
        if all > 1 {
            threads.push(all);
        }
    }
    let mut cells = Vec::new();
    for &endpoints in &args.endpoints {
        for &prompt_tokens in &args.prompt_tokens {
            for &cache in &args.cache {
                for &threads in &threads {
                    cells.push(Cell { endpoints, prompt_tokens, cache, threads });
                }
            }
        }
    }
    cells
}

fn row(cell: Cell, m: &Measured) -> Row {
    let n = m.latency.count().max(1) as f64;
    Row {
        cell,
        decisions_per_second: m.latency.count() as f64 / m.seconds,
        decision: m.latency.summary(),
        allocations: m.allocations.calls as f64 / n,
        allocated_bytes: m.allocations.bytes as f64 / n,
        errors: m.errors,
    }
}

fn report(name: &str, rows: &[Row]) -> Report {
    let data = serde_json::to_value(rows).unwrap_or_default();
    let mut report = Report::new(format!("Decisions of {name}"), verdict(rows), data);
    let columns = [
        "workers",
        "tokens",
        "cache",
        "threads",
        "decisions/s",
        "vs 1 thread",
        "p50 us",
        "p99 us",
        "max us",
        "allocations",
        "bytes",
        "errors",
    ];
    let mut table = Table::new("Decisions in-process; allocations per decision", &columns);
    for row in rows {
        let c = row.cell;
        let one = rows.iter().find(|r| r.cell == Cell { threads: 1, ..c });
        let us = |ms: f64| format!("{:.1}", ms * 1e3);
        table.rows.push(vec![
            c.endpoints.to_string(),
            c.prompt_tokens.to_string(),
            format!("{:?}", c.cache).to_lowercase(),
            c.threads.to_string(),
            count(row.decisions_per_second),
            optional(one, |one| factor(row.decisions_per_second / one.decisions_per_second)),
            us(row.decision.p50_ms),
            us(row.decision.p99_ms),
            us(row.decision.max_ms),
            format!("{:.1}", row.allocations),
            count(row.allocated_bytes),
            row.errors.to_string(),
        ]);
    }
    report.tables.push(table);
    report.plots.push(plot(rows));
    report
}

fn verdict(rows: &[Row]) -> String {
    let slowest = rows
        .iter()
        .filter(|row| row.cell.threads == 1)
        .max_by(|a, b| a.decision.p50_ms.total_cmp(&b.decision.p50_ms));
    let Some(Row { cell, decision, .. }) = slowest else {
        return "No decision was made on one thread.".to_owned();
    };
    format!(
        "A decision takes {} us in the median at most: between {} workers, of {} prompt tokens, with \
         caches {}.",
        micros(decision.p50_ms * 1e3),
        cell.endpoints,
        count(f64::from(cell.prompt_tokens)),
        format!("{:?}", cell.cache).to_lowercase(),
    )
}

fn plot(rows: &[Row]) -> Plot {
    let mut series: Vec<Series> = Vec::new();
    for row in rows.iter().filter(|r| r.cell.threads == 1) {
        let cache = format!("{:?}", row.cell.cache).to_lowercase();
        let name = format!("{} workers, {cache}", row.cell.endpoints);
        let point = (f64::from(row.cell.prompt_tokens), row.decision.p50_ms * 1e3);
        match series.iter_mut().find(|s| s.name == name) {
            Some(s) => s.points.push(point),
            None => series.push(Series { name, points: vec![point] }),
        }
    }
    Plot {
        title: "Time of one decision, one thread, median".into(),
        x_label: "prompt tokens".into(),
        y_label: "microseconds".into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series,
    }
}
