use std::collections::BTreeMap;

use serde::Serialize;

use super::super::ExtProcArgs;
use super::super::workload::Workload;
use super::{Figures, Row};
use crate::bench::latency::Percentiles;
use crate::bench::report::{Report, Table, count, micros, millis, optional};

/// What one Envoy did.
#[derive(Serialize)]
struct Numbers<'a> {
    name: &'a str,
    requests_per_second: f64,
    answered: u64,
    failed: u64,
    errors: &'a BTreeMap<String, u64>,
    first_byte: Percentiles,
    whole: Percentiles,
    picker_cpu_us_per_request: Option<f64>,
    envoy_cpu_us_per_request: Option<f64>,
    /// What asking costs Envoy: beyond what it costs the one that asks nobody.
    envoy_cpu_us_for_ext_proc: Option<f64>,
    picker_cpu_us_per_event: Option<f64>,
    messages_per_request: f64,
    /// Lowest and highest of the turns.
    picker_cpu_us_spread: Option<(f64, f64)>,
    envoy_cpu_us_spread: Option<(f64, f64)>,
}

#[derive(Serialize)]
struct Data<'a> {
    workload: &'a Workload,
    gateways: &'a [Numbers<'a>],
}

pub(super) fn report(args: &ExtProcArgs, rows: &[Row]) -> Report {
    let events = args.workload.sse_events;
    let alone = rows.last().and_then(|row| row.figures.per_request(row.figures.envoy_cpu));
    let all: Vec<Numbers<'_>> = rows.iter().map(|row| numbers(row, events, alone)).collect();
    let data = Data { workload: &args.workload, gateways: &all };
    let data = serde_json::to_value(&data).unwrap_or_default();
    let mut report = Report::new("Envoy and endpoint pickers", verdict(&all), data);
    report.tables.push(cost(&all));
    report.tables.push(latency(&all));
    let mut errors = Table::new("Failed requests", &["gateway", "kind", "requests"]);
    for n in &all {
        let of =
            |(kind, count): (&String, &u64)| vec![n.name.into(), kind.clone(), count.to_string()];
        errors.rows.extend(n.errors.iter().map(of));
    }
    if !errors.rows.is_empty() {
        report.tables.push(errors);
    }
    report
}

fn numbers<'a>(row: &'a Row, events: u32, alone: Option<f64>) -> Numbers<'a> {
    let figures = &row.figures;
    let picker = figures.per_request(figures.picker_cpu);
    let envoy = figures.per_request(figures.envoy_cpu);
    Numbers {
        name: &row.name,
        requests_per_second: figures.tally.answered() as f64
            / figures.elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
        answered: figures.tally.answered(),
        failed: figures.tally.failed(),
        errors: &figures.tally.errors,
        first_byte: figures.tally.first_byte.summary(),
        whole: figures.tally.whole.summary(),
        picker_cpu_us_per_request: picker,
        envoy_cpu_us_per_request: envoy,
        envoy_cpu_us_for_ext_proc: envoy.zip(alone).map(|(envoy, alone)| envoy - alone),
        picker_cpu_us_per_event: picker.filter(|_| events > 0).map(|cpu| cpu / f64::from(events)),
        messages_per_request: figures.messages_per_request(),
        picker_cpu_us_spread: spread(&row.turns, |f| f.per_request(f.picker_cpu)),
        envoy_cpu_us_spread: spread(&row.turns, |f| f.per_request(f.envoy_cpu)),
    }
}

fn spread(turns: &[Figures], of: impl Fn(&Figures) -> Option<f64>) -> Option<(f64, f64)> {
    let mut all: Vec<f64> = turns.iter().filter_map(of).collect();
    all.sort_by(f64::total_cmp);
    Some((*all.first()?, *all.last()?))
}

fn verdict(all: &[Numbers<'_>]) -> String {
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return "Nothing was measured.".to_owned();
    };
    let cpu = |n: &Numbers<'_>| optional(n.envoy_cpu_us_per_request, micros);
    format!(
        "{}: {} us of CPU a request in the picker and {} in Envoy, which takes {} without ext_proc; \
         the first byte after {} ms in the median, without ext_proc after {}.",
        first.name,
        optional(first.picker_cpu_us_per_request, micros),
        cpu(first),
        cpu(last),
        millis(first.first_byte.p50_ms),
        millis(last.first_byte.p50_ms),
    )
}

fn cost(all: &[Numbers<'_>]) -> Table {
    let columns = [
        "gateway",
        "picker CPU us/request",
        "turns",
        "us/event",
        "Envoy CPU us/request",
        "turns",
        "of it ext_proc",
        "messages/request",
    ];
    let mut table = Table::new("CPU time", &columns);
    let turns =
        |spread| optional(spread, |(low, high)| format!("{}-{}", micros(low), micros(high)));
    for n in all {
        table.rows.push(vec![
            n.name.to_owned(),
            optional(n.picker_cpu_us_per_request, micros),
            turns(n.picker_cpu_us_spread),
            optional(n.picker_cpu_us_per_event, micros),
            optional(n.envoy_cpu_us_per_request, micros),
            turns(n.envoy_cpu_us_spread),
            optional(n.envoy_cpu_us_for_ext_proc, micros),
            format!("{:.1}", n.messages_per_request),
        ]);
    }
    table
}

fn latency(all: &[Numbers<'_>]) -> Table {
    let columns = [
        "gateway",
        "first byte p50 ms",
        "p90",
        "p99",
        "whole p50 ms",
        "p90",
        "p99",
        "done/s",
        "answered",
        "failed",
    ];
    let mut table = Table::new("What clients waited for", &columns);
    for n in all {
        let mut row = vec![n.name.to_owned()];
        for p in [&n.first_byte, &n.whole] {
            row.extend([p.p50_ms, p.p90_ms, p.p99_ms].map(millis));
        }
        row.push(count(n.requests_per_second));
        row.push(n.answered.to_string());
        row.push(n.failed.to_string());
        table.rows.push(row);
    }
    table
}
