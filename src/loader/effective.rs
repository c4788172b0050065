use serde::Serialize;
use serde_yaml::{Mapping, Number, Value as Yaml};

use super::data_layer::Collection;
use super::document::{API_VERSION, Document, KIND};
use super::instances::Instances;
use super::scheduling::ProfilePlan;
use crate::config::{Node, Value};
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
    saturation_detector: Reference,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RequestHandlerSection {
    parsers: Vec<Reference>,
}

/// What was decided, by the indices of plugins.
pub(super) struct Decisions<'a> {
    pub plans: &'a [ProfilePlan],
    pub collection: Option<Collection>,
    pub discovery: Option<usize>,
    pub detector: usize,
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
        let source = |c: Collection| Source {
            plugin_ref: instances.list[c.source].name.clone(),
            extractors: vec![reference(c.extractor)],
        };
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
                sources: decisions.collection.map(source).into_iter().collect(),
                discovery: decisions.discovery.map(reference),
            },
            flow_control: FlowControlSection { saturation_detector: reference(decisions.detector) },
            request_handler: RequestHandlerSection {
                parsers: decisions.parsers.iter().map(|i| reference(*i)).collect(),
            },
        }
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
