//! Who got how much where there was not enough for all, as tables and plots.

use super::shares::Share;
use super::summary::Row;
use crate::bench::report::{Plot, Scale, Series, Table, count, millis, optional, percent};

/// So many tenants have lines of their own, those who asked most.
const TENANTS: usize = 12;

/// Tables, where the workload tells tenants or priorities apart.
pub(super) fn tables(rows: &[Row]) -> Vec<Table> {
    let mut tables = Vec::new();
    if rows.iter().any(|row| row.outcome.bands.len() > 1) {
        tables.push(band_table(rows));
    }
    if rows.iter().any(|row| !row.outcome.tenants.is_empty()) {
        tables.push(tenant_table(rows));
    }
    tables
}

fn good_share(share: &Share) -> f64 {
    share.good as f64 / share.asked.max(1) as f64
}

/// `evicted 3, rejected-ttl-expired 12`.
fn failures(share: &Share) -> String {
    let each: Vec<String> = share.failed.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    each.join(", ")
}

fn band_table(rows: &[Row]) -> Table {
    let columns = [
        "policy",
        "rate",
        "priority",
        "asked",
        "good",
        "good/s",
        "fairness",
        "TTFT p50 ms",
        "p90",
        "p99",
        "failed",
    ];
    let title = "By priority; fairness: Jain's index of what tenants got of their max-min fair \
                 share of the good answers, 1 is fair; TTFT: from when the request came";
    let mut table = Table::new(title, &columns);
    for row in rows {
        for band in &row.outcome.bands {
            let ttft = |q: fn(&crate::bench::latency::Percentiles) -> f64| {
                optional(band.ttft.as_ref().filter(|t| t.count > 0).map(q), millis)
            };
            table.rows.push(vec![
                row.policy.clone(),
                row.asked(),
                band.of.clone(),
                count(band.asked as f64),
                percent(good_share(band)),
                format!("{:.2}", band.good_per_second),
                optional(band.fairness, |index| format!("{index:.3}")),
                ttft(|t| t.p50_ms),
                ttft(|t| t.p90_ms),
                ttft(|t| t.p99_ms),
                failures(band),
            ]);
        }
    }
    table
}

fn tenant_table(rows: &[Row]) -> Table {
    let columns = ["policy", "rate", "tenant", "asked", "good", "good/s", "failed"];
    let mut table = Table::new(format!("By tenant, the {TENANTS} that ask most"), &columns);
    for row in rows {
        for tenant in row.outcome.tenants.iter().take(TENANTS) {
            table.rows.push(vec![
                row.policy.clone(),
                row.asked(),
                tenant.of.clone(),
                count(tenant.asked as f64),
                percent(good_share(tenant)),
                format!("{:.2}", tenant.good_per_second),
                failures(tenant),
            ]);
        }
    }
    table
}

/// Plots, where the workload tells tenants or priorities apart.
pub(super) fn plots(rows: &[Row]) -> Vec<Plot> {
    let mut policies: Vec<&str> = Vec::new();
    for row in rows {
        if !policies.contains(&row.policy.as_str()) {
            policies.push(&row.policy);
        }
    }
    let of_policy =
        |policy: &str| -> Vec<&Row> { rows.iter().filter(|row| row.policy == policy).collect() };
    let x = |row: &Row| row.load.unwrap_or(row.rate);
    let x_label = match rows.iter().any(|row| row.load.is_some()) {
        true => "load, in multiples of what the workers can serve",
        false => "rate factor",
    };
    let plot = |title: &str, x_label: &str, y_label: &str, y_scale, series| Plot {
        title: title.into(),
        x_label: x_label.into(),
        y_label: y_label.into(),
        x_scale: Scale::Linear,
        y_scale,
        series,
    };
    let mut plots = Vec::new();
    if rows.iter().any(|row| !row.outcome.tenants.is_empty()) {
        let highest = rows.iter().map(|row| row.rate).fold(0.0, f64::max);
        let goodput = |policy: &&str| Series {
            name: (*policy).to_owned(),
            points: of_policy(policy)
                .iter()
                .filter(|row| row.rate == highest)
                .flat_map(|row| row.outcome.tenants.iter().zip(1u32..))
                .map(|(tenant, n)| (f64::from(n), tenant.good_per_second))
                .collect(),
        };
        let series = policies.iter().map(goodput).collect();
        let title = "Good answers by tenant, at the highest rate";
        let tenants = "tenant, by how much they ask";
        plots.push(plot(title, tenants, "requests per second", Scale::Linear, series));
    }
    let bands = rows.first().map_or(&[][..], |row| &row.outcome.bands);
    if bands.len() > 1 {
        for (i, band) in bands.iter().enumerate() {
            let ttft = |policy: &&str| Series {
                name: (*policy).to_owned(),
                points: of_policy(policy)
                    .iter()
                    .filter_map(|row| Some((x(row), row.outcome.bands.get(i)?.ttft?.p99_ms)))
                    .collect(),
            };
            let fairness = |policy: &&str| Series {
                name: (*policy).to_owned(),
                points: of_policy(policy)
                    .iter()
                    .filter_map(|row| Some((x(row), row.outcome.bands.get(i)?.fairness?)))
                    .collect(),
            };
            if rows.iter().any(|row| row.outcome.bands.get(i).is_some_and(|b| b.fairness.is_some()))
            {
                let title = format!("Fairness between tenants, priority {}", band.of);
                let series = policies.iter().map(fairness).collect();
                plots.push(plot(&title, x_label, "Jain's index", Scale::Linear, series));
            }
            let title = format!("Time to first token of priority {}, p99", band.of);
            let series = policies.iter().map(ttft).collect();
            plots.push(plot(&title, x_label, "milliseconds", Scale::Log, series));
        }
    }
    plots
}
