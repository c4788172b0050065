//! What a replay found, as tables, plots and JSON.

use serde::Serialize;

use super::outcome::Outcome;
use super::{ReplayArgs, overload_summary};
use crate::bench::report::{
    Plot, Report, Scale, Series, Table, count, factor, millis, optional, percent,
};
use crate::bench::trace::{Ceiling, Trace};

/// One simulation.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub policy: String,
    /// Rate factor.
    pub rate: f64,
    /// In multiples of what the workers can serve, where it was asked for so.
    pub load: Option<f64>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Row {
    /// What was asked for: `rate x 2`, or `load x 1.5`.
    pub(super) fn asked(&self) -> String {
        match self.load {
            Some(load) => format!("load x {load}"),
            None => format!("rate x {}", self.rate),
        }
    }
}

#[derive(Serialize)]
struct Data<'a> {
    trace: &'a str,
    requests: usize,
    input_tokens: u64,
    output_tokens: u64,
    ceiling: Ceiling,
    workers: usize,
    prefill_workers: usize,
    seed: u64,
    simulations: &'a [Row],
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<&'a Recorded>,
}

/// What the recording that was replayed measured itself.
#[derive(Debug, Serialize)]
pub(super) struct Recorded {
    /// The simulated configuration that it was recorded under.
    pub same_config: Option<String>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

pub(super) fn report(
    args: &ReplayArgs,
    trace: &Trace,
    ceiling: Ceiling,
    rows: &[Row],
    recorded: Option<Recorded>,
) -> Report {
    let data = Data {
        trace: &trace.name,
        requests: trace.len(),
        input_tokens: trace.input_tokens(),
        output_tokens: trace.output_tokens(),
        ceiling,
        workers: args.fleet.undivided().workers,
        prefill_workers: args.fleet.divided().map_or(0, |layout| layout.prefill),
        seed: args.trace.seed,
        simulations: rows,
        recorded: recorded.as_ref(),
    };
    let json = serde_json::to_value(&data).unwrap_or_default();
    let mut report = Report::new(format!("Replay of {}", trace.name), verdict(rows), json);
    report.tables.push(trace_table(trace, ceiling));
    if let Some(recorded) = &recorded {
        report.tables.push(recorded_table(recorded, rows));
    }
    report.tables.extend(notes_table(trace));
    let mut rates: Vec<f64> = rows.iter().map(|r| r.rate).collect();
    rates.dedup();
    for rate in rates {
        let of_rate: Vec<&Row> = rows.iter().filter(|r| r.rate == rate).collect();
        report.tables.push(table(rate, &of_rate, ceiling));
    }
    report.tables.extend(division_table(args, rows));
    report.tables.extend(fault_table(args, rows));
    report.tables.extend(overload_summary::tables(rows));
    report.tables.extend(error_table(rows));
    report.plots = plots(rows, recorded.as_ref());
    report.plots.extend(overload_summary::plots(rows));
    report
}

/// Who answers first where the load is highest, and who last.
fn verdict(rows: &[Row]) -> String {
    let highest = rows.iter().map(|r| r.rate).fold(0.0, f64::max);
    let mut of_rate: Vec<&Row> = rows.iter().filter(|r| r.rate == highest).collect();
    of_rate.sort_by(|a, b| a.outcome.ttft.p50_ms.total_cmp(&b.outcome.ttft.p50_ms));
    let asked = of_rate.first().map(|row| row.asked()).unwrap_or_default();
    let of = |row: &Row| {
        let Outcome { ttft, hit_rate, .. } = &row.outcome;
        format!("{} ms with {} of prompt tokens cached", millis(ttft.p50_ms), percent(*hit_rate))
    };
    match of_rate.as_slice() {
        [] => "Nothing was replayed.".to_owned(),
        [only] => {
            format!("At {asked} the median first token comes after {} ({}).", of(only), only.policy)
        }
        [first, .., last] => format!(
            "At {asked} {} answers first: its median first token comes after {}, that of \
             {}, the last, after {}.",
            first.policy,
            of(first),
            last.policy,
            of(last)
        ),
    }
}

fn trace_table(trace: &Trace, ceiling: Ceiling) -> Table {
    let columns = ["trace", "sessions", "requests", "prompt tokens", "answer tokens", "ceiling"];
    let mut table = Table::new("Workload; ceiling: hit rate of one cache without limits", &columns);
    table.rows.push(vec![
        trace.name.clone(),
        count(trace.sessions.len() as f64),
        count(trace.len() as f64),
        count(trace.input_tokens() as f64),
        count(trace.output_tokens() as f64),
        percent(ceiling.hit_rate()),
    ]);
    table
}

/// The figures that were measured, and the same of the configurations at the recorded rate: how
/// far the simulation of the one that was in force may be trusted.
fn recorded_table(recorded: &Recorded, rows: &[Row]) -> Table {
    let columns = [
        "",
        "hits",
        "believed",
        "TTFT p50 ms",
        "p90",
        "p99",
        "ITL p50",
        "p99",
        "E2E p50 ms",
        "p99",
        "good",
        "requests max/mean",
        "failed",
    ];
    let title = match &recorded.same_config {
        Some(name) => {
            format!("What was measured when it was recorded, under {name}, and simulated")
        }
        None => "What was measured when it was recorded, under none of these configurations, and \
                 simulated"
            .to_owned(),
    };
    let mut table = Table::new(title, &columns);
    let row = |name: String, o: &Outcome| {
        let is_told = |o: &&Outcome| o.ttft.count > 0;
        let ms = |of: fn(&Outcome) -> f64| optional(Some(o).filter(is_told), |o| millis(of(o)));
        vec![
            name,
            optional(Some(o.hit_rate).filter(|rate| rate.is_finite()), percent),
            optional(o.believed_hit_rate, percent),
            ms(|o| o.ttft.p50_ms),
            ms(|o| o.ttft.p90_ms),
            ms(|o| o.ttft.p99_ms),
            ms(|o| o.itl.p50_ms),
            ms(|o| o.itl.p99_ms),
            millis(o.e2e.p50_ms),
            millis(o.e2e.p99_ms),
            percent(o.good_share),
            factor(o.request_imbalance),
            o.failed.to_string(),
        ]
    };
    table.rows.push(row("measured".to_owned(), &recorded.outcome));
    for simulated in rows.iter().filter(|row| row.rate == 1.0) {
        table.rows.push(row(format!("simulated: {}", simulated.policy), &simulated.outcome));
    }
    table
}

/// What the reader of a recording should know.
fn notes_table(trace: &Trace) -> Option<Table> {
    let mut table = Table::new("Of the recording", &["note"]);
    let notes = trace.origin.iter().flat_map(|origin| &origin.notes);
    table.rows.extend(notes.map(|note| vec![note.clone()]));
    (!table.rows.is_empty()).then_some(table)
}

fn table(rate: f64, rows: &[&Row], ceiling: Ceiling) -> Table {
    let columns = [
        "policy",
        "hits",
        "of ceiling",
        "believed",
        "TTFT p50 ms",
        "p90",
        "p99",
        "ITL p50",
        "p99",
        "E2E p50 ms",
        "p99",
        "good/s",
        "good",
        "work max/mean",
        "requests max/mean",
        "failed",
    ];
    let title = match rows.first().and_then(|row| row.load) {
        Some(load) => format!("Load x {load} of what the workers can serve: rate x {rate:.2}"),
        None => format!("Rate x {rate}"),
    };
    let mut table = Table::new(title, &columns);
    let best = ceiling.hit_rate();
    for row in rows {
        let o = &row.outcome;
        table.rows.push(vec![
            row.policy.clone(),
            percent(o.hit_rate),
            optional((best > 0.0).then(|| o.hit_rate / best), percent),
            optional(o.believed_hit_rate, percent),
            millis(o.ttft.p50_ms),
            millis(o.ttft.p90_ms),
            millis(o.ttft.p99_ms),
            millis(o.itl.p50_ms),
            millis(o.itl.p99_ms),
            millis(o.e2e.p50_ms),
            millis(o.e2e.p99_ms),
            format!("{:.2}", o.good_per_second),
            percent(o.good_share),
            factor(o.computed_imbalance),
            factor(o.request_imbalance),
            o.failed.to_string(),
        ]);
    }
    table
}

/// How prompts were divided from answers, where there were workers for each.
fn division_table(args: &ReplayArgs, rows: &[Row]) -> Option<Table> {
    let layout = args.fleet.divided()?;
    let title = format!(
        "Prompts computed by other workers, {} of {} for prompts alone (the last columns: against \
         the same policy on {} workers that do both)",
        layout.prefill, layout.workers, layout.workers
    );
    let columns =
        ["policy", "rate", "prompts", "KV tokens moved", "TTFT p50", "p90", "ITL p50", "p99"];
    let mut table = Table::new(title, &columns);
    for row in rows {
        let Some(name) = row.policy.strip_suffix(", divided") else { continue };
        let Some(both) = rows.iter().find(|r| r.policy == name && r.rate == row.rate) else {
            continue;
        };
        let (o, b) = (&row.outcome, &both.outcome);
        let change = |now: f64, before: f64| {
            optional((before > 0.0).then(|| now / before - 1.0), |x| format!("{:+.0} %", x * 100.0))
        };
        table.rows.push(vec![
            row.policy.clone(),
            row.asked(),
            percent(o.prefilled_elsewhere),
            count(o.received_tokens as f64),
            change(o.ttft.p50_ms, b.ttft.p50_ms),
            change(o.ttft.p90_ms, b.ttft.p90_ms),
            change(o.itl.p50_ms, b.itl.p50_ms),
            change(o.itl.p99_ms, b.itl.p99_ms),
        ]);
    }
    Some(table)
}

/// What the faults cost, where there were any.
fn fault_table(args: &ReplayArgs, rows: &[Row]) -> Option<Table> {
    let columns =
        ["policy", "rate", "lost", "share", "after the first second", "back in service after s"];
    let title = "Requests lost to faults; after the first second: of those asked while a fault had \
                 been in force so long";
    let mut table = Table::new(title, &columns);
    for row in rows {
        let o = &row.outcome;
        table.rows.push(vec![
            row.policy.clone(),
            row.asked(),
            o.failed.to_string(),
            percent(o.lost_share),
            optional(o.lost_in_fault, percent),
            optional(o.back_after_seconds, |s| format!("{s:.1}")),
        ]);
    }
    (!args.trouble.fault.is_empty()).then_some(table)
}

fn error_table(rows: &[Row]) -> Option<Table> {
    let mut table = Table::new("Failed requests", &["policy", "rate", "kind", "requests"]);
    for row in rows {
        for (kind, n) in &row.outcome.errors {
            let rate = row.asked();
            table.rows.push(vec![row.policy.clone(), rate, kind.clone(), n.to_string()]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// A figure of a simulation, and how to plot it.
type Figure = (&'static str, &'static str, Scale, fn(&Outcome) -> f64);

fn plots(rows: &[Row], recorded: Option<&Recorded>) -> Vec<Plot> {
    let figures: [Figure; 6] = [
        ("Prefix hit rate", "percent", Scale::Linear, |o| o.hit_rate * 100.0),
        ("Time to first token, p50", "milliseconds", Scale::Log, |o| o.ttft.p50_ms),
        ("Time to first token, p99", "milliseconds", Scale::Log, |o| o.ttft.p99_ms),
        ("Time between tokens, p99", "milliseconds", Scale::Log, |o| o.itl.p99_ms),
        ("Requests that meet the goal", "percent", Scale::Linear, |o| o.good_share * 100.0),
        (
            "Computed prompt tokens, busiest worker over mean",
            "times the mean",
            Scale::Linear,
            |o| o.computed_imbalance,
        ),
    ];
    let mut policies: Vec<&str> = Vec::new();
    for row in rows {
        if !policies.contains(&row.policy.as_str()) {
            policies.push(&row.policy);
        }
    }
    figures
        .into_iter()
        .map(|(title, unit, y_scale, figure)| Plot {
            title: title.into(),
            x_label: "rate factor".into(),
            y_label: unit.into(),
            x_scale: Scale::Linear,
            y_scale,
            series: policies
                .iter()
                .map(|&policy| Series {
                    name: policy.into(),
                    points: rows
                        .iter()
                        .filter(|r| r.policy == policy)
                        .map(|r| (r.rate, figure(&r.outcome)))
                        .collect(),
                })
                .chain(recorded.into_iter().filter_map(|recorded| {
                    let measured = figure(&recorded.outcome);
                    let points = vec![(1.0, measured)];
                    measured.is_finite().then(|| Series { name: "measured".into(), points })
                }))
                .collect(),
        })
        .collect()
}
