//! Small helpers to hand numbers we keep ourselves to the `prometheus` crate at scrape time.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::histogram::Tally;

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
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::COUNTER }
    }

    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::GAUGE }
    }

    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::HISTOGRAM }
    }

    /// The metric with its samples.
    pub fn family(&self, samples: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(format!("{STABILITY}{}", self.help));
        family.set_field_type(self.kind);
        family.set_metric(samples);
        family
    }

    /// One sample of a counter or gauge.
    pub fn sample(&self, labels: &[(&str, &str)], value: f64) -> Metric {
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
    let mut below = 0;
    let buckets = tally.bounds.iter().zip(&tally.counts).map(|(&bound, &count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(tally.total());
    histogram.set_sample_sum(tally.sum);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_histogram(histogram);
    metric
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
pub(super) struct AtScrape<F> {
    descs: Vec<Desc>,
    collect: F,
}

impl<F: Fn() -> Vec<MetricFamily> + Send + Sync> AtScrape<F> {
    /// `infos` are the metrics that `collect` may return.
    pub fn new<'a>(
        infos: impl IntoIterator<Item = &'a Info>,
        collect: F,
    ) -> prometheus::Result<Self> {
        let descs = infos.into_iter().map(Info::desc).collect::<Result<_, _>>()?;
        Ok(Self { descs, collect })
    }
}

impl<F: Fn() -> Vec<MetricFamily> + Send + Sync> Collector for AtScrape<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.collect)()
    }
}
