//! What a run found, as tables, plots and JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ExtProcArgs;
use super::compare::{Outcome, Ratio};
use super::measure::Measured;
use super::tally::Spread;
use super::workload::Workload;
use crate::bench::latency::Percentiles;
use crate::bench::report::{
    Plot, Report, Scale, Series, Table, bytes, count, factor, micros, millis, optional, percent,
};

/// One picker's figures.
#[derive(Debug, Serialize)]
struct Figures<'a> {
    name: &'a str,
    exchanges_per_second: f64,
    succeeded: u64,
    failed: u64,
    errors: &'a BTreeMap<String, u64>,
    headers_out: Percentiles,
    exchange: Percentiles,
    cpu_per_exchange_us: Option<f64>,
    cpu_cores: Option<f64>,
    client_cpu_cores: f64,
    resident_before_bytes: Option<u64>,
    resident_peak_bytes: Option<u64>,
    idle_cores_before: Option<f64>,
    idle_cores_after: Option<f64>,
    spread: Spread,
}

/// The first picker over another one.
#[derive(Debug, Serialize)]
struct Comparison<'a> {
    of: &'a str,
    to: &'a str,
    cpu_per_exchange: Option<Ratio>,
    exchanges_per_second: Option<Ratio>,
    headers_out_p50: Option<Ratio>,
    headers_out_p99: Option<Ratio>,
    resident_peak: Option<Ratio>,
}

#[derive(Serialize)]
struct Data<'a> {
    workload: &'a Workload,
    pickers: &'a [Figures<'a>],
    ratios: &'a [Comparison<'a>],
}

pub(super) fn report(args: &ExtProcArgs, outcomes: &[Outcome]) -> Report {
    let figures: Vec<Figures<'_>> = outcomes.iter().map(figures).collect();
    let ratios: Vec<Comparison<'_>> = outcomes
        .split_first()
        .map(|(first, others)| others.iter().map(|o| comparison(first, o)).collect())
        .unwrap_or_default();
    let data = Data { workload: &args.workload, pickers: &figures, ratios: &ratios };
    let data = serde_json::to_value(&data).unwrap_or_default();
    let mut report =
        Report::new("Endpoint pickers over ext_proc", verdict(&figures, &ratios), data);
    report.tables.push(latency_table(&figures));
    report.tables.push(cost_table(&figures));
    report.tables.push(spread_table(&figures));
    report.tables.extend(error_table(&figures));
    if !ratios.is_empty() {
        report.tables.push(ratio_table(&ratios));
    }
    report.plots.push(tail_plot(outcomes));
    report
}

fn verdict(figures: &[Figures<'_>], ratios: &[Comparison<'_>]) -> String {
    let Some(first) = figures.first() else { return "Nothing was measured.".to_owned() };
    let name = first.name;
    if first.succeeded == 0 {
        return format!("No exchange with {name} succeeded.");
    }
    let mut text = format!(
        "{name} names a worker {} ms after a request's last byte in the median, {} ms at p99, at {} \
         exchanges a second",
        millis(first.headers_out.p50_ms),
        millis(first.headers_out.p99_ms),
        count(first.exchanges_per_second),
    );
    for ratio in ratios {
        if let Some(cpu) = ratio.cpu_per_exchange {
            text.push_str(&format!(", for {} the CPU time of {}", factor(cpu.median), ratio.to));
        }
    }
    if first.failed > 0 {
        text.push_str(&format!("; {} exchanges failed", count(first.failed as f64)));
    }
    text.push('.');
    text
}

fn figures(o: &Outcome) -> Figures<'_> {
    let whole = &o.whole;
    let seconds = whole.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    Figures {
        name: &o.name,
        exchanges_per_second: whole.per_second(),
        succeeded: whole.tally.succeeded(),
        failed: whole.tally.failed(),
        errors: &whole.tally.errors,
        headers_out: whole.tally.headers_out.summary(),
        exchange: whole.tally.total.summary(),
        cpu_per_exchange_us: whole.cpu_per_exchange_us(),
        cpu_cores: whole.server_cpu.map(|cpu| cpu.as_secs_f64() / seconds),
        client_cpu_cores: whole.client_cpu.as_secs_f64() / seconds,
        resident_before_bytes: o.resident_before,
        resident_peak_bytes: whole.server_resident,
        idle_cores_before: o.idle_before,
        idle_cores_after: o.idle_after,
        spread: whole.tally.spread(),
    }
}

