use std::collections::HashSet;

use parking_lot::RwLock;

/// What stands for every name beyond the limit.
pub(super) const OTHER: &str = "other";

/// Limits how many distinct values a label takes, since clients choose model names and fairness
/// ids: the first `limit` are kept, the rest become [`OTHER`].
#[derive(Debug)]
pub(super) struct CardinalityLimiter {
    limit: usize,
    names: RwLock<Names>,
}

#[derive(Debug, Default)]
struct Names {
    seen: HashSet<String>,
    always: HashSet<String>,
}

impl CardinalityLimiter {
    pub fn new(limit: usize) -> Self {
        Self { limit, names: RwLock::default() }
    }

    /// The label value for `name`. The empty name stands for itself.
    pub fn admit<'a>(&self, name: &'a str) -> &'a str {
        if name.is_empty() {
            return name;
        }
        {
            let names = self.names.read();
            if names.seen.contains(name) || names.always.contains(name) {
                return name;
            }
            if names.seen.len() >= self.limit {
                return OTHER;
            }
        }
        let mut names = self.names.write();
        if names.seen.len() >= self.limit && !names.seen.contains(name) {
            return OTHER;
        }
        names.seen.insert(name.to_owned());
        name
    }

    /// Replaces the names that are kept whatever the limit: those an operator wrote down.
    pub fn always_keep(&self, names: impl IntoIterator<Item = String>) {
        self.names.write().always = names.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_only_known_and_configured_names_stay() {
        let guard = CardinalityLimiter::new(2);
        guard.always_keep(["configured".to_owned()]);
        for (name, label) in [
            ("a", "a"),
            ("", ""),
            ("b", "b"),
            ("c", "other"),
            ("a", "a"),
            ("configured", "configured"),
            ("d", "other"),
        ] {
            assert_eq!(guard.admit(name), label, "{name}");
        }
    }
}
