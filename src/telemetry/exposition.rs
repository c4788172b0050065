//! Small helpers to hand numbers we keep ourselves to the `prometheus` crate at scrape time.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::scheduling::Tally;

/// Every metric of the reference begins its help text with its stability.
const STABILITY: &str = "[ALPHA] ";

/// Name, help text and kind of one metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricType,
}

impl Info {
    pub(super) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::COUNTER }
    }

    pub(super) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::GAUGE }
    }

    pub(super) const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::HISTOGRAM }
    }

    /// The metric with its samples.
    pub(super) fn family(&self, samples: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(format!("{STABILITY}{}", self.help));
        family.set_field_type(self.kind);
        family.set_metric(samples);
        family
    }

    /// One sample of a counter or gauge.
    pub(super) fn sample(&self, labels: &[(&str, &str)], value: f64) -> Metric {
        let mut metric = Metric::from_label(pairs(labels));
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }

    fn desc(&self) -> prometheus::Result<Desc> {
        Desc::new(self.name.into(), self.help.into(), Vec::new(), Default::default())
    }
}

/// One sample of a histogram.
pub(super) fn histogram_sample(labels: &[(&str, &str)], tally: &Tally) -> Metric {
    histogram_of_counts(labels, tally.bounds, &tally.counts, tally.sum)
}

/// The same of counts by bucket, the last one above all bounds.
pub(super) fn histogram_of_counts(
    labels: &[(&str, &str)],
    bounds: &[f64],
    counts: &[u64],
    sum: f64,
) -> Metric {
    let mut below = 0;
    let buckets = bounds.iter().zip(counts).map(|(&bound, &count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_histogram(histogram);
    metric
}

/// The bounds of buckets as Go writes them: `1.048576e+06` from a million on. They are labels,
/// so a query for one finds nothing where it is spelled in another way.
pub(super) fn with_go_bounds(text: String) -> String {
    const BOUND: &str = "le=\"";
    let mut out = String::with_capacity(text.len() + text.len() / 64);
    let mut parts = text.split(BOUND);
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str(BOUND);
        let digits = part.find('"').map_or("", |end| &part[..end]);
        if digits.len() < 7 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            out.push_str(part);
            continue;
        }
        let (first, more) = digits.split_at(1);
        let more = more.trim_end_matches('0');
        let point = if more.is_empty() { "" } else { "." };
        out.push_str(&format!("{first}{point}{more}e+{:02}", digits.len() - 1));
        out.push_str(&part[digits.len()..]);
    }
    out
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    labels
        .iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect()
}

/// A collector whose numbers are worked out when they are asked for.
pub(super) struct LazyCollector<F> {
    descs: Vec<Desc>,
    collect: F,
}

impl<F: Fn() -> Vec<MetricFamily> + Send + Sync> LazyCollector<F> {
    /// `infos` are the metrics that `collect` may return.
    pub(super) fn new<'a>(
        infos: impl IntoIterator<Item = &'a Info>,
        collect: F,
    ) -> prometheus::Result<Self> {
        let descs = infos.into_iter().map(Info::desc).collect::<Result<_, _>>()?;
        Ok(Self { descs, collect })
    }
}

impl<F: Fn() -> Vec<MetricFamily> + Send + Sync> Collector for LazyCollector<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.collect)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_go_does() {
        let cases = [
            ("a_bucket{le=\"524288\"} 1048576\n", "a_bucket{le=\"524288\"} 1048576\n"),
            ("a_bucket{le=\"1048576\"} 1\n", "a_bucket{le=\"1.048576e+06\"} 1\n"),
            (
                "a_bucket{m=\"x\",le=\"1073741824\"} 1\n",
                "a_bucket{m=\"x\",le=\"1.073741824e+09\"} 1\n",
            ),
            ("a_bucket{le=\"2000000\"} 1\n", "a_bucket{le=\"2e+06\"} 1\n"),
            (
                "a_bucket{le=\"+Inf\"} 1\na_bucket{le=\"0.00205\"} 1\n",
                "a_bucket{le=\"+Inf\"} 1\na_bucket{le=\"0.00205\"} 1\n",
            ),
            ("a{m=\"le=\\\"1048576\\\"\"} 1\n", "a{m=\"le=\\\"1048576\\\"\"} 1\n"),
            ("le=\"", "le=\""),
        ];
        for (text, expected) in cases {
            assert_eq!(with_go_bounds(text.to_owned()), expected);
        }
    }
}