fn comparison<'a>(a: &'a Outcome, b: &'a Outcome) -> Comparison<'a> {
    let quantile = |q| move |m: &Measured| Some(m.tally.headers_out.quantile_ms(q));
    Comparison {
        of: &a.name,
        to: &b.name,
        cpu_per_exchange: Ratio::of(a, b, Measured::cpu_per_exchange_us),
        exchanges_per_second: Ratio::of(a, b, |m| Some(m.per_second())),
        headers_out_p50: Ratio::of(a, b, quantile(0.50)),
        headers_out_p99: Ratio::of(a, b, quantile(0.99)),
        resident_peak: Ratio::of(a, b, |m| m.server_resident.map(|n| n as f64)),
    }
}

fn latency_table(figures: &[Figures<'_>]) -> Table {
    let mut table = Table::new(
        "Latency, ms: out, from the last byte of the request body to the headers; whole, of all",
        &[
            "picker",
            "out p50",
            "p90",
            "p99",
            "max",
            "whole p50",
            "p90",
            "p99",
            "max",
            "done/s",
            "failed",
        ],
    );
    for f in figures {
        let mut row = vec![f.name.to_owned()];
        for p in [&f.headers_out, &f.exchange] {
            row.extend([p.p50_ms, p.p90_ms, p.p99_ms, p.max_ms].map(millis));
        }
        row.push(count(f.exchanges_per_second));
        row.push(f.failed.to_string());
        table.rows.push(row);
    }
    table
}

fn cost_table(figures: &[Figures<'_>]) -> Table {
    let mut table = Table::new(
        "Cost of the picker's process",
        &[
            "picker",
            "CPU us/exchange",
            "cores",
            "idle cores before",
            "after",
            "memory before",
            "peak",
            "driver's cores",
        ],
    );
    let cores = |c: f64| format!("{c:.2}");
    for f in figures {
        table.rows.push(vec![
            f.name.to_owned(),
            optional(f.cpu_per_exchange_us, micros),
            optional(f.cpu_cores, cores),
            optional(f.idle_cores_before, cores),
            optional(f.idle_cores_after, cores),
            optional(f.resident_before_bytes, bytes),
            optional(f.resident_peak_bytes, bytes),
            cores(f.client_cpu_cores),
        ]);
    }
    table
}

fn spread_table(figures: &[Figures<'_>]) -> Table {
    let columns = ["picker", "workers picked", "largest share / mean", "stickiness of groups"];
    let mut table = Table::new("Where requests went", &columns);
    for f in figures {
        table.rows.push(vec![
            f.name.to_owned(),
            f.spread.endpoints.len().to_string(),
            factor(f.spread.largest_to_mean),
            percent(f.spread.stickiness),
        ]);
    }
    table
}

fn error_table(figures: &[Figures<'_>]) -> Option<Table> {
    let mut table = Table::new("Failed exchanges", &["picker", "kind", "exchanges"]);
    for f in figures {
        for (kind, n) in f.errors {
            table.rows.push(vec![f.name.to_owned(), kind.clone(), n.to_string()]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

fn ratio_table(ratios: &[Comparison<'_>]) -> Table {
    let columns =
        ["ratio", "CPU/exchange", "done/s", "headers out p50", "headers out p99", "peak memory"];
    let mut table = Table::new("Ratios: median over the turns (lowest - highest)", &columns);
    let show = |r: Option<Ratio>| {
        optional(r, |r| format!("{} ({:.2}-{:.2})", factor(r.median), r.low, r.high))
    };
    for r in ratios {
        table.rows.push(vec![
            format!("{} / {}", r.of, r.to),
            show(r.cpu_per_exchange),
            show(r.exchanges_per_second),
            show(r.headers_out_p50),
            show(r.headers_out_p99),
            show(r.resident_peak),
        ]);
    }
    table
}

/// Latency over "how many in so many are slower", the usual view of a tail.
fn tail_plot(outcomes: &[Outcome]) -> Plot {
    let series = outcomes.iter().map(|o| Series {
        name: o.name.clone(),
        points: o
            .whole
            .tally
            .headers_out
            .tail()
            .into_iter()
            .map(|(q, ms)| (1.0 / (1.0 - q), ms))
            .collect(),
    });
    Plot {
        title: "Headers out".into(),
        x_label: "slower: one exchange in so many".into(),
        y_label: "milliseconds".into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series: series.collect(),
    }
}
