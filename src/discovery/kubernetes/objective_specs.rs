//! The objects that say something about models, as they stand in Kubernetes.

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An object that names a pool, as far as it could be read.
#[derive(Clone, Debug)]
pub(super) struct PoolObject<S> {
    pub(super) name: String,
    /// Seconds since the Unix epoch.
    pub(super) created: i64,
    /// The object is on its way out: it counts as gone.
    pub(super) terminating: bool,
    pub(super) spec: Result<S, String>,
}

/// A `spec` that names the pool it is for.
pub(super) trait NamesPool: DeserializeOwned {
    const KIND: &'static str;
    /// What goes on where objects of the kind cannot be read.
    const WITHOUT: &'static str;

    fn pool_ref(&self) -> &PoolRef;

    /// What is allowed and yet hardly meant.
    fn oddities(&self) -> Vec<String> {
        Vec::new()
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PoolRef {
    pub(super) group: Option<String>,
    pub(super) name: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectiveSpec {
    #[serde(default)]
    pub(super) priority: i32,
    pub(super) pool_ref: PoolRef,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RewriteSpec {
    pub(super) pool_ref: PoolRef,
    #[serde(default)]
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Rule {
    #[serde(default)]
    pub(super) matches: Vec<Match>,
    #[serde(default)]
    pub(super) targets: Vec<Target>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Match {
    pub(super) model: ModelMatch,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ModelMatch {
    #[serde(rename = "type", default)]
    pub(super) kind: ModelMatchType,
    pub(super) value: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) enum ModelMatchType {
    #[default]
    Exact,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Target {
    pub(super) model_rewrite: String,
    pub(super) weight: Option<u32>,
}

/// GIE v0.5's `InferenceModel`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModelSpec {
    pub(super) model_name: String,
    #[serde(default)]
    pub(super) criticality: Criticality,
    #[serde(default)]
    pub(super) target_models: Vec<TargetModel>,
    pub(super) pool_ref: PoolRef,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) enum Criticality {
    Critical,
    #[default]
    Standard,
    Sheddable,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct TargetModel {
    pub(super) name: String,
    pub(super) weight: Option<u32>,
}

impl NamesPool for ObjectiveSpec {
    const KIND: &'static str = "InferenceObjective";
    const WITHOUT: &'static str = "no priorities by name from there";

    fn pool_ref(&self) -> &PoolRef {
        &self.pool_ref
    }
}

impl NamesPool for RewriteSpec {
    const KIND: &'static str = "InferenceModelRewrite";
    const WITHOUT: &'static str = "models are asked for by the names that requests give";

    fn pool_ref(&self) -> &PoolRef {
        &self.pool_ref
    }

    fn oddities(&self) -> Vec<String> {
        let of_rule = |(i, rule): (usize, &Rule)| {
            never_drawn(rule.targets.iter().map(|t| (t.model_rewrite.as_str(), t.weight)))
                .map(|odd| format!("spec.rules[{i}].targets: {odd}"))
        };
        self.rules.iter().enumerate().filter_map(of_rule).collect()
    }
}

impl NamesPool for ModelSpec {
    const KIND: &'static str = "InferenceModel";
    const WITHOUT: &'static str = "no priorities by model";

    fn pool_ref(&self) -> &PoolRef {
        &self.pool_ref
    }

    fn oddities(&self) -> Vec<String> {
        never_drawn(self.target_models.iter().map(|t| (t.name.as_str(), t.weight)))
            .map(|odd| format!("spec.targetModels: {odd}"))
            .into_iter()
            .collect()
    }
}

impl<S: NamesPool> PoolObject<S> {
    pub(super) fn read(object: DynamicObject) -> Self {
        let created = object.creation_timestamp().map_or(0, |time| time.0.as_second());
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let spec = serde_json::from_value(spec).map_err(|error| format!("spec: {error}"));
        let terminating = object.metadata.deletion_timestamp.is_some();
        Self { name: object.name_any(), created, terminating, spec }
    }
}

/// Targets without a weight beside others that have one.
fn never_drawn<'a>(
    targets: impl Iterator<Item = (&'a str, Option<u32>)> + Clone,
) -> Option<String> {
    if !targets.clone().any(|(_, weight)| weight.unwrap_or(0) > 0) {
        return None;
    }
    let without: Vec<_> =
        targets.filter(|(_, weight)| weight.unwrap_or(0) == 0).map(|(name, _)| name).collect();
    (!without.is_empty()).then(|| {
        format!(
            "without a weight, beside others that have one, never drawn: {}",
            without.join(", ")
        )
    })
}
