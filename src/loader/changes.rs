//! What a configuration changes that replaces another one, in words.

use std::fmt;

use super::effective::Effective;
use super::residents::{Resident, Residents};
use crate::config::{Node, Value};

/// How a configuration differs from the one that it replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names of plugins.
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Plugins whose parameters changed, and which did: `mine (blockSize 64 to 16)`.
    pub changed: Vec<String>,
    /// Profiles that were added, removed or have other plugins or weights.
    pub profiles: Vec<String>,
    /// Other sections of the document.
    pub sections: Vec<&'static str>,
    /// What is known no longer, and why.
    pub lost: Vec<String>,
}

impl Changes {
    /// True where the two decide the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn between(
        before: (&Residents, &Effective),
        after: (&Residents, &Effective),
    ) -> Self {
        let ((old, old_document), (new, new_document)) = (before, after);
        let mut changes = Self::default();
        for resident in &new.plugins {
            match old.find(&resident.name, resident.plugin_type) {
                None => changes.added.push(resident.name.clone()),
                Some(known) => changes.of(known, resident, old.profiles != new.profiles),
            }
        }
        let is_gone = |r: &&Resident| new.find(&r.name, r.plugin_type).is_none();
        changes.removed = old.plugins.iter().filter(is_gone).map(|r| r.name.clone()).collect();
        (changes.profiles, changes.sections) = old_document.differences(new_document);
        changes
    }

    fn of(&mut self, old: &Resident, new: &Resident, other_profiles: bool) {
        let parameters = differences(old.parameters.as_ref(), new.parameters.as_ref());
        if !parameters.is_empty() {
            self.changed.push(format!("{} ({})", new.name, parameters.join(", ")));
        }
        let kept = new.goes_on || new.capabilities.has::<crate::plugins::TookOver>();
        if let (false, Some(memory)) = (kept, new.capabilities.memory.or(old.capabilities.memory)) {
            let why = match parameters.is_empty() {
                false => format!("of {}", parameters.join(", ")),
                true if other_profiles => "the profiles changed".to_owned(),
                true => "a plugin that it works with changed".to_owned(),
            };
            self.lost.push(format!("{memory} of {} starts empty because {why}", new.name));
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("plugins added", self.added.join(", ")),
            ("plugins removed", self.removed.join(", ")),
            ("parameters changed", self.changed.join(", ")),
            ("profiles changed", self.profiles.join(", ")),
            ("also changed", self.sections.join(", ")),
        ];
        let told: Vec<String> = (lists.into_iter())
            .filter(|(_, list)| !list.is_empty())
            .map(|(what, list)| format!("{what}: {list}"))
            .chain(self.lost.iter().cloned())
            .collect();
        match told.is_empty() {
            true => f.write_str("nothing that decisions depend on"),
            false => f.write_str(&told.join("; ")),
        }
    }
}

/// The parameters that differ. Values of texts are not shown: one may be a password.
fn differences(old: Option<&Node>, new: Option<&Node>) -> Vec<String> {
    let names = |node: Option<&Node>| -> Vec<String> {
        match node.map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|(key, _)| key.name.clone()).collect(),
            _ => Vec::new(),
        }
    };
    let mut all = names(old);
    all.extend(names(new));
    all.sort_unstable();
    all.dedup();
    let of = |node: Option<&Node>, name: &str| node.and_then(|node| node.get(name)).cloned();
    let differs = |name: &String| {
        let (old, new) = (of(old, name), of(new, name));
        let same = match (&old, &new) {
            (Some(old), Some(new)) => old.says_the_same(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        (!same).then(|| match (shown(old.as_ref()), shown(new.as_ref())) {
            (Some(old), Some(new)) => format!("{name} {old} to {new}"),
            _ => name.clone(),
        })
    };
    all.iter().filter_map(differs).collect()
}

fn shown(node: Option<&Node>) -> Option<String> {
    match node.map(|node| &node.value) {
        None => Some("its default".to_owned()),
        Some(Value::Bool(value)) => Some(value.to_string()),
        Some(Value::Int(value)) => Some(value.to_string()),
        Some(Value::Float(value)) => Some(value.to_string()),
        Some(_) => None,
    }
}
