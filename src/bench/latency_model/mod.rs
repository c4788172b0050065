//! `epp-bench latency-model`: how well the latency model predicts simulated traffic.

mod judge;
mod traffic;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::args::{OutputArgs, duration};
use super::report::{Plot, Report, Scale, Series, Table, percent};
use super::trace::{self, TraceArgs};
use crate::sim::{EngineConfig, PROFILES};
use judge::{Contestant, Errors, Verdict, judge};
use traffic::{Sample, Scene};

/// Measures how well the latency model (`predicted-latency-producer`) predicts TTFT and TPOT.
///
/// Plays a workload through simulated engines, predicts each request when its endpoint is chosen
/// and learns from its answer; counts the errors of the second half.
#[derive(Clone, Debug, clap::Args)]
pub struct LatencyModelArgs {
    #[command(flatten)]
    pub trace: TraceArgs,
    /// How many times as often as in the trace sessions start; several separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "FACTOR")]
    pub rate: Vec<f64>,
    /// How fast each worker is against the profile.
    #[arg(long, value_delimiter = ',', default_value = "1,1,1,0.6", value_name = "FACTOR")]
    pub speeds: Vec<f64>,
    /// The measured server that the workers behave like.
    #[arg(long, default_value = PROFILES[0], value_parser = PossibleValuesParser::new(PROFILES))]
    pub profile: String,
    /// How often the router reads the workers' metrics.
    #[arg(long, default_value = "50ms", value_parser = duration)]
    pub metrics_interval: Duration,
    /// Share of the requests that go to any worker, not to the least loaded.
    #[arg(long, default_value_t = 0.25, value_name = "SHARE")]
    pub exploration: f64,
    /// Write what was predicted from, and what came of it, to FILE as CSV (of the last rate).
    #[arg(long, value_name = "FILE")]
    pub rows: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    rate: f64,
    contestant: Contestant,
    verdict: Verdict,
}

/// # Errors
/// With a text for the user.
pub fn run(args: &LatencyModelArgs) -> Result<(), String> {
    for (name, bad) in [("--rate", bad(&args.rate)), ("--speeds", bad(&args.speeds))] {
        if let Some(bad) = bad {
            return Err(format!("{name} {bad}: expected a number above 0"));
        }
    }
    let trace = trace::open(&args.trace)?;
    let engine = EngineConfig::profile(&args.profile)
        .ok_or_else(|| format!("no profile '{}'", args.profile))?;
    let mut scene = Scene {
        engine,
        speeds: args.speeds.clone(),
        rate: 1.0,
        metrics_interval: crate::clock::nanos(args.metrics_interval).max(1),
        exploration: args.exploration,
        seed: args.trace.seed,
    };
    let mut rows = Vec::new();
    for &rate in &args.rate {
        scene.rate = rate;
        let samples = traffic::play(&trace, &scene)?;
        if let Some(path) = &args.rows {
            write(path, &samples).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        }
        for contestant in [Contestant::Model, Contestant::RecentMedian] {
            rows.push(Row { rate, contestant, verdict: judge(&samples, contestant) });
        }
    }
    report(&trace.name, &rows)?.emit(&args.output)
}

fn bad(factors: &[f64]) -> Option<f64> {
    factors.iter().copied().find(|f| !(f.is_finite() && *f > 0.0))
}

fn report(trace: &str, rows: &[Row]) -> Result<Report, String> {
    let columns =
        ["rate", "what predicts", "TTFTs", "TTFT p50", "TTFT p90", "TPOTs", "TPOT p50", "TPOT p90"];
    let mut table = Table::new(format!("{trace}: |predicted - observed| / observed"), &columns);
    for row in rows {
        let name = match row.contestant {
            Contestant::Model => "the model",
            Contestant::RecentMedian => "median of the last 500",
        };
        let mut cells = vec![row.rate.to_string(), name.to_owned()];
        for Errors { predictions, median, p90 } in [row.verdict.ttft, row.verdict.tpot] {
            cells.extend([predictions.to_string(), percent(median), percent(p90)]);
        }
        table.rows.push(cells);
    }
    let data = serde_json::to_value(rows).map_err(|e| e.to_string())?;
    let mut report = Report::new("Latency model", verdict(rows), data);
    report.tables.push(table);
    report.plots.push(plot(rows));
    Ok(report)
}

fn verdict(rows: &[Row]) -> String {
    let of = |contestant| rows.iter().rfind(|row| row.contestant == contestant);
    let (Some(model), Some(other)) = (of(Contestant::Model), of(Contestant::RecentMedian)) else {
        return "Nothing was predicted.".to_owned();
    };
    format!(
        "At rate x {} half of the model's first tokens are off by less than {}, and {} where the \
         median of recent ones is the prediction.",
        model.rate,
        percent(model.verdict.ttft.median),
        percent(other.verdict.ttft.median)
    )
}

fn plot(rows: &[Row]) -> Plot {
    let series = |name: &str, contestant, error: fn(&Verdict) -> f64| Series {
        name: name.to_owned(),
        points: rows
            .iter()
            .filter(|row| row.contestant == contestant)
            .map(|row| (row.rate, error(&row.verdict) * 100.0))
            .collect(),
    };
    Plot {
        title: "Median error of predictions".into(),
        x_label: "rate factor".into(),
        y_label: "percent".into(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        series: vec![
            series("TTFT, model", Contestant::Model, |v| v.ttft.median),
            series("TTFT, recent", Contestant::RecentMedian, |v| v.ttft.median),
            series("TPOT, model", Contestant::Model, |v| v.tpot.median),
            series("TPOT, recent", Contestant::RecentMedian, |v| v.tpot.median),
        ],
    }
}

const COLUMNS: [&str; 16] = [
    "worker",
    "picked_ms",
    "first_token_ms",
    "finished_ms",
    "output_tokens",
    "ttft_ms",
    "tpot_ms",
    "kv_usage",
    "waiting",
    "running",
    "input_tokens",
    "cached_tokens",
    "prefilling",
    "decoding",
    "prefill_tokens",
    "context_tokens",
];

fn write(path: &Path, samples: &[Sample]) -> csv::Result<()> {
    let mut out = csv::Writer::from_path(path)?;
    out.write_record(COLUMNS)?;
    for s in samples {
        let f = s.features;
        let ms = |nanos: u64| nanos as f64 / 1e6;
        out.serialize((
            (s.worker, ms(s.picked_at), ms(s.first_token_at), ms(s.finished_at)),
            (s.output_tokens, s.ttft_ms(), s.tpot_ms()),
            (f.kv_usage, f.waiting, f.running, f.input_tokens, f.cached_tokens),
            (f.prefilling, f.decoding, f.prefill_tokens, f.context_tokens),
        ))?;
    }
    out.flush()?;
    Ok(())
}
