use std::time::Duration;

use serde::Serialize;
use serde_yaml::{Mapping, Number, Value as Yaml};

use super::data_layer::{Collection, PagePlan};
use super::document::{API_VERSION, Document, KIND};
use super::instances::Instances;
use super::queueing::{BandPlugins, QueueingPlan};
use super::scheduling::ProfilePlan;
use crate::config::{Node, Value};
use crate::flow_control::BandConfig;
use crate::scheduling::Scorer;

/// The configuration after defaulting, as a document that means the same: every plugin that has
/// an effect, in the spelling of today, with every default written out. Parameters stand as
/// they were given.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    api_version: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    feature_gates: Vec<String>,
    plugins: Vec<Plugin>,
    scheduling_profiles: Vec<ProfileSection>,
    data_layer: DataLayerSection,
    flow_control: FlowControlSection,
    request_handler: RequestHandlerSection,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Plugin {
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Yaml>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ProfileSection {
    name: String,
    plugins: Vec<ProfileReference>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProfileReference {
    plugin_ref: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<Yaml>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    plugin_ref: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct DataLayerSection {
    /// Written where it is false: nothing is scraped.
    #[serde(skip_serializing_if = "Option::is_none")]
    inject_defaults: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<Reference>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    plugin_ref: String,
    extractors: Vec<Reference>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct FlowControlSection {
    #[serde(flatten)]
    queueing: Option<QueueingSection>,
    saturation_detector: Reference,
}

/// Written where the feature gate is on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct QueueingSection {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_requests: Option<u64>,
    #[serde(rename = "defaultRequestTTL")]
    default_request_ttl: String,
    #[serde(rename = "noEndpointRequestTTL")]
    no_endpoint_request_ttl: String,
    default_priority_band: BandSection,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_negative_priority_band: Option<BandSection>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    priority_bands: Vec<BandSection>,
    usage_limit_policy_plugin_ref: String,
    enable_eviction: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BandSection {
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    max_bytes: u64,
    max_requests: u64,
    #[serde(rename = "defaultRequestTTL", skip_serializing_if = "Option::is_none")]
    default_request_ttl: Option<String>,
    fairness_policy_ref: String,
    ordering_policy_ref: String,
}

impl QueueingSection {
    fn new(plan: &QueueingPlan, instances: &Instances<'_>) -> Self {
        let name = |i: usize| instances.list[i].name.clone();
        let band =
            |priority: Option<i32>, config: &BandConfig, plugins: &BandPlugins| BandSection {
                priority,
                max_bytes: config.max_bytes,
                max_requests: config.max_requests,
                default_request_ttl: config.ttl.map(|ttl| go_duration(Some(ttl))),
                fairness_policy_ref: name(plugins.fairness),
                ordering_policy_ref: name(plugins.ordering),
            };
        let config = &plan.config;
        let negative =
            config.default_negative_band.as_ref().zip(plan.default_negative_band.as_ref());
        Self {
            max_bytes: config.max_bytes,
            max_requests: config.max_requests,
            default_request_ttl: go_duration(config.default_ttl),
            no_endpoint_request_ttl: go_duration(config.no_endpoint_ttl),
            default_priority_band: band(None, &config.default_band, &plan.default_band),
            default_negative_priority_band: negative.map(|(config, p)| band(None, config, p)),
            priority_bands: (config.bands.iter().zip(&plan.bands))
                .map(|((priority, config), plugins)| band(Some(*priority), config, plugins))
                .collect(),
            usage_limit_policy_plugin_ref: name(plan.usage_limit),
            enable_eviction: plan.eviction,
        }
    }
}

/// As Go writes durations, with `0s` for "without limit".
fn go_duration(duration: Option<Duration>) -> String {
    format!("{}s", duration.unwrap_or_default().as_secs_f64())
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RequestHandlerSection {
    parsers: Vec<Reference>,
}

/// What was decided, by the indices of plugins.
pub(super) struct Decisions<'a> {
    pub plans: &'a [ProfilePlan],
    pub collection: Option<Collection>,
    pub pages: &'a [PagePlan],
    pub discovery: Option<usize>,
    pub detector: usize,
    pub queueing: Option<&'a QueueingPlan>,
    pub parsers: &'a [usize],
}

impl Effective {
    pub(super) fn new(
        document: &Document<'_>,
        instances: &Instances<'_>,
        decisions: &Decisions<'_>,
    ) -> Self {
        let reference = |i: usize| Reference { plugin_ref: instances.list[i].name.clone() };
        let profile = |plan: &ProfilePlan| ProfileSection {
            name: plan.name.clone(),
            plugins: plan
                .plugins
                .iter()
                .map(|&(i, weight)| (&instances.list[i], weight))
                .filter(|(instance, _)| instance.is_for_profiles())
                .map(|(instance, weight)| ProfileReference {
                    plugin_ref: instance.name.clone(),
                    weight: instance
                        .capabilities
                        .has::<dyn Scorer>()
                        .then(|| number(weight.unwrap_or(1.0))),
                })
                .collect(),
        };
        let collected = decisions.collection.map(|c| (c.source, c.extractor));
        let pages = decisions.pages.iter().map(|page| (page.source, page.extractor));
        let mut sources: Vec<Source> = Vec::new();
        for (source, extractor) in collected.into_iter().chain(pages) {
            let plugin_ref = instances.list[source].name.clone();
            match sources.iter_mut().find(|known| known.plugin_ref == plugin_ref) {
                Some(known) => known.extractors.push(reference(extractor)),
                None => sources.push(Source { plugin_ref, extractors: vec![reference(extractor)] }),
            }
        }
        Self {
            api_version: API_VERSION,
            kind: KIND,
            feature_gates: document.gates.iter().map(|(g, on)| format!("{g}={on}")).collect(),
            plugins: instances
                .list
                .iter()
                .filter(|i| i.used)
                .map(|i| Plugin {
                    r#type: i.plugin_type.to_owned(),
                    name: (i.name != i.plugin_type).then(|| i.name.clone()),
                    parameters: i.parameters.as_ref().map(to_yaml),
                })
                .collect(),
            scheduling_profiles: decisions.plans.iter().map(profile).collect(),
            data_layer: DataLayerSection {
                inject_defaults: decisions.collection.is_none().then_some(false),
                sources,
                discovery: decisions.discovery.map(reference),
            },
            flow_control: FlowControlSection {
                queueing: decisions.queueing.map(|plan| QueueingSection::new(plan, instances)),
                saturation_detector: reference(decisions.detector),
            },
            request_handler: RequestHandlerSection {
                parsers: decisions.parsers.iter().map(|i| reference(*i)).collect(),
            },
        }
    }

    /// The profiles that differ in `other`, and the sections beside plugins and profiles.
    pub(super) fn differences(&self, other: &Self) -> (Vec<String>, Vec<&'static str>) {
        let find = |all: &[ProfileSection], name: &str| {
            all.iter().find(|profile| profile.name == name).cloned()
        };
        let (ours, theirs) = (&self.scheduling_profiles, &other.scheduling_profiles);
        let mut names: Vec<&String> = ours.iter().chain(theirs).map(|p| &p.name).collect();
        names.sort_unstable();
        names.dedup();
        let differs = |name: &&String| find(ours, name) != find(theirs, name);
        let profiles = names.into_iter().filter(differs).cloned().collect();
        let sections = [
            ("featureGates", self.feature_gates == other.feature_gates),
            ("dataLayer", self.data_layer == other.data_layer),
            ("flowControl", self.flow_control == other.flow_control),
            ("requestHandler", self.request_handler == other.request_handler),
        ];
        let sections = sections.into_iter().filter(|(_, same)| !same).map(|(name, _)| name);
        (profiles, sections.collect())
    }

    /// The document.
    ///
    /// # Errors
    ///
    /// `serde_yaml` cannot write a value; none that was read is of that kind.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }
}

/// A number as people write it: `2`, not `2.0`.
fn number(value: f64) -> Yaml {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        Yaml::Number(Number::from(value as i64))
    } else {
        Yaml::Number(Number::from(value))
    }
}

fn to_yaml(node: &Node) -> Yaml {
    match &node.value {
        Value::Null => Yaml::Null,
        Value::Bool(b) => Yaml::Bool(*b),
        Value::Int(i) => Yaml::Number(Number::from(*i)),
        Value::Float(f) => Yaml::Number(Number::from(*f)),
        Value::Str(text) => Yaml::String(text.clone()),
        Value::Seq(items) => Yaml::Sequence(items.iter().map(to_yaml).collect()),
        Value::Map(entries) => Yaml::Mapping(
            entries
                .iter()
                .map(|(key, value)| (Yaml::String(key.name.clone()), to_yaml(value)))
                .collect::<Mapping>(),
        ),
    }
}
