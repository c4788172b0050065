//! Objectives and model rewrites, from the objects that name the pool.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube::api::{ApiResource, GroupVersionKind};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::kind::{self, Availability, Cluster, Listing, Selection};
use super::objective_specs::{
    Criticality, Match, ModelMatch, ModelMatchType, ModelSpec, NamesPool, ObjectiveSpec,
    PoolObject, RewriteSpec, Rule,
};
use super::pool::PoolState;
use super::pool_spec::PoolGroup;
use super::warn_once::WarnOnce;
use crate::objectives::{
    ModelPriorities, ModelRewrite, Objectives, RewriteRule, RewriteTarget, criticality,
};

const CURRENT_GROUP: &str = "llm-d.ai";
const OLDER_GROUP: &str = "inference.networking.x-k8s.io";

/// The objects of one kind in both groups.
struct Kind<S> {
    current: Option<watch::Receiver<Listing<PoolObject<S>>>>,
    older: watch::Receiver<Listing<PoolObject<S>>>,
}

impl<S: NamesPool + Clone + Send + Sync + 'static> Kind<S> {
    fn follow(cluster: &Cluster, both: bool, tasks: &mut Vec<AbortOnDropHandle<()>>) -> Self {
        let mut follow = |group| {
            let gvk = GroupVersionKind::gvk(group, "v1alpha2", S::KIND);
            let without = Some(S::WITHOUT);
            let selection = Selection { without, ..Selection::all(ApiResource::from_gvk(&gvk)) };
            let (known, task) = kind::follow(cluster, selection, PoolObject::read);
            tasks.push(task);
            known
        };
        Self { current: both.then(|| follow(CURRENT_GROUP)), older: follow(OLDER_GROUP) }
    }

    async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        match &mut self.current {
            Some(current) => tokio::select! {
                more = current.changed() => more,
                more = self.older.changed() => more,
            },
            None => self.older.changed().await,
        }
    }

    /// The objects for the pool; `None` where the cluster has no such kind. Where both groups
    /// have the kind only the current one counts, as in the reference.
    fn look(&mut self, at: &PoolAt<'_>, odd: &mut BTreeSet<String>) -> Option<Vec<Named<S>>> {
        let current = self.current.as_mut().map(watch::Receiver::borrow_and_update);
        let older = self.older.borrow_and_update();
        let (group, known, shadowed) = match current {
            Some(current) if current.availability == Availability::Listed => {
                (CURRENT_GROUP, current, &*older)
            }
            _ if older.availability == Availability::Listed => {
                return Some(at.select(OLDER_GROUP, older.objects.values(), odd));
            }
            _ => return None,
        };
        for object in shadowed.objects.values() {
            if object.spec.as_ref().is_ok_and(|spec| spec.pool_ref().name == at.name) {
                odd.insert(format!(
                    "{} {}/{} ({OLDER_GROUP}) does not count: {CURRENT_GROUP} has the kind too",
                    S::KIND,
                    at.namespace,
                    object.name,
                ));
            }
        }
        Some(at.select(group, known.objects.values(), odd))
    }
}

/// The `spec` of an object for our pool.
struct Named<S> {
    name: String,
    created: i64,
    spec: S,
}

/// The pool whose objects are wanted.
struct PoolAt<'a> {
    namespace: &'a str,
    name: &'a str,
    group: PoolGroup,
}

impl PoolAt<'_> {
    /// The objects that name this pool. Those for other pools are none of our business; those
    /// that nearly name ours, or cannot be read, are said to be odd.
    fn select<'o, S: NamesPool + Clone + 'o>(
        &self,
        group: &str,
        objects: impl Iterator<Item = &'o PoolObject<S>>,
        odd: &mut BTreeSet<String>,
    ) -> Vec<Named<S>> {
        let mut selected = Vec::new();
        for PoolObject { name, created, spec, .. } in objects.filter(|o| !o.terminating) {
            let what = || format!("{} {}/{name} ({group})", S::KIND, self.namespace);
            match spec {
                Err(error) => {
                    odd.insert(format!("{} cannot be used: {error}", what()));
                }
                Ok(spec) if spec.pool_ref().name != self.name => {}
                Ok(spec) => match spec.pool_ref().group.as_deref() {
                    Some(other) if other != self.group.group() => {
                        odd.insert(format!(
                            "{} is for a pool '{}' of group {other}, ours is of group {}: ignored",
                            what(),
                            self.name,
                            self.group
                        ));
                    }
                    _ => {
                        odd.extend(spec.oddities().iter().map(|o| format!("{}: {o}", what())));
                        selected.push(Named {
                            name: name.clone(),
                            created: *created,
                            spec: spec.clone(),
                        });
                    }
                },
            }
        }
        selected
    }
}

