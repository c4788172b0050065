//! What all turns come to: a row for each contender.

use serde::Serialize;

use super::turn::Figures;
use crate::bench::report::{
    Plot, Report, Scale, Series, Table, bytes, count, factor, median, micros, millis, optional,
    percent,
};

/// All turns, in the order of the contenders.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub trace: String,
    pub model: String,
    pub endpoints: Vec<String>,
    pub contenders: Vec<Turns>,
}

/// The turns of one contender.
#[derive(Debug, Serialize)]
pub(super) struct Turns {
    pub name: String,
    pub turns: Vec<Figures>,
}

impl Turns {
    fn values(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Vec<f64> {
        let mut values: Vec<f64> =
            self.turns.iter().filter_map(figure).filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median over the turns; of two the mean.
    fn median(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        median(&mut self.values(figure))
    }

    /// The median, and from where to where the turns went if there were several.
    fn show(
        &self,
        figure: impl Fn(&Figures) -> Option<f64> + Copy,
        text: impl Fn(f64) -> String,
    ) -> String {
        let values = self.values(figure);
        match (values.first(), values.last()) {
            (Some(&low), Some(&high)) if self.turns.len() > 1 => {
                let median = self.median(figure).unwrap_or(low);
                format!("{} ({}..{})", text(median), text(low), text(high))
            }
            _ => optional(values.first().copied(), text),
        }
    }

    fn sum(&self, figure: impl Fn(&Figures) -> u64) -> u64 {
        self.turns.iter().map(figure).sum()
    }
}

impl Comparison {
    pub(super) fn answered(&self) -> u64 {
        self.contenders.iter().map(|c| c.sum(|f| f.answered)).sum()
    }

    fn verdict(&self) -> String {
        if self.answered() == 0 {
            return "No request was answered.".to_owned();
        }
        let p90 = |c: &Turns| c.median(|f| Some(f.ttft.p90_ms)).unwrap_or(f64::INFINITY);
        let answered: Vec<&Turns> =
            self.contenders.iter().filter(|c| c.sum(|f| f.answered) > 0).collect();
        let by_p90 = |a: &&&Turns, b: &&&Turns| p90(a).total_cmp(&p90(b));
        let (Some(best), Some(worst)) =
            (answered.iter().min_by(by_p90), answered.iter().max_by(by_p90))
        else {
            return "No request was answered.".to_owned();
        };
        let first = format!(
            "Nine in ten clients of {} had the first token within {} ms, with {} of prompt tokens \
             cached",
            best.name,
            millis(p90(best)),
            percent(best.median(|f| Some(f.hit_rate)).unwrap_or(0.0)),
        );
        let failed: u64 = self.contenders.iter().map(|c| c.sum(|f| f.failed)).sum();
        let other = match best.name == worst.name {
            true => String::new(),
            false => format!("; {} needed {} ms", worst.name, millis(p90(worst))),
        };
        format!("{first}{other}. {} requests failed.", count(failed as f64))
    }

    pub(super) fn report(&self) -> Report {
        let json = serde_json::to_value(self).unwrap_or_default();
        let mut report =
            Report::new(format!("Clients of Envoy, {}", self.trace), self.verdict(), json);
        report.facts.push(("model".into(), self.model.clone()));
        report.facts.push(("endpoints".into(), self.endpoints.join(", ")));
        report.tables = vec![self.waiting(), self.serving(), self.costs()];
        report.tables.extend(self.in_faults());
        report.tables.extend(self.errors());
        report.tables.extend(self.counted());
        report.plots = vec![
            self.plot("Time to the first token", |f| &f.ttft),
            self.plot("Time between tokens (mean of each answer)", |f| &f.itl),
            self.plot("Time to the whole answer", |f| &f.e2e),
        ];
        report
    }

    fn table(&self, title: &str, columns: &[&str], row: impl Fn(&Turns) -> Vec<String>) -> Table {
        let mut table = Table::new(title, columns);
        table.rows.extend(self.contenders.iter().map(|contender| {
            std::iter::once(contender.name.clone()).chain(row(contender)).collect()
        }));
        table
    }

    fn waiting(&self) -> Table {
        let columns = [
            "what clients waited for, ms",
            "TTFT p50",
            "p90",
            "p99",
            "ITL p50",
            "p99",
            "whole p50",
            "p90",
        ];
        self.table("Waiting", &columns, |c| {
            vec![
                c.show(|f| Some(f.ttft.p50_ms), millis),
                c.show(|f| Some(f.ttft.p90_ms), millis),
                c.show(|f| Some(f.ttft.p99_ms), millis),
                c.show(|f| Some(f.itl.p50_ms), millis),
                c.show(|f| Some(f.itl.p99_ms), millis),
                c.show(|f| Some(f.e2e.p50_ms), millis),
                c.show(|f| Some(f.e2e.p90_ms), millis),
            ]
        })
    }

    fn serving(&self) -> Table {
        let columns = [
            "what was served",
            "answered",
            "failed",
            "good",
            "tokens/s",
            "prefix hits",
            "largest share / mean",
        ];
        self.table("Serving", &columns, |c| {
            vec![
                count(c.sum(|f| f.answered) as f64),
                count(c.sum(|f| f.failed) as f64),
                c.show(|f| Some(f.good_share), percent),
                c.show(|f| Some(f.output_tokens_per_second), count),
                c.show(|f| Some(f.hit_rate), percent),
                c.show(|f| Some(f.largest_to_mean), factor),
            ]
        })
    }

    fn costs(&self) -> Table {
        let columns =
            ["what it cost", "picker CPU us/request", "Envoy CPU us/request", "picker memory"];
        self.table("Cost of choosing", &columns, |c| {
            vec![
                c.show(|f| f.picker_cpu_us_per_request, micros),
                c.show(|f| f.envoy_cpu_us_per_request, micros),
                optional(c.median(|f| f.picker_bytes.map(|n| n as f64)), |n| bytes(n as u64)),
            ]
        })
    }

    /// What the engines counted themselves, where they do.
    fn counted(&self) -> Option<Table> {
        let columns =
            ["what engines counted", "prompt tokens", "answer tokens", "cache hits", "preemptions"];
        self.contenders.iter().any(|c| c.turns.iter().any(|f| f.engines.is_some())).then(|| {
            self.table("Engines", &columns, |c| {
                let show = |figure: fn(&super::engines::Counters) -> f64| {
                    optional(c.median(|f| f.engines.as_ref().map(figure)), count)
                };
                vec![
                    show(|e| e.prompt_tokens),
                    show(|e| e.generation_tokens),
                    optional(
                        c.median(|f| {
                            let e = f.engines?;
                            Some(e.prefix_cache_hits / e.prefix_cache_queries.max(1.0))
                        }),
                        percent,
                    ),
                    show(|e| e.preemptions),
                ]
            })
        })
    }

    /// What became of requests in the time of faults.
    fn in_faults(&self) -> Option<Table> {
        let columns =
            ["asked while a fault had been in force for a second", "asked", "failed", "share"];
        self.contenders.iter().any(|c| c.sum(|f| f.asked_in_fault) > 0).then(|| {
            self.table("Faults", &columns, |c| {
                let (asked, failed) = (c.sum(|f| f.asked_in_fault), c.sum(|f| f.failed_in_fault));
                let share = failed as f64 / asked.max(1) as f64;
                vec![count(asked as f64), count(failed as f64), format!("{:.2} %", share * 100.0)]
            })
        })
    }

    fn errors(&self) -> Option<Table> {
        let mut table = Table::new("Failed requests", &["who", "kind", "requests"]);
        for contender in &self.contenders {
            let mut kinds: std::collections::BTreeMap<&str, u64> = Default::default();
            for (kind, n) in contender.turns.iter().flat_map(|f| &f.errors) {
                *kinds.entry(kind).or_default() += n;
            }
            table.rows.extend(
                kinds.iter().map(|(kind, n)| {
                    vec![contender.name.clone(), (*kind).to_owned(), n.to_string()]
                }),
            );
        }
        (!table.rows.is_empty()).then_some(table)
    }

    fn plot(&self, title: &str, of: fn(&Figures) -> &super::Percentiles) -> Plot {
        let series = |c: &Turns| {
            let point = |share: f64, ms: fn(&super::Percentiles) -> f64| {
                Some((share, c.median(|f| Some(ms(of(f))))?))
            };
            let points =
                [point(50.0, |p| p.p50_ms), point(90.0, |p| p.p90_ms), point(99.0, |p| p.p99_ms)];
            Series { name: c.name.clone(), points: points.into_iter().flatten().collect() }
        };
        Plot {
            title: title.into(),
            x_label: "percent of the requests that waited no longer".into(),
            y_label: "milliseconds".into(),
            x_scale: Scale::Linear,
            y_scale: Scale::Log,
            series: self.contenders.iter().map(series).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(name: &str, p90: &[f64]) -> Turns {
        let turn = |&p90_ms: &f64| Figures {
            answered: 10,
            ttft: super::super::Percentiles { p90_ms, ..Default::default() },
            ..Figures::default()
        };
        Turns { name: name.into(), turns: p90.iter().map(turn).collect() }
    }

    #[test]
    fn several_turns_are_shown_by_their_median_and_spread() {
        let show = |values: &[f64]| turns("a", values).show(|f| Some(f.ttft.p90_ms), millis);
        assert_eq!(show(&[30.0]), "30.0");
        assert_eq!(show(&[50.0, 10.0, 30.0]), "30.0 (10.0..50.0)");
        assert_eq!(turns("a", &[10.0, 30.0]).median(|f| Some(f.ttft.p90_ms)), Some(20.0));
        assert_eq!(turns("a", &[]).median(|f| Some(f.ttft.p90_ms)), None);
    }

    #[test]
    fn the_verdict_names_best_and_worst() {
        let comparison = |contenders| Comparison {
            trace: "t".into(),
            model: "m".into(),
            endpoints: Vec::new(),
            contenders,
        };
        let text = comparison(vec![turns("slow", &[90.0]), turns("fast", &[10.0])]).verdict();
        assert!(text.contains("fast") && text.contains("slow needed 90"), "{text}");
        let text = comparison(vec![turns("one", &[10.0])]).verdict();
        assert!(!text.contains("needed"), "{text}");
        assert!(comparison(vec![turns("none", &[])]).verdict().contains("No request"));
    }
}
