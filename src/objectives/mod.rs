//! What operators say about models: which requests matter more, which model name means which.
//!
//! Kubernetes objects (`InferenceObjective`, `InferenceModelRewrite`, and `InferenceModel` of
//! GIE v0.5) are the source; without Kubernetes the tables are empty, every request has
//! priority 0 and keeps its model.

mod rewrite;

use std::collections::HashMap;
use std::fmt;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;

use rewrite::RewriteTable;
pub use rewrite::{ModelRewrite, RewriteRule, RewriteTarget, Rewritten};

/// Priorities that stand for the criticality of an `InferenceModel`.
///
/// GIE v0.5.0 let `Critical` requests pass a saturated pool and dropped all others. Negative
/// priorities are what is dropped now, so `Standard` is negative too, and above `Sheddable`.
pub mod criticality {
    pub const CRITICAL: i32 = 1;
    pub const STANDARD: i32 = -1;
    pub const SHEDDABLE: i32 = -2;
}

/// Priorities by model name, from the time of `InferenceModel`.
#[derive(Debug, Default)]
pub struct ModelPriorities {
    pub by_model: HashMap<String, i32>,
    /// The priority of a model that none of the objects names.
    pub unknown: i32,
}

/// The objectives in force. Readers take no lock, and pay one load where a table is empty.
#[derive(Debug, Default)]
pub struct Objectives {
    priorities: ArcSwap<HashMap<String, i32>>,
    models: ArcSwapOption<ModelPriorities>,
    rewrites: ArcSwapOption<RewriteTable>,
    names: Mutex<ModelNames>,
    /// Who wants to know of the priorities there are.
    on_priorities: Mutex<Option<PrioritiesListener>>,
}

/// The model names that objects name, and who wants to know of them.
#[derive(Default)]
struct ModelNames {
    of_models: Vec<String>,
    of_rewrites: Vec<String>,
    listener: Option<ModelListener>,
}

type ModelListener = Box<dyn Fn(Vec<String>) + Send + Sync>;

type TellPriorities = dyn Fn(&[i32]) + Send + Sync;

struct PrioritiesListener(Box<TellPriorities>);

impl fmt::Debug for PrioritiesListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrioritiesListener")
    }
}

impl fmt::Debug for ModelNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelNames({})", self.of_models.len() + self.of_rewrites.len())
    }
}

impl ModelNames {
    fn tell(&self) {
        if let Some(listener) = &self.listener {
            listener([self.of_models.as_slice(), &self.of_rewrites].concat());
        }
    }
}

impl Objectives {
    /// The priority of an objective by its object's name; `None` where there is no such object.
    pub fn priority_of(&self, objective: &str) -> Option<i32> {
        self.priorities.load().get(objective).copied()
    }

    /// The priority of a request for `model` whose headers name `objective`, if any: that of the
    /// objective, else that of the model, else 0. Larger matters more, negative is sheddable.
    pub fn priority(&self, objective: Option<&str>, model: &str) -> i32 {
        if let Some(priority) = objective.and_then(|name| self.priority_of(name)) {
            return priority;
        }
        match &*self.models.load() {
            Some(models) => models.by_model.get(model).copied().unwrap_or(models.unknown),
            None => 0,
        }
    }

    /// The model that a request for `incoming` (empty where it names none) is served by, drawn
    /// by weight; `None` where no rule is for it.
    pub fn rewrite(&self, incoming: &str, rng: &mut fastrand::Rng) -> Option<Rewritten> {
        self.rewrites.load().as_ref()?.rewrite(incoming, rng)
    }

    /// Calls `listener` with the model names that operators wrote down, now and whenever they
    /// change.
    pub fn on_models(&self, listener: impl Fn(Vec<String>) + Send + Sync + 'static) {
        let mut names = self.names.lock();
        names.listener = Some(Box::new(listener));
        names.tell();
    }