/// Keeps `objectives` as the objects that name the pool say.
pub(super) fn follow(
    cluster: &Cluster,
    pool_name: String,
    pool: watch::Receiver<PoolState>,
    objectives: Arc<Objectives>,
    tasks: &mut Vec<AbortOnDropHandle<()>>,
) {
    let follower = ObjectiveFollower {
        namespace: cluster.namespace.clone(),
        pool_name,
        pool,
        priorities: Kind::follow(cluster, true, tasks),
        rewrites: Kind::follow(cluster, true, tasks),
        models: Kind::follow(cluster, false, tasks),
        objectives,
        notes: WarnOnce::default(),
    };
    tasks.push(AbortOnDropHandle::new(tokio::spawn(follower.run())));
}

struct ObjectiveFollower {
    namespace: String,
    pool_name: String,
    pool: watch::Receiver<PoolState>,
    priorities: Kind<ObjectiveSpec>,
    rewrites: Kind<RewriteSpec>,
    models: Kind<ModelSpec>,
    objectives: Arc<Objectives>,
    notes: WarnOnce,
}

impl ObjectiveFollower {
    async fn run(mut self) {
        loop {
            self.publish();
            let more = tokio::select! {
                more = self.pool.changed() => more,
                more = self.priorities.changed() => more,
                more = self.rewrites.changed() => more,
                more = self.models.changed() => more,
            };
            if more.is_err() {
                return;
            }
        }
    }

    fn publish(&mut self) {
        let group = self.pool.borrow_and_update().spec().and_then(|spec| spec.group);
        // Without a pool there is nobody to serve, and nothing says which group to look for.
        let Some(group) = group else { return };
        let mut odd = BTreeSet::new();
        let at = PoolAt { namespace: &self.namespace, name: &self.pool_name, group };
        let priorities = self.priorities.look(&at, &mut odd);
        let rewrites = self.rewrites.look(&at, &mut odd).unwrap_or_default();
        let models = self.models.look(&at, &mut odd).unwrap_or_default();
        let only_models = priorities.is_none() && group == PoolGroup::V1Alpha2;
        let (by_model, targets) = of_models(models, only_models, &self.namespace, &mut odd);
        self.notes.say(odd);
        self.objectives.set_priorities(
            priorities.unwrap_or_default().into_iter().map(|o| (o.name, o.spec.priority)).collect(),
        );
        self.objectives.set_models(by_model);
        self.objectives.set_rewrites(rewrites.into_iter().map(rewrite).collect(), targets);
    }
}

fn rewrite(object: Named<RewriteSpec>) -> ModelRewrite {
    let rule = |rule: Rule| RewriteRule {
        models: rule
            .matches
            .into_iter()
            .map(|Match { model: ModelMatch { kind: ModelMatchType::Exact, value } }| value)
            .collect(),
        targets: rule
            .targets
            .into_iter()
            .map(|target| RewriteTarget { model: target.model_rewrite, weight: target.weight })
            .collect(),
    };
    ModelRewrite {
        name: object.name,
        created: object.created,
        rules: object.spec.rules.into_iter().map(rule).collect(),
    }
}

