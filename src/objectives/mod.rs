//! What operators say about models: which requests matter more, which model name means which.
//!
//! Kubernetes objects (`InferenceObjective`, `InferenceModelRewrite`) are the source; without
//! Kubernetes the tables are empty, every request has priority 0 and keeps its model.

use std::collections::HashMap;

use arc_swap::ArcSwap;

/// The objectives in force; readers see one consistent set.
#[derive(Debug, Default)]
pub struct Objectives {
    priorities: ArcSwap<HashMap<String, i32>>,
}

impl Objectives {
    /// The priority of an objective by its object's name; `None` where there is no such object.
    pub fn priority_of(&self, objective: &str) -> Option<i32> {
        self.priorities.load().get(objective).copied()
    }

    /// Replaces all objectives.
    pub fn set_priorities(&self, priorities: HashMap<String, i32>) {
        self.priorities.store(priorities.into());
    }

    /// The model a rewriting rule sends `incoming` to; there are no rules without Kubernetes.
    pub fn rewrite(&self, _incoming: &str, _rng: &mut fastrand::Rng) -> Option<String> {
        None
    }
    /// The priority an `InferenceModel` gives its model; there are none without Kubernetes.
    pub fn priority_of_model(&self, _model: &str) -> Option<i32> {
        None
    }
}