    /// Calls `listener` with the priorities that objectives and models have, now and whenever
    /// they change.
    pub fn on_priorities(&self, listener: impl Fn(&[i32]) + Send + Sync + 'static) {
        *self.on_priorities.lock() = Some(PrioritiesListener(Box::new(listener)));
        self.tell_priorities();
    }

    fn tell_priorities(&self) {
        let listener = self.on_priorities.lock();
        let Some(PrioritiesListener(listener)) = &*listener else { return };
        let mut priorities: Vec<i32> = self.priorities.load().values().copied().collect();
        if let Some(models) = &*self.models.load() {
            priorities.extend(models.by_model.values());
            priorities.push(models.unknown);
        }
        priorities.sort_unstable();
        priorities.dedup();
        listener(&priorities);
    }

    /// Replaces all objectives.
    pub fn set_priorities(&self, priorities: HashMap<String, i32>) {
        self.priorities.store(priorities.into());
        self.tell_priorities();
    }

    /// Replaces the priorities by model; `None` where the cluster has no `InferenceModel`s.
    pub fn set_models(&self, models: Option<ModelPriorities>) {
        let mut names = self.names.lock();
        names.of_models = models.iter().flat_map(|m| m.by_model.keys().cloned()).collect();
        self.models.store(models.map(Into::into));
        names.tell();
        drop(names);
        self.tell_priorities();
    }

    /// Replaces all rewrite rules. Rules of `rewrites` win over those of `models` (the target
    /// models of `InferenceModel`s) for the same model.
    pub fn set_rewrites(&self, rewrites: Vec<ModelRewrite>, models: Vec<ModelRewrite>) {
        let mut names = self.names.lock();
        let rules = rewrites.iter().chain(&models).flat_map(|object| &object.rules);
        let of_rule = |rule: &RewriteRule| {
            let targets = rule.targets.iter().map(|target| target.model.clone());
            targets.chain(rule.models.iter().cloned()).collect::<Vec<_>>()
        };
        names.of_rewrites = rules.flat_map(of_rule).collect();
        self.rewrites.store(RewriteTable::new(rewrites, models).map(Into::into));
        names.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_comes_from_the_objective_then_the_model() {
        let objectives = Objectives::default();
        assert_eq!(objectives.priority(Some("batch"), "m"), 0);
        objectives.set_priorities([("batch".to_owned(), -5)].into());
        objectives.set_models(Some(ModelPriorities {
            by_model: [("m".to_owned(), criticality::CRITICAL)].into(),
            unknown: criticality::SHEDDABLE,
        }));
        for (objective, model, expected) in [
            (Some("batch"), "m", -5),
            (Some("unknown"), "m", criticality::CRITICAL),
            (None, "m", criticality::CRITICAL),
            (None, "other", criticality::SHEDDABLE),
        ] {
            assert_eq!(objectives.priority(objective, model), expected, "{objective:?} {model}");
        }
        objectives.set_models(None);
        assert_eq!(objectives.priority(None, "other"), 0);
    }

    #[test]
    fn rules_are_replaced_as_a_whole() {
        let objectives = Objectives::default();
        let mut rng = fastrand::Rng::with_seed(1);
        let to = |model: &str| {
            vec![ModelRewrite {
                name: "o".into(),
                created: 0,
                rules: vec![RewriteRule {
                    models: vec!["m".into()],
                    targets: vec![RewriteTarget { model: model.into(), weight: None }],
                }],
            }]
        };
        assert_eq!(objectives.rewrite("m", &mut rng), None);
        objectives.set_rewrites(to("one"), to("lesser"));
        assert_eq!(
            objectives.rewrite("m", &mut rng).map(|r| (r.model, r.by)),
            Some(("one".into(), "o".into()))
        );
        objectives.set_rewrites(Vec::new(), to("lesser"));
        assert_eq!(objectives.rewrite("m", &mut rng).map(|r| r.model).as_deref(), Some("lesser"));
        objectives.set_rewrites(Vec::new(), Vec::new());
        assert_eq!(objectives.rewrite("m", &mut rng), None);
    }
}
