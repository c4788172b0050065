//! Publishes what plugins count of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::core::Collector;
use prometheus::proto::{Metric, MetricFamily as Published};

use super::exposition::{Info, LazyCollector, histogram_of_counts};
use crate::scheduling::{MetricFamily, MetricKind, MetricSample, MetricValue, PluginMetrics};

/// Those who publish numbers of their own in the configuration in force.
#[derive(Debug)]
pub struct PublishingPlugins(ArcSwap<Vec<Arc<dyn PluginMetrics>>>);

impl PublishingPlugins {
    pub(super) fn new(plugins: Vec<Arc<dyn PluginMetrics>>) -> Self {
        Self(ArcSwap::from_pointee(plugins))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// From now on these publish.
    pub fn set(&self, plugins: Vec<Arc<dyn PluginMetrics>>) {
        self.0.store(Arc::new(plugins));
    }
}

/// A collector of what `plugins` publish. None of the families that they have now may be published
/// by others.
pub(super) fn collector(
    plugins: Arc<PublishingPlugins>,
) -> prometheus::Result<impl Collector + 'static> {
    let infos: Vec<Info> = merged(&plugins.0.load()).iter().map(info).collect();
    LazyCollector::new(&infos, move || merged(&plugins.0.load()).iter().map(publish).collect())
}

/// The families of all plugins, those of one name as one.
fn merged(plugins: &[Arc<dyn PluginMetrics>]) -> Vec<MetricFamily> {
    let mut by_name: BTreeMap<&str, MetricFamily> = BTreeMap::new();
    for family in plugins.iter().flat_map(|plugin| plugin.families()) {
        match by_name.get_mut(family.name) {
            Some(known) => family.samples.into_iter().for_each(|s| add(&mut known.samples, s)),
            None => drop(by_name.insert(family.name, family)),
        }
    }
    by_name.into_values().collect()
}

/// Adds a sample; one with the same labels, as older names have them, is summed up with it.
fn add(samples: &mut Vec<MetricSample>, more: MetricSample) {
    let Some(known) = samples.iter_mut().find(|known| known.labels == more.labels) else {
        samples.push(more);
        return;
    };
    match (&mut known.value, more.value) {
        (MetricValue::Number(number), MetricValue::Number(more)) => *number += more,
        (
            MetricValue::Histogram { bounds, counts, sum },
            MetricValue::Histogram { bounds: others, counts: more, sum: rest },
        ) if *bounds == others => {
            counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
            *sum += rest;
        }
        _ => {}
    }
}

fn info(family: &MetricFamily) -> Info {
    match family.kind {
        MetricKind::Counter => Info::counter(family.name, family.help),
        MetricKind::Gauge => Info::gauge(family.name, family.help),
        MetricKind::Histogram => Info::histogram(family.name, family.help),
    }
}

fn publish(family: &MetricFamily) -> Published {
    let info = info(family);
    let sample = |sample: &MetricSample| -> Metric {
        let mut labels: Vec<(&str, &str)> =
            sample.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        labels.sort_unstable();
        match &sample.value {
            MetricValue::Number(number) => info.sample(&labels, *number),
            MetricValue::Histogram { bounds, counts, sum } => {
                histogram_of_counts(&labels, bounds, counts, *sum)
            }
        }
    };
    info.family(family.samples.iter().map(sample).collect())
}