/// Priorities and rewriting by `InferenceModel`s; of several for one model the oldest counts.
///
/// A model that none of them names is sheddable as in GIE v0.5.0, but only in a cluster of that
/// time (`era`): a v1alpha2 pool, `InferenceModel`s that name it, and no `InferenceObjective`.
/// Elsewhere an operator who has one left-over object would see all other traffic shed.
fn of_models(
    mut models: Vec<Named<ModelSpec>>,
    era: bool,
    namespace: &str,
    odd: &mut BTreeSet<String>,
) -> (Option<ModelPriorities>, Vec<ModelRewrite>) {
    if models.is_empty() {
        return (None, Vec::new());
    }
    models.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let mut by_model = HashMap::new();
    let mut rewrites = Vec::new();
    for Named { name, created, spec } in models {
        if by_model.contains_key(&spec.model_name) {
            odd.insert(format!(
                "InferenceModel {namespace}/{name} ({OLDER_GROUP}) does not count: an older one is \
                 for model '{}' too",
                spec.model_name
            ));
            continue;
        }
        let priority = match spec.criticality {
            Criticality::Critical => criticality::CRITICAL,
            Criticality::Standard => criticality::STANDARD,
            Criticality::Sheddable => criticality::SHEDDABLE,
        };
        by_model.insert(spec.model_name.clone(), priority);
        let targets: Vec<_> = spec
            .target_models
            .into_iter()
            .map(|target| RewriteTarget { model: target.name, weight: target.weight })
            .collect();
        let rules = vec![RewriteRule { models: vec![spec.model_name], targets }];
        rewrites.push(ModelRewrite { name, created, rules });
    }
    let unknown = if era { criticality::SHEDDABLE } else { 0 };
    (Some(ModelPriorities { by_model, unknown }), rewrites)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<S: NamesPool>(name: &str, spec: Value) -> PoolObject<S> {
        PoolObject::read(
            serde_json::from_value(json!({
                "apiVersion": "llm-d.ai/v1alpha2", "kind": S::KIND, "spec": spec,
                "metadata": {"name": name, "creationTimestamp": "2025-01-01T00:00:00Z"},
            }))
            .expect("an object"),
        )
    }

    #[test]
    fn objects_for_our_pool_only() {
        let at = PoolAt { namespace: "ns", name: "pool", group: PoolGroup::V1 };
        let objects = [
            object::<ObjectiveSpec>("ours", json!({"poolRef": {"name": "pool"}, "priority": 3})),
            object("no-priority", json!({"poolRef": {"name": "pool", "group": at.group.group()}})),
            object("another", json!({"poolRef": {"name": "another"}, "priority": 9})),
            object("wrong-group", json!({"poolRef": {"name": "pool", "group": OLDER_GROUP}})),
            object("no-pool", json!({"priority": 1})),
            object("text", json!({"poolRef": {"name": "pool"}, "priority": "high"})),
            PoolObject {
                terminating: true,
                ..object("leaving", json!({"poolRef": {"name": "pool"}, "priority": 4}))
            },
        ];
        let mut odd = BTreeSet::new();
        let selected: Vec<_> = at
            .select("llm-d.ai", objects.iter(), &mut odd)
            .into_iter()
            .map(|o| (o.name, o.spec.priority))
            .collect();
        assert_eq!(selected, [("ours".to_owned(), 3), ("no-priority".to_owned(), 0)]);
        let odd: Vec<_> = odd.into_iter().collect();
        assert_eq!(odd.len(), 3, "{odd:?}");
        assert!(odd[0].starts_with("InferenceObjective ns/no-pool (llm-d.ai) cannot be used"));
        assert!(odd[1].starts_with("InferenceObjective ns/text (llm-d.ai) cannot be used"));
        assert!(odd[2].contains("wrong-group") && odd[2].ends_with("k8s.io: ignored"), "{odd:?}");
    }

    #[test]
    fn rewrites_are_read_as_written() {
        let read = object::<RewriteSpec>(
            "r",
            json!({"poolRef": {"name": "pool"}, "rules": [
                {"matches": [{"model": {"type": "Exact", "value": "a"}}, {"model": {"value": "b"}}],
                 "targets": [{"modelRewrite": "x", "weight": 2}, {"modelRewrite": "y"}]},
                {"targets": [{"modelRewrite": "z"}]},
            ]}),
        );
        let spec = read.spec.expect("readable");
        let odd_spec = spec.clone();
        let rewrite = rewrite(Named { name: read.name, created: read.created, spec });
        assert_eq!(rewrite.created, 1_735_689_600);
        let target = |model: &str, weight| RewriteTarget { model: model.into(), weight };
        assert_eq!(
            rewrite.rules,
            [
                RewriteRule {
                    models: vec!["a".into(), "b".into()],
                    targets: vec![target("x", Some(2)), target("y", None)],
                },
                RewriteRule { models: vec![], targets: vec![target("z", None)] },
            ]
        );
        assert_eq!(
            RewriteSpec::oddities(&odd_spec),
            [
                "spec.rules[0].targets: without a weight, beside others that have one, never drawn: y"
            ]
        );
        let regex = object::<RewriteSpec>(
            "r",
            json!({"poolRef": {"name": "pool"},
                "rules": [{"matches": [{"model": {"type": "Regex", "value": "a"}}]}]}),
        );
        assert!(regex.spec.expect_err("not known").contains("Regex"));
    }

    #[test]
    fn models_of_gie_0_5() {
        let named = |name: &str, created, spec: Value| Named::<ModelSpec> {
            name: name.into(),
            created,
            spec: serde_json::from_value(spec).expect("a spec"),
        };
        let models = || {
            vec![
                named(
                    "young",
                    9,
                    json!({"modelName": "m", "criticality": "Sheddable", "poolRef": {"name": "p"}}),
                ),
                named(
                    "old",
                    1,
                    json!({"modelName": "m", "criticality": "Critical", "poolRef": {"name": "p"},
                        "targetModels": [{"name": "m-v2", "weight": 10}]}),
                ),
                named("plain", 2, json!({"modelName": "n", "poolRef": {"name": "p"}})),
            ]
        };
        let mut odd = BTreeSet::new();
        let (priorities, rewrites) = of_models(models(), true, "ns", &mut odd);
        assert_eq!(odd.len(), 1);
        assert!(odd.iter().all(|o| o.contains("ns/young") && o.contains("model 'm'")), "{odd:?}");
        let priorities = priorities.expect("there are models");
        assert_eq!(priorities.unknown, criticality::SHEDDABLE);
        assert_eq!(
            priorities.by_model,
            [("m".to_owned(), criticality::CRITICAL), ("n".to_owned(), criticality::STANDARD)]
                .into()
        );
        assert_eq!(rewrites[0].rules[0].targets[0].model, "m-v2");
        assert!(rewrites[1].rules[0].targets.is_empty());
        assert_eq!(
            of_models(models(), false, "ns", &mut odd).0.expect("there are models").unknown,
            0
        );
        assert!(of_models(Vec::new(), true, "ns", &mut odd).0.is_none());
    }
}
