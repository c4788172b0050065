use std::sync::Arc;
use std::time::Duration;

use super::flow_control::{BandSection, FlowControlSection};
use super::instances::Instances;
use super::reference::Reference;
use crate::flow_control::{
    BandConfig, FairnessPolicy, FlowControlConfig, OrderingPolicy, UsageLimit,
};

/// Policies that are there, under the names of their types, where none is named (llm-d-router
/// main at ebab6879).
const DEFAULT_FAIRNESS: &str = "global-strict-fairness-policy";
const DEFAULT_ORDERING: &str = "fcfs-ordering-policy";
const DEFAULT_USAGE_LIMIT: &str = "static-usage-limit-policy";

/// What the queue is made from, and the plugins that it uses.
#[derive(Debug)]
pub(super) struct QueueingPlan {
    pub config: FlowControlConfig,
    /// By the priorities of [`FlowControlConfig::bands`].
    pub bands: Vec<BandPlugins>,
    pub default_band: BandPlugins,
    pub default_negative_band: Option<BandPlugins>,
    pub usage_limit: usize,
    /// End running requests for the sake of others.
    pub eviction: bool,
}

/// The plugins of one band, by index.
#[derive(Clone, Copy, Debug)]
pub(super) struct BandPlugins {
    pub fairness: usize,
    pub ordering: usize,
}

/// Finds the policies that the section names, and fills in what it leaves out.
pub(super) fn plan(
    section: &FlowControlSection,
    instances: &mut Instances<'_>,
) -> Option<QueueingPlan> {
    let defaults = FlowControlConfig::default();
    let usage_limit = policy::<dyn UsageLimit>(
        &section.usage_limit,
        DEFAULT_USAGE_LIMIT,
        "usage limit policy",
        instances,
    );
    let given: Vec<_> = section
        .bands
        .iter()
        .map(|(priority, band)| (*priority, plan_band(band, instances)))
        .collect();
    let default_band = match &section.default_band {
        Some(band) => plan_band(band, instances),
        None => plan_band(&BandSection::default(), instances),
    };
    let negative = section.default_negative_band.as_ref();
    let negative = negative.map(|band| plan_band(band, instances));

    let (usage_limit, usage_policy) = usage_limit?;
    let mut bands = Vec::new();
    let mut band_plugins = Vec::new();
    for (priority, band) in given {
        let (plugins, config) = band?;
        bands.push((priority, config));
        band_plugins.push(plugins);
    }
    let (default_plugins, default_band) = default_band?;
    let (negative_plugins, default_negative_band) = match negative {
        Some(negative) => negative.map(|(plugins, config)| (Some(plugins), Some(config)))?,
        None => (None, None),
    };
    let default_ttl = section.default_ttl.or(defaults.default_ttl);
    Some(QueueingPlan {
        config: FlowControlConfig {
            max_bytes: section.max_bytes,
            max_requests: section.max_requests,
            default_ttl: positive(default_ttl),
            no_endpoint_ttl: positive(section.no_endpoint_ttl.or(default_ttl)),
            bands,
            default_band,
            default_negative_band,
            usage_limit: usage_policy,
            eviction: None,
            observer: None,
        },
        bands: band_plugins,
        default_band: default_plugins,
        default_negative_band: negative_plugins,
        usage_limit,
        eviction: section.eviction,
    })
}

impl QueueingPlan {
    /// Takes the policies from the plugins as they are now: some may go on from a configuration
    /// before.
    pub(super) fn take_policies(&mut self, instances: &Instances<'_>) {
        let take = |config: &mut BandConfig, plugins: BandPlugins| {
            let fairness = &instances.list[plugins.fairness].capabilities;
            let ordering = &instances.list[plugins.ordering].capabilities;
            if let (Some(fairness), Some(ordering)) =
                (fairness.get::<dyn FairnessPolicy>(), ordering.get::<dyn OrderingPolicy>())
            {
                config.fairness = fairness.clone();
                config.ordering = ordering.clone();
            }
        };
        let config = &mut self.config;
        for ((_, band), plugins) in config.bands.iter_mut().zip(&self.bands) {
            take(band, *plugins);
        }
        take(&mut config.default_band, self.default_band);
        if let (Some(band), Some(plugins)) =
            (&mut config.default_negative_band, self.default_negative_band)
        {
            take(band, plugins);
        }
        if let Some(limit) = instances.list[self.usage_limit].capabilities.get::<dyn UsageLimit>() {
            config.usage_limit = limit.clone();
        }
    }
}

/// Zero stands for "without limit".
fn positive(ttl: Option<Duration>) -> Option<Duration> {
    ttl.filter(|ttl| !ttl.is_zero())
}

fn plan_band(
    section: &BandSection,
    instances: &mut Instances<'_>,
) -> Option<(BandPlugins, BandConfig)> {
    let fairness = policy::<dyn FairnessPolicy>(
        &section.fairness,
        DEFAULT_FAIRNESS,
        "fairness policy",
        instances,
    );
    let ordering = policy::<dyn OrderingPolicy>(
        &section.ordering,
        DEFAULT_ORDERING,
        "ordering policy",
        instances,
    );
    let ((fairness, fairness_policy), (ordering, ordering_policy)) = (fairness?, ordering?);
    let defaults = BandConfig::default();
    let config = BandConfig {
        max_bytes: section.max_bytes.unwrap_or(defaults.max_bytes),
        max_requests: section.max_requests.unwrap_or(defaults.max_requests),
        ttl: section.ttl,
        fairness: fairness_policy,
        ordering: ordering_policy,
    };
    Some((BandPlugins { fairness, ordering }, config))
}

/// The policy that `reference` names, else the one of type `default`, made where it is missing.
fn policy<P: ?Sized + Send + Sync + 'static>(
    reference: &Option<Reference>,
    default: &str,
    role: &str,
    instances: &mut Instances<'_>,
) -> Option<(usize, Arc<P>)> {
    match reference {
        Some(reference) if reference.name != default => instances.resolve_part(reference, role),
        // One of that name may be configured, and be of another type.
        Some(reference) if instances.find(default).is_some() || instances.is_broken(default) => {
            instances.resolve_part(reference, role)
        }
        _ => {
            let index = instances.default_of(default)?;
            instances.list[index].used = true;
            instances.list[index].capabilities.get::<P>().map(|p| (index, p.clone()))
        }
    }
}
