use std::fmt::Debug;

/// Publishes numbers of a plugin's own beside everything else that is published. Asked whenever
/// somebody scrapes, so it should be quick; requests do not wait for it.
pub trait PluginMetrics: Debug + Send + Sync {
    /// Families of the same name of several plugins are published as one.
    fn families(&self) -> Vec<MetricFamily>;
}

/// A family of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    /// The whole name, such as `llm_d_epp_disagg_decision_total`.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricKind,
    pub samples: Vec<MetricSample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// A number, and what it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    /// Label values must be of a bounded number: none that a client chooses freely.
    pub labels: Vec<(&'static str, String)>,
    pub value: MetricValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// Of a counter or a gauge.
    Number(f64),
    Histogram {
        /// Upper bounds of the buckets, ascending, without the infinite one.
        bounds: Vec<f64>,
        /// Observations in each bucket, one more than bounds.
        counts: Vec<u64>,
        /// Of all observations.
        sum: f64,
    },
}
